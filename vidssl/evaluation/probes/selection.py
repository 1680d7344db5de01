"""By which videos a setting is chosen, and what has to be said where they are those of the test."""

from __future__ import annotations

SELECT = ("train", "val")


def selection_notes(select: str) -> list[str]:
    """A warning where the settings were chosen on the test videos."""
    if select == "train":
        return []
    return [
        "WARNING: the settings were chosen on the test videos themselves (--select val): these scores are too good, and "
        "comparable only with others that were chosen so"
    ]
