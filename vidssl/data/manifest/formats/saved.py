"""Data sets of Hugging Face `datasets` with a Video column, as a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidssl.data.hub import row_name, saved_videos
from vidssl.data.manifest.formats.folders import Found, first_names
from vidssl.data.manifest.formats.line import LABEL_COLUMNS, Line, is_there
from vidssl.errors import VidsslError


def read_saved(folder: Path) -> Found:
    """The videos of a saved data set, in its order: those kept in it, and those that it names on this machine.

    Raises:
        VidsslError: see `saved_videos`.
    """
    found, column = saved_videos(folder)
    label_at = next((name for name in LABEL_COLUMNS if name in found.column_names), None)
    labels: list[Any] = [None] * len(found) if label_at is None else list(found[label_at])
    names = getattr(found.features[label_at], "names", None) if label_at is not None else None
    videos = found.with_format("arrow").data.column(column)
    lines, gone = [], []
    for number, label in enumerate(labels):
        if names and label is not None and not -1 <= label < len(names):
            raise VidsslError(f"{folder}: row {number}: label {label} is none of its {len(names)} classes")
        shown = None if label is None or label == -1 else str(names[label] if names else label)
        video = videos[number]
        place = row_name(number)
        if video.is_valid and not video["bytes"].is_valid and video["path"].is_valid:
            place = str(folder / video["path"].as_py())
            if not is_there(Path(place)):
                gone.append(place)
        lines.append(Line(number + 1, place, shown))
    remarks = [f"named but missing, counted as failed: {len(gone)} ({first_names(gone)})"] if gone else []
    return Found(folder, lines, [], remarks)
