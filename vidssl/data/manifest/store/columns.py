"""Columns of a table as sequences of Python values, each made when it is asked for: a million rows cost a process nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from vidssl.data.manifest.store.mapped import Mapped

T = TypeVar("T")
Rows = NDArray[np.int64]
BLOCK = 8192  # rows that are turned into Python values at a time


class Column(Sequence[T], Generic[T]):
    """A value for each of some rows of a table.

    Args:
        mapped: the table.
        names: columns of it, whose values `make` is given. make: of one row; a function of a module, for pickling.
        rows: of the table, in which order; None for all.
    """

    def __init__(
        self, mapped: Mapped, names: Sequence[str], make: Callable[..., T], rows: Rows | None = None
    ) -> None:
        self._mapped, self._names, self._make, self._rows = mapped, tuple(names), make, rows
        self._table = mapped.table.select(list(names))
        self._columns = self._table.columns

    def __reduce__(self) -> tuple[Any, ...]:
        return Column, (self._mapped, self._names, self._make, self._rows)

    def __len__(self) -> int:
        return self._table.num_rows if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        place %= len(self)
        row = place if self._rows is None else int(self._rows[place])
        return self._make(*(column[row].as_py() for column in self._columns))

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), BLOCK):
            if self._rows is None:
                block = self._table.slice(start, BLOCK)
            else:
                block = self._table.take(self._rows[start : start + BLOCK])
            yield from map(self._make, *(column.to_pylist() for column in block.columns))

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def subset(self, places: Rows) -> Column[T]:
        """The values at some places, in that order."""
        return Column(
            self._mapped, self._names, self._make, places if self._rows is None else self._rows[places]
        )
