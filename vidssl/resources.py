"""Files that ship with the package: recipes in ``configs/`` and prompts in ``prompts/``."""

from __future__ import annotations

from pathlib import Path


def resource_folder(name: str) -> Path:
    """``configs`` or ``prompts``: inside the installed package, or beside it in a source checkout."""
    packaged = Path(__file__).parent / name
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / name
