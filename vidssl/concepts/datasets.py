"""Class lists of the public data sets, shipped as facts in ``prompts/classes``."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from vidssl.data.manifest.classes import class_table, read_text
from vidssl.errors import check_choice
from vidssl.resources import resource_folder


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
