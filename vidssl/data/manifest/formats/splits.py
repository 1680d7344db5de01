"""Official splits of public data sets, shipped as facts in ``prompts/splits``: which video is for training or testing."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from vidssl.data.decode.address import local_form, split_rate
from vidssl.data.manifest.formats.line import Line
from vidssl.errors import VidsslError, check_choice
from vidssl.resources import resource_folder

Part = Literal["train", "test"]
_PARTS: dict[str, Part] = {"1": "train", "2": "test"}


@cache
def _split_table(dataset: str) -> tuple[tuple[str, str], ...]:
    folders = resource_folder("prompts") / "splits"
    known = sorted(path.name.removesuffix(".txt.gz") for path in folders.glob("*.txt.gz"))
    check_choice("official splits of", dataset, known, "{name} {value!r}: not shipped{guess} ({allowed})")
    lines = gzip.decompress((folders / f"{dataset}.txt.gz").read_bytes()).decode("utf-8").splitlines()
    table: list[tuple[str, str]] = []
    folder = ""
    for line in lines[1:]:  # only the first is a comment: names of HMDB51 may begin with '#'
        if line.startswith("/"):
            folder = line[1:]
        else:
            stem, flags = line.rsplit("\t", 1)
            table.append((f"{folder}/{stem}", flags))
    return tuple(table)


def official_split(dataset: str, number: int) -> dict[str, Part]:
    """An official split of ``ucf101`` or ``hmdb51``.

    Args:
        dataset: its name.
        number: 1, 2 or 3.

    Returns:
        ``"<class folder>/<file name without suffix>"`` -> ``"train"`` or ``"test"``, in the official spelling; videos
        that the split leaves out (HMDB51 has some) are not in it.

    Raises:
        VidsslError: for another data set or number.
    """
    table = _split_table(dataset)
    if number not in (1, 2, 3):
        raise VidsslError(f"official split {number!r} of {dataset}: there are 1, 2 and 3")
    return {member: _PARTS[flags[number - 1]] for member, flags in table if flags[number - 1] in _PARTS}


def assign_split(paths: Iterable[str | Path], dataset: str, number: int) -> list[Part | None]:
    """Which part of an official split each video belongs to, None for videos it leaves out or does not know.

    Joined by the file's name without its suffix, whatever the case (``v_HandStandPushups_…`` lies in
    ``HandstandPushups/``) and whatever the folders: the names are unique within a data set.

    Raises:
        VidsslError: as `official_split`.
    """
    parts = official_split(dataset, number)
    known = {PurePosixPath(member).name.casefold(): parts.get(member) for member, _ in _split_table(dataset)}
    names = [Path(path).name.casefold() for path in paths]
    # A name of HMDB51 may hold dots, so that a suffix can be told from a name only by looking.
    return [known.get(name, known.get(name.rsplit(".", 1)[0])) for name in names]


def three_splits(source: str | Path) -> tuple[str, str, str] | None:
    """The same part of each official split, where a folder is named with ``#split=train`` or ``#split=test``; else None."""
    match = re.fullmatch(r"(.+)#split=(train|test)(#.*)?", str(source), re.DOTALL)
    if match is None or not split_rate(local_form(match[1]))[0].is_dir():
        return None
    folder, part, rate = match[1], match[2], match[3] or ""
    first, second, third = (f"{folder}#split={part}{number}{rate}" for number in (1, 2, 3))
    return first, second, third


def official_lines(folder: Path, lines: Sequence[Line], name: str) -> list[Line]:
    """Those of a folder's videos that belong to a part of an official split: ``train1``, …, ``test3``.

    Of which data set they are is told by their names.

    Raises:
        VidsslError: no such split, or videos of neither UCF101 nor HMDB51.
    """
    allowed = [f"{part}{number}" for part in _PARTS.values() for number in (1, 2, 3)]
    check_choice(
        "official split", name, allowed, f"{folder}: " + "{name} {value!r}: not known{guess} ({allowed})"
    )
    paths = [line.path for line in lines]
    assigned = [assign_split(paths, dataset, int(name[-1])) for dataset in ("ucf101", "hmdb51")]
    best = max(assigned, key=lambda parts: sum(part is not None for part in parts))
    chosen = [line for line, part in zip(lines, best, strict=True) if part == name[:-1]]
    if not chosen:
        raise VidsslError(
            f"{folder}: no videos of {name} of UCF101 or HMDB51, such as {paths[0]!r} should be"
        )
    return chosen
