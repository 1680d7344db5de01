"""Any image model of timm: DINOv2, DINOv3, ConvNeXt and over a thousand others, without a text tower.

>>> encoder = vidssl.load_encoder("timm/vit_small_patch14_dinov2.lvd142m:weights/dinov2.safetensors")
>>> encoder = vidssl.create_model("timm/vit_small_patch16_dinov3", "hf-hub:timm/vit_small_patch16_dinov3.lvd1689m", temporal="joint")

Features are what the model pools before its classifier; a classifier in the weights is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError, did_you_mean
from vidssl.models.encoder import VideoEncoder
from vidssl.models.options import ClipOptions, check_effect, check_options
from vidssl.models.sources import HUB, hub_file
from vidssl.models.stored import find_encoder, read_config, stored_tensors
from vidssl.models.towers.images import check_mode, encoder_around, load_over_time, set_size
from vidssl.models.towers.training import read_training
from vidssl.models.weights import load_strict, resize_positions

TIMM = "timm/"
_VISUAL = "visual."
_HALF = (0.5, 0.5, 0.5)  # mean and std of what timm says nothing about


class TimmTower(nn.Module):
    """A timm model without classifier, in the form of an open_clip tower: `trunk`, and a `head` that does nothing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        try:
            self.trunk: Any = timm.create_model(name, pretrained=False, num_classes=0)
        except RuntimeError as error:  # of a tag, or a name
            known = timm.list_models(name.partition(".")[0] + "*") or timm.list_models()
            raise VidsslError(
                f"timm/{name}: no such model{did_you_mean(name, known)} ({' '.join(str(error).split())})"
            ) from None
        self.head = nn.Identity()
        config: Any = self.trunk.pretrained_cfg
        embedding: Any = getattr(self.trunk, "patch_embed", None)
        self.image_size = getattr(embedding, "img_size", None) or config.get("input_size", (3, 224, 224))[1:]

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D)."""
        features: Tensor = self.trunk(images)
        return features


def create_timm(name: str, pretrained: str | None, temporal: str, **options: Any) -> VideoEncoder:
    """Build an encoder around a model of timm.

    Args:
        name: of timm, with or without the tag that says how images are normalised.
        pretrained: None for random weights; a file of timm's own names, by itself or in the checkpoint of a training program such as
            DINO's, ``hf-hub:timm/NAME.TAG`` (its safetensors), or a run, checkpoint or exported encoder.
        temporal, options: as for `vidssl.create_model`.

    Raises:
        VidsslError: for unknown names and options, options without effect, and weights that do not fit in every key and shape.
    """
    check_options(options, asdict(ClipOptions()))
    chosen = ClipOptions(**options)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        blank = TimmTower(name)
    known = blank.trunk.pretrained_cfg
    check_effect(options, f"timm/{name}", temporal, transformer=check_mode(blank, f"timm/{name}", temporal))
    kept = {
        key: value
        for key, value in asdict(chosen).items()
        if key not in ("image_size", "load_text", "load_weights")
    }
    encoder = build_timm(
        {
            "family": "timm",
            "name": f"timm/{name}",
            "pretrained": pretrained,
            "image_size": chosen.image_size or int(blank.image_size[0]),
            "model_cfg": {
                "embed_dim": int(getattr(blank.trunk, "head_hidden_size", blank.trunk.num_features))
            },
            "preprocess": {
                key: list(known.get(key) or default) for key, default in (("mean", _HALF), ("std", _HALF))
            },
            "temporal": temporal,
            "options": kept,
        }
    )
    if pretrained is not None:
        classifier = known.get("classifier") or ()
        names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        _load(encoder, pretrained, names, chosen)
    return encoder


def build_timm(spec: Mapping[str, Any]) -> VideoEncoder:
    """The encoder of a spec, with random weights."""
    tower = TimmTower(str(spec["name"]).removeprefix(TIMM))
    set_size(tower, int(spec["image_size"]), str(spec["name"]))
    tower.image_size = (int(spec["image_size"]),) * 2
    mean, std = (tuple(float(value) for value in spec["preprocess"][key]) for key in ("mean", "std"))
    return encoder_around(tower, spec=spec, mean=mean, std=std, text=None)


def _load(encoder: VideoEncoder, pretrained: str, classifier: tuple[str, ...], chosen: ClipOptions) -> None:
    place = Path(pretrained).expanduser()
    visual: Any = encoder.visual
    over_time: dict[str, Tensor] = {}
    if place.is_dir():
        folder = find_encoder(place)
        theirs = read_config(folder)["spec"]
        if theirs.get("name") != encoder.spec["name"]:
            raise VidsslError(
                f"{pretrained}: another model ({theirs.get('name')}) than {encoder.spec['name']}"
            )
        stored = stored_tensors(folder)
        given = {key: value for key, value in stored.items() if key.startswith(_VISUAL)}
        over_time = {key: value for key, value in stored.items() if not key.startswith(_VISUAL)}
    else:
        file = (
            hub_file(pretrained.removeprefix(HUB), "model.safetensors")
            if pretrained.startswith(HUB)
            else place
        )
        tensors, record = read_training(file)
        if record["under"] or record["prefix"]:
            encoder.spec["read"] = record
        left_out = tuple(f"{name}." for name in classifier)
        given = {
            f"{_VISUAL}trunk.{key}": value
            for key, value in tensors.items()
            if not (left_out and key.startswith(left_out))
        }
    if chosen.image_size is not None:
        resize_positions(visual, given)
    own = {key.removeprefix(_VISUAL): value for key, value in given.items()}
    load_strict(visual, own, pretrained, "; image_size= interpolates the position embedding")
    if over_time:
        load_over_time(encoder, over_time, pretrained, theirs)
