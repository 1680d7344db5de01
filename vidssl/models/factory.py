"""`create_model`: one call from a name to a video encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_choice
from vidssl.models.encoder import VideoEncoder
from vidssl.models.options import CHOICE, ClipOptions, check_effect, check_options
from vidssl.models.sources import flat_config, own_config, resolve
from vidssl.models.stored import read_config, stored_tensors
from vidssl.models.temporal.modes import MODES
from vidssl.models.tokens.blocks import blank_tower
from vidssl.models.towers.conv3d import Conv3dEncoder, create_conv3d
from vidssl.models.towers.huggingface.create import TRANSFORMERS, build_transformers, create_transformers
from vidssl.models.towers.images import check_mode, encoder_around, load_over_time, set_size
from vidssl.models.towers.pytorchvideo import PytorchVideoEncoder, create_pytorchvideo
from vidssl.models.towers.text import TextEncoder, tokenizer_spec
from vidssl.models.towers.timm import TIMM, build_timm, create_timm
from vidssl.models.towers.transformers_text import build_text_model, read_text_config
from vidssl.models.weights import load_clip_weights, read_tensors

PYTORCHVIDEO, CONV3D = "pytorchvideo/", "conv3d/"
# How the names of what a CLIP model has begin; an encoder's other weights are what it has over time.
_OF_CLIP = ("visual.", "text.", "logit_")


def create_model(
    name: str, pretrained: str | None = None, temporal: str = "divided", **options: Any
) -> VideoEncoder:
    """Build a video encoder.

    Args:
        name: an open_clip architecture (``"ViT-B-16"``, ``"ViT-B-16-quickgelu"``, …), ``"local-dir:/path"`` or
            ``"hf-hub:org/repo"`` (these two bring their weights), ``"transformers/FOLDER"`` or ``"transformers/org/repo"`` (so do
            these), ``"timm/NAME"``, ``"pytorchvideo/x3d_s"`` and the like, or ``"conv3d/small"``, a network of ours to train from scratch.
        pretrained: None for random weights from torch's default generator; else an open_clip tag (``"openai"``), a
            checkpoint file (.safetensors, or tensors pickled in .pt/.bin), ``"local-dir:/path"``, ``"hf-hub:org/repo"``,
            or a run, checkpoint or exported encoder of ours, whose attention over time comes along (one that has none,
            such as an image model, leaves it as it starts).
        temporal: ``"divided"``, ``"joint"`` attention over time or a temporal ``"adapter"`` in every block of an image
            transformer; ``"convolutions"`` or a transformer (``"head"``) over the features of frames, behind any image tower; or
            ``"none"``: the mean over frames of image features, which all the others start from. The pytorchvideo and conv3d
            networks convolve or attend over time in their own way and ignore it.
        options: fields of :class:`ClipOptions`; for pytorchvideo `image_size`, `max_frames` and `chunk_frames`, for conv3d
            `image_size` and `chunk_frames`.

    Returns:
        The encoder, in training mode; its text tower (CLIP only) under `text`.

    Raises:
        VidsslError: for unknown names, tags and options, options without effect, unsupported towers, weights that do not
            fit in every key and shape, a QuickGELU mismatch, and a hub that cannot be reached.
    """
    check_choice("temporal", temporal, MODES, CHOICE)
    if name.startswith(PYTORCHVIDEO):
        return create_pytorchvideo(name.removeprefix(PYTORCHVIDEO), pretrained, **options)
    if name.startswith(CONV3D):
        return create_conv3d(name.removeprefix(CONV3D), pretrained, **options)
    if name.startswith(TIMM):
        return create_timm(name.removeprefix(TIMM), pretrained, temporal, **options)
    if name.startswith(TRANSFORMERS):
        return create_transformers(name.removeprefix(TRANSFORMERS), pretrained, temporal, **options)
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    check_options(options, asdict(ClipOptions()))
    chosen = ClipOptions(**options)
    resize = chosen.image_size is not None
    source = resolve(name, pretrained, load_weights=chosen.load_weights, any_size=resize)
    config = own_config(source, chosen.image_size)
    module_options = asdict(chosen)
    for key in ("image_size", "load_text", "load_weights"):
        del module_options[key]
    spec = {
        "family": "open_clip",
        "name": name,
        "pretrained": source.pretrained,
        "model_cfg": config,
        "preprocess": {
            "mean": list(source.mean or OPENAI_DATASET_MEAN),
            "std": list(source.std or OPENAI_DATASET_STD),
        },
        "temporal": temporal,
        "options": module_options,
        "tokenizer": tokenizer_spec(config["text_cfg"], source.folder),
    }
    if chosen.load_text and config["text_cfg"].get("hf_model_name"):
        spec["text_model"] = read_text_config(config["text_cfg"]["hf_model_name"], source.folder)
    check_effect(options, name, temporal, transformer=_check_tower(spec))
    return _build(spec, chosen.load_text, weights=source.weights, resize=resize)


def build_from_spec(
    spec: Mapping[str, Any], text: bool, tokenizer_folder: Path | None = None
) -> VideoEncoder:
    """The module that `spec` (of another encoder) describes, with random weights, without network access.

    Args:
        spec: `encoder.spec`.
        text: whether to build the text tower too.
        tokenizer_folder: where the tokenizer was saved, for those not bundled with open_clip.

    Raises:
        VidsslError: for a spec this version does not understand.
    """
    family = spec.get("family")
    try:
        if family == "pytorchvideo":
            return PytorchVideoEncoder(spec)
        if family == "conv3d":
            return Conv3dEncoder(spec)
        if family == "transformers":
            return build_transformers(spec, text, tokenizer_folder)
        if family not in ("open_clip", "timm"):
            raise VidsslError(
                f"encoder spec: family {family!r}: must be 'open_clip', 'timm', 'transformers', 'pytorchvideo' or 'conv3d'"
            )
        check_choice("temporal", spec["temporal"], MODES, CHOICE)
        if family == "timm":
            return build_timm(spec)
        return _build(spec, text, tokenizer_folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise VidsslError(f"encoder spec: incomplete or damaged ({type(error).__name__}: {error})") from error


def _build(
    spec: Mapping[str, Any],
    text: bool,
    tokenizer_folder: Path | None = None,
    weights: Path | None = None,
    resize: bool = False,
) -> VideoEncoder:
    """The encoder of a spec, with random weights or those of a file, whose positions `resize` interpolates."""
    from open_clip.model import _build_vision_tower

    config = spec["model_cfg"]
    _check_tower(spec)
    quick_gelu = config.get("quick_gelu", False)
    visual = _build_vision_tower(config["embed_dim"], dict(config["vision_cfg"]), quick_gelu)
    set_size(visual, _image_size(spec), str(spec["name"]))
    tower = _build_text_tower(spec) if text else None
    scale, bias = None, None
    over_time: dict[str, Tensor] = {}
    source = str(spec["pretrained"])
    if weights is not None:
        tensors = stored_tensors(weights) if weights.is_dir() else read_tensors(weights)
        if weights.is_dir():
            over_time = {key: tensors.pop(key) for key in list(tensors) if not key.startswith(_OF_CLIP)}
        scale, bias = load_clip_weights(
            visual, tower, tensors, source, quick_gelu=bool(quick_gelu), resize=resize
        )
    mean, std = (tuple(float(value) for value in spec["preprocess"][key]) for key in ("mean", "std"))
    interface: dict[str, Any] = {"mean": mean, "std": std, "spec": dict(spec), "text": None}
    if tower is not None:
        if scale is None:
            scale = config.get("init_logit_scale", math.log(1 / 0.07))
        if bias is None:
            bias = config.get("init_logit_bias")
        interface["text"] = TextEncoder(tower, spec["tokenizer"], scale, bias, tokenizer_folder)
    encoder = encoder_around(visual, **interface)
    if over_time and weights is not None:
        load_over_time(encoder, over_time, source, read_config(weights)["spec"])
    return encoder


def _check_tower(spec: Mapping[str, Any]) -> bool:
    """Whether the image tower is a transformer that can be taken apart; raises where a mode needs one and it is not."""
    config, flat = spec["model_cfg"], flat_config(spec["model_cfg"])
    if config.get("multimodal_cfg") or flat["vision_cfg.output_tokens"]:
        raise VidsslError(
            f"{spec['name']}: captioning models are not supported (allowed: CLIP and SigLIP models)"
        )
    return check_mode(blank_tower(config), spec["name"], spec["temporal"])


def _image_size(spec: Mapping[str, Any]) -> int:
    size = flat_config(spec["model_cfg"])["vision_cfg.image_size"]
    sides = size if isinstance(size, list) else [size, size]
    if sides[0] != sides[1]:
        raise VidsslError(f"{spec['name']}: image_size {sides}: only square image towers are supported")
    return int(sides[0])


def _build_text_tower(spec: Mapping[str, Any]) -> nn.Module:
    from open_clip.model import _build_text_tower as build

    config = spec["model_cfg"]
    # Forked, so that the encoder's random values do not depend on whether there is a text tower.
    with torch.random.fork_rng(devices=[]):
        if "text_model" in spec:
            return build_text_model(spec["text_model"], config["text_cfg"], config["embed_dim"])
        tower: nn.Module = build(
            config["embed_dim"], dict(config["text_cfg"]), config.get("quick_gelu", False)
        )
    return tower
