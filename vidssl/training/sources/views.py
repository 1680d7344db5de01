"""The views that a recipe asks for; clips are mirrored unless left and right make a class another one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vidssl.config import Config, validate_config
from vidssl.config.recipe import OF_TIME, ViewConfig
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError
from vidssl.overrides import apply_override

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


def view_specs(config: Config, classes: Iterable[str]) -> tuple[tuple[ViewSpec, ...], list[str]]:
    """The views of a recipe, and what is to be said of them.

    Args:
        classes: names of the classes of the videos.
    """
    if config.data.features is not None:  # whose frames were cropped and coloured when they were made
        specs = [view.model_dump(exclude={"teacher"}) | {"flip": 0.0} for view in config.views]
        return tuple(ViewSpec(**spec) for spec in specs), []
    reason = tells_left_from_right(classes, [Path(one.path) for one in config.data.train])
    flip = 0.0 if reason else USUAL
    specs = [view.model_dump(exclude={"teacher"}) for view in config.views]
    asked = all(spec["flip"] is not None for spec in specs)
    views = tuple(
        ViewSpec(**{**spec, "flip": flip if spec["flip"] is None else spec["flip"]}) for spec in specs
    )
    if asked or not reason:
        return views, []
    return views, [f"clips are not mirrored, as {reason}; set views.0.flip to mirror them all the same"]


def drawn_view(keys: Sequence[str], classes: Iterable[str], source: Path) -> tuple[ViewSpec, str]:
    """The view of which features are drawn that are to be kept, and what is to be said of it.

    Args:
        keys: ``key=value`` of a recipe's view; frames are mirrored as in a recipe that leaves `flip` out.
        classes: names of the classes of the videos. source: their folder or list.

    Raises:
        VidsslError: for a key or value that a view has not, or one that says which frames are shown, which is left to training.
    """
    raw: dict[str, Any] = {}
    for key in keys:
        apply_override(raw, key)
    view = validate_config(raw, "--view", ViewConfig)
    for name in sorted(raw.keys() & OF_TIME - {"count"}):
        raise VidsslError(f"--view {name}: is of training or of another option; leave it out")
    reason = tells_left_from_right(classes, [source]) if view.flip is None else ""
    flip = view.flip if view.flip is not None else 0.0 if reason else USUAL
    remark = (
        f"frames are not mirrored, as {reason}; give --view flip=0.5 to mirror them all the same"
        if reason
        else ""
    )
    return ViewSpec(**view.model_dump(exclude={"teacher", "flip"}), flip=flip), remark


def tells_left_from_right(classes: Iterable[str], sources: Iterable[Path]) -> str:
    """By which name left and right seem to matter in a data set; empty where they do not."""
    for name in classes:
        if not _DIRECTIONS.isdisjoint(_words(name)):
            return f"the class {name!r} is one of direction"
    sources = list(sources)
    for source in sources:  # of several training sets, each may be a folder of one class
        if not _DIRECTIONS.isdisjoint(_words(source.name)):
            return f"the training set {source.name!r} is one of direction"
    for part in (part for source in sources for part in source.parts[-3:]):
        if not _SETS.isdisjoint(_words(part)):
            return f"{part!r} looks like a set in which directions or hands matter"
    return ""


def _words(name: str) -> list[str]:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return re.findall(r"[a-z0-9]+", parted)
