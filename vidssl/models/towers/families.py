"""Which encoders there are by name, how each can learn of time, and what of it is installed; shown by `vidssl doctor --encoders`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from vidssl.models.temporal.modes import MODES, ON_FRAMES
from vidssl.models.towers.conv3d import NETWORKS as CONV3D
from vidssl.models.towers.huggingface.kinds import KINDS
from vidssl.models.towers.pytorchvideo import NETWORKS as PYTORCHVIDEO


class Family(NamedTuple):
    """Encoders of one kind.

    names: for `vidssl.create_model`, or of transformers the `model_type` of a folder; modes: of `temporal`, none where the network has its own way with time; installed: version
    of the package, or None.
    """

    name: str
    package: str
    installed: str | None
    modes: tuple[str, ...]
    names: tuple[str, ...]


def families(progress: Callable[[int, int], None] = lambda done, total: None) -> list[Family]:
    """Every family; those of open_clip by the class of their image tower, each of which is built without weights.

    Args:
        progress: told how many towers are done, and of how many.
    """
    found = []
    if _version("open_clip_torch") is not None:
        kinds: defaultdict[tuple[str, bool], list[str]] = defaultdict(list)
        for name, kind, transformer in _open_clip(progress):
            kinds[kind, transformer].append(name)
        for (kind, transformer), names in sorted(
            kinds.items(), key=lambda item: (not item[0][1], item[0][0])
        ):
            modes = MODES if transformer else (*ON_FRAMES, "none")
            package = "open_clip_torch"
            found.append(Family(f"open_clip, {kind}", package, _version(package), modes, tuple(names)))
    found.append(Family("timm, any image model", "timm", _version("timm"), MODES, ("timm/NAME",)))
    found.extend(_transformers())
    networks = tuple(f"pytorchvideo/{name}" for name in PYTORCHVIDEO)
    found.append(Family("pytorchvideo", "pytorchvideo", _version("pytorchvideo"), (), networks))
    found.append(
        Family("conv3d", "vidssl", _version("vidssl"), (), tuple(f"conv3d/{name}" for name in CONV3D))
    )
    return found


def _open_clip(progress: Callable[[int, int], None]) -> Iterator[tuple[str, str, bool]]:
    """Name, class of the image tower, and whether it is a transformer that can be taken apart; captioners left out."""
    import open_clip

    from vidssl.models.tokens.blocks import blank_tower, take_apart

    names, known = open_clip.list_models(), dict[str, tuple[str, bool]]()
    for number, name in enumerate(names):
        config: dict[str, Any] = open_clip.get_model_config(name)
        if not config.get("multimodal_cfg"):
            vision = config["vision_cfg"]
            key = vision.get("timm_model_name") or type(vision["layers"]).__name__
            if key not in known:
                visual = blank_tower(config)
                known[key] = type(getattr(visual, "trunk", visual)).__name__, take_apart(visual) is not None
            yield name, *known[key]
        progress(number + 1, len(names))


def _transformers() -> Iterator[Family]:
    """Models by their `model_type`; those that the installed release lacks are left out."""
    installed = _version("transformers")
    names: set[str] = set()
    if installed is not None:
        import transformers

        names = set(dir(transformers))  # imports none of them
    for words, video, modes in (("video models", True, ()), ("image models", False, (*ON_FRAMES, "none"))):
        known = (kind for kind, model in KINDS.items() if model.video == video and model.model in names)
        name = f"transformers/FOLDER or ORG/NAME, {words}"
        yield Family(name, "transformers", installed, modes, tuple(known))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
