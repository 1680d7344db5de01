"""Folders of this machine are nobody else's business: what leaves it names only their last part."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from vidssl.models.sources import LOCAL
from vidssl.models.towers.huggingface.create import TRANSFORMERS


def without_places(value: Any) -> Any:
    """JSON-able data in which every absolute path, with or without ``local-dir:`` or ``transformers/``, is cut to its last part."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if not isinstance(value, str):
        return value
    prefix = next((known for known in (LOCAL, TRANSFORMERS) if value.startswith(known)), "")
    path = value.removeprefix(prefix)
    return prefix + PurePath(path).name if path.startswith(("/", "~")) else value
