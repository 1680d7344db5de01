"""Which file names are those of videos: the containers that FFmpeg, and so every decoder here, opens."""

from __future__ import annotations

VIDEO_EXTENSIONS = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".asf", ".flv",
    ".f4v", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".divx", ".gif",
)  # fmt: skip


def is_video_name(name: str) -> bool:
    """Whether a file name ends like a video's, in small or capital letters."""
    return name.lower().endswith(VIDEO_EXTENSIONS)
