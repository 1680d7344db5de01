"""Data sets of Hugging Face `datasets` on disk: a row of their Video column is opened like a file.

saved/row-000000012        row 12 of what `save_to_disk` wrote to ``saved``, or of the parquet files in it
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidssl.errors import VidsslError

_ROW = re.compile(r"row-(\d+)")


def row_name(number: int) -> str:
    """How a row is called in a path."""
    return f"row-{number:09}"


def split_row(path: Path) -> tuple[Path, int] | None:
    """The data set that a path leads into, and the row; None where it leads into none."""
    match = _ROW.fullmatch(path.name)
    return (path.parent, int(match[1])) if match is not None and is_saved(path.parent) else None


def is_saved(folder: Path) -> bool:
    """Whether a folder is a saved data set, one of several splits, or right holds parquet files."""
    marks = ("state.json", "dataset_dict.json")
    return any((folder / name).is_file() for name in marks) or any(folder.glob("*.parquet"))


@lru_cache(maxsize=64)
def saved_videos(folder: Path) -> tuple[Any, str]:
    """The data set in a folder, and the name of its Video column; what it holds is not decoded.

    Raises:
        VidsslError: `datasets` is not installed, the folder cannot be read, holds several splits, or no Video column.
    """
    try:
        import datasets
    except ImportError:
        raise VidsslError(
            f"{folder}: a data set of Hugging Face needs `datasets`: install vidssl[datasets]"
        ) from None
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found = datasets.load_from_disk(str(folder))
        else:
            files = sorted(map(str, folder.glob("*.parquet")))
            found = datasets.load_dataset("parquet", data_files=files, split="train")
        for part in found.values() if isinstance(found, datasets.DatasetDict) else [found]:
            part.data.validate(full=True)  # else Arrow reads beyond its memory where a length is damaged
    except Exception as error:
        raise VidsslError(f"{folder}: cannot be read by `datasets` ({str(error).splitlines()[0]})") from error
    if isinstance(found, datasets.DatasetDict):
        raise VidsslError(
            f"{folder}: holds several splits; name one: {', '.join(f'{folder.name}/{name}' for name in found)}"
        )
    columns = [name for name, feature in found.features.items() if isinstance(feature, datasets.Video)]
    if len(columns) != 1:
        raise VidsslError(
            f"{folder}: needs one column of type Video, found {len(columns)} among {', '.join(found.column_names)}"
        )
    return found.cast_column(columns[0], datasets.Video(decode=False)), columns[0]


@lru_cache(maxsize=64)
def _arrow_rows(folder: Path) -> tuple[Any, str]:
    """The same, whose rows are Arrow's; made once, since a data set is copied for it."""
    found, column = saved_videos(folder)
    return found.with_format("arrow"), column


def row_bytes(folder: Path, number: int) -> Any:
    """The video of a row as a file in memory; its bytes stay on the disk until they are read.

    Raises:
        VidsslError: see `saved_videos`.
        FileNotFoundError: there is no such row, or it holds no bytes.
    """
    import pyarrow as pa

    found, column = _arrow_rows(folder)
    if number >= len(found):
        raise FileNotFoundError(f"{folder} has {len(found)} rows, none with number {number}")
    video = found[number : number + 1].column(column)[0]
    if not video.is_valid or not video["bytes"].is_valid:
        raise FileNotFoundError(f"{folder}: row {number} holds no bytes of a video")
    return pa.BufferReader(video["bytes"].as_buffer())
