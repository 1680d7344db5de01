"""Class lists and official splits of the public data sets, shipped as facts in ``prompts/classes`` and ``…/splits``."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from vidssl.data.manifest.classes import class_table, read_text
from vidssl.errors import VidsslError, check_choice
from vidssl.resources import resource_folder

Part = Literal["train", "test"]
_PARTS: dict[str, Part] = {"1": "train", "2": "test"}


class ClassName(NamedTuple):
    """A class of a data set: `slug`, the data set's own spelling, and how it stands in a prompt."""

    id: str
    name: str
    display: str


def datasets() -> tuple[str, ...]:
    """Data sets with a shipped class list."""
    return tuple(sorted(file.stem for file in (resource_folder("prompts") / "classes").glob("*.tsv")))


@cache
def class_list_of(dataset: str) -> tuple[ClassName, ...]:
    """The classes of a data set; ``k600-zero-shot-1`` to ``-3`` are the splits of 160 classes.

    Raises:
        VidsslError: for a data set without a shipped list.
    """
    check_choice("class list", dataset, datasets(), "{name} {value!r}: not shipped{guess} ({allowed})")
    table = class_table(read_text(resource_folder("prompts") / "classes" / f"{dataset}.tsv"))
    assert table is not None  # id, name, display
    return tuple(ClassName(*row) for row in table.rows)


def class_names(dataset: str) -> tuple[str, ...]:
    """Class names in the data set's own spelling.

    The order is that of one published list and no index: projects number these classes differently.

    Raises:
        VidsslError: for a data set without a shipped list.
    """
    return tuple(row.name for row in class_list_of(dataset))


@cache
def _split_table(dataset: str) -> tuple[tuple[str, str], ...]:
    folders = resource_folder("prompts") / "splits"
    known = sorted(path.name.removesuffix(".txt.gz") for path in folders.glob("*.txt.gz"))
    check_choice("official splits of", dataset, known, "{name} {value!r}: not shipped{guess} ({allowed})")
    table: list[tuple[str, str]] = []
    folder = ""
    # Only the first line is a comment: names of HMDB51 may begin with '#'.
    for line in (
        gzip.decompress((folders / f"{dataset}.txt.gz").read_bytes()).decode("utf-8").splitlines()[1:]
    ):
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
