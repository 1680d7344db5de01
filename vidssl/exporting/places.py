"""Folders of this machine are nobody else's business: what leaves it names only their last part."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from vidssl.models.sources import LOCAL


def without_places(value: Any) -> Any:
    """JSON-able data in which every absolute path, with or without ``local-dir:``, is cut to its last part."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if not isinstance(value, str):
        return value
    prefix = LOCAL if value.startswith(LOCAL) else ""
    path = value.removeprefix(prefix)
    return prefix + PurePath(path).name if path.startswith(("/", "~")) else value
