"""Whether clips may be mirrored: not where left and right make a class another one, unless a recipe asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vidssl.config import Config

USUAL = 0.5  # probability of a flip

# In the name of a class ...
_DIRECTIONS = frozenset(
    ("left", "right", "leftward", "leftwards", "rightward", "rightwards", "clockwise", "counterclockwise", "anticlockwise")
)  # fmt: skip
# ... and in that of a folder or list: Something-Something, Jester and sets of hand signs.
_SETS = frozenset(
    ("something", "somethingsomething", "sthsth", "ssv1", "ssv2", "sthv1", "sthv2", "jester", "sign", "signs", "signlanguage",
     "wlasl", "msasl", "asl", "asllvd", "aslcitizen", "autsl", "bobsl", "bsl", "bslk", "csl", "gsl", "how2sign", "ksl",
     "lsa64", "lsfb", "phoenix", "phoenix14t", "vsl")
)  # fmt: skip


def settle_flips(config: Config, classes: Iterable[str]) -> tuple[Config, list[str]]:
    """A recipe whose views all say how often they are mirrored, and what is to be said of that.

    Args:
        classes: names of the classes of the videos.
    """
    if all(view.flip is not None for view in config.views):
        return config, []
    reason = tells_left_from_right(classes, [Path(one.path) for one in config.data.train])
    chance = 0.0 if reason else USUAL
    views = tuple(
        view.model_copy(update={"flip": chance if view.flip is None else view.flip}) for view in config.views
    )
    said = (
        [f"clips are not mirrored, as {reason}; set views.0.flip to mirror them all the same"]
        if reason
        else []
    )
    return config.model_copy(update={"views": views}), said


def tells_left_from_right(classes: Iterable[str], sources: Iterable[Path]) -> str:
    """By which name left and right seem to matter in a data set; empty where they do not."""
    for name in classes:
        if not _DIRECTIONS.isdisjoint(_words(name)):
            return f"the class {name!r} is one of direction"
    for part in (part for source in sources for part in source.parts[-3:]):
        if not _SETS.isdisjoint(_words(part)):
            return f"{part!r} looks like a set in which directions or hands matter"
    return ""


def _words(name: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return re.findall(r"[a-z0-9]+", parted)
