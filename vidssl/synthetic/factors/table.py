"""The factors of a folder of clips, written and read: `factors.csv` (path, one whole number a factor) and `factors.json`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError, did_you_mean
from vidssl.files import read_json, write_json, write_text

CSV, JSON = "factors.csv", "factors.json"


@dataclass(frozen=True)
class FactorTable:
    """N clips and the values of their K factors.

    Attributes:
        paths: N files.
        names: K factors, in the order of the columns.
        values: (N, K) int64, column k in [0, sizes[names[k]]).
        sizes: number of values that each factor can take.
        motion: names of the factors that no single frame shows; the others are static.
    """

    paths: list[Path]
    names: list[str]
    values: NDArray[np.int64]
    sizes: dict[str, int]
    motion: set[str]

    def __post_init__(self) -> None:
        """Raises ValueError where shapes, names and values do not fit together."""
        if self.values.shape != (len(self.paths), len(self.names)) or set(self.sizes) != set(self.names):
            raise ValueError(
                f"{len(self.paths)} paths, names {self.names}, values {self.values.shape}, sizes {self.sizes}"
            )
        if unknown := self.motion - set(self.names):
            raise ValueError(f"motion factors {sorted(unknown)} are no columns")
        limits = np.array([self.sizes[name] for name in self.names])
        if ((self.values < 0) | (self.values >= limits)).any():
            raise ValueError(f"values out of range of {self.sizes}")

    def columns(self, motion: bool) -> list[int]:
        """Columns of the motion factors, or of the static ones."""
        return [k for k, name in enumerate(self.names) if (name in self.motion) == motion]


def write_factors(folder: Path, table: FactorTable, record: Mapping[str, Any]) -> None:
    """Write both files into `folder`.

    Args:
        table: its paths are written as they are, and are meant relative to `folder`.
        record: what else is to be known of the clips (seed, frames, …), kept in `factors.json`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", *table.names))
    rows = zip(table.paths, table.values.tolist(), strict=True)
    writer.writerows((path.as_posix(), *values) for path, values in rows)
    write_text(folder / CSV, text.getvalue())
    motion = [name for name in table.names if name in table.motion]
    write_json(folder / JSON, {**record, "sizes": table.sizes, "motion": motion})


def read_factors(folder: Path | str) -> FactorTable:
    """The factors of a folder of clips.

    `factors.csv` has the columns path (relative to the folder) and one for each factor, whole numbers from 0.
    `factors.json` names under "sizes" how many values each factor can take, and under "motion" the motion factors;
    without that file a factor has as many values as its largest says, and none is a motion factor.

    Raises:
        VidsslError: if there is no `factors.csv`, or naming the line, column or factor that is wrong.
    """
    folder = Path(folder)
    file = folder / CSV
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            header, *rows = [row for row in csv.reader(stream) if row] or [[]]
    except (FileNotFoundError, NotADirectoryError):
        raise VidsslError(
            f"{folder}: no {CSV} in it; expected the columns path and one whole number a factor"
            " (`vidssl data render factors` writes such a folder)"
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise VidsslError(f"{file}: cannot be read: {error}") from error
    if header[:1] != ["path"] or len(set(header)) != len(header) or len(header) < 2:
        raise VidsslError(f"{file}: columns {header}: must be path and one or more factors, all different")
    names = header[1:]
    if not rows:
        raise VidsslError(f"{file}: lists no clips")
    values = np.array([_numbers(file, line, row, header) for line, row in enumerate(rows, start=2)])
    sizes, motion = _description(folder, names, values)
    return FactorTable([folder / row[0] for row in rows], names, values, sizes, motion)


def _numbers(file: Path, line: int, row: list[str], header: list[str]) -> list[int]:
    """The factors of one clip."""
    if len(row) != len(header):
        raise VidsslError(f"{file}: clip in row {line}: {len(row)} columns instead of {len(header)}")
    for name, text in zip(header[1:], row[1:], strict=True):
        if not (text.strip().isascii() and text.strip().isdigit()):
            raise VidsslError(f"{file}: row {line}: {name} {text!r}: must be a whole number of at least 0")
    return [int(text) for text in row[1:]]


def _description(
    folder: Path, names: list[str], values: NDArray[np.int64]
) -> tuple[dict[str, int], set[str]]:
    """Sizes and motion factors out of `factors.json`, checked against the columns."""
    largest = dict(zip(names, values.max(0).tolist(), strict=True))
    file = folder / JSON
    if not file.exists():
        return {name: value + 1 for name, value in largest.items()}, set()
    record = read_json(file)
    sizes, motion = record.get("sizes"), record.get("motion")
    if not isinstance(sizes, dict) or not isinstance(motion, list):
        raise VidsslError(f"{file}: expected sizes (factor: count) and motion (a list of factors)")
    for name in [*sizes, *motion]:
        if name not in names:
            guess = did_you_mean(str(name), names)
            raise VidsslError(f"{file}: {name!r} is no column of {CSV}{guess} (columns: {', '.join(names)})")
    for name, value in largest.items():
        if not isinstance(count := sizes.get(name), int) or count <= value:
            raise VidsslError(
                f"{file}: sizes: {name} {count!r}: must be more than {value}, its largest value in {CSV}"
            )
    return {name: sizes[name] for name in names}, set(motion)
