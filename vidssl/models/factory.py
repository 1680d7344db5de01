"""`create_model`: one call from a name to a video encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidssl.errors import VidsslError, check_choice
from vidssl.models.encoder import VideoEncoder
from vidssl.models.sources import flat_config, own_config, resolve
from vidssl.models.towers.clip import ClipVideoEncoder, FrameAverageEncoder
from vidssl.models.towers.text import TextEncoder, tokenizer_spec
from vidssl.models.weights import load_clip_weights, read_tensors

PYTORCHVIDEO = "pytorchvideo/"
TEMPORAL = ("divided", "none")
_CHOICE = "create_model: {name}: {value!r}{guess} (allowed: {allowed})"
_CHOICES = {"cls_mode": ("per_frame", "shared"), "temporal_init": ("copy", "random")}


@dataclass(frozen=True)
class ClipOptions:
    """Options of :func:`create_model` for CLIP towers.

    cls_mode, temporal_init, max_frames, time_signal, causal, activation_checkpointing: see :class:`ClipVideoEncoder`.
    chunk_frames: see :class:`VideoEncoder`.
    image_size: side in pixels the encoder is made for instead of the architecture's; the position embedding of loaded
        weights is interpolated. (Clips of other sizes work in any case.)
    load_text: whether to build and load the text tower too.
    load_weights: False starts a ``local-dir:`` or ``hf-hub:`` name from random weights.
    """

    cls_mode: str = "per_frame"
    temporal_init: str = "copy"
    max_frames: int = 8
    time_signal: bool = True
    causal: bool = False
    chunk_frames: int | None = None
    image_size: int | None = None
    activation_checkpointing: bool = False
    load_text: bool = True
    load_weights: bool = True


def create_model(
    name: str, pretrained: str | None = None, temporal: str = "divided", **options: Any
) -> VideoEncoder:
    """Build a video encoder.

    Args:
        name: an open_clip architecture (``"ViT-B-16"``, ``"ViT-B-16-quickgelu"``, …), ``"local-dir:/path"`` or
            ``"hf-hub:org/repo"`` (these two bring their weights), or ``"pytorchvideo/x3d_s"`` and the like.
        pretrained: None for random weights from torch's default generator; else an open_clip tag (``"openai"``), a
            checkpoint file (.safetensors, or tensors pickled in .pt/.bin), ``"local-dir:/path"`` or
            ``"hf-hub:org/repo"``.
        temporal: ``"divided"`` attention over time, or ``"none"``: the mean over frames of image features. The
            pytorchvideo networks convolve or attend over time in their own way and ignore it.
        options: fields of :class:`ClipOptions`; for pytorchvideo `image_size`, `max_frames` and `chunk_frames`.

    Returns:
        The encoder, in training mode; its text tower (CLIP only) under `text`.

    Raises:
        VidsslError: for unknown names, tags and options, unsupported towers, weights that do not fit in every key and
            shape, a QuickGELU mismatch, and a hub that cannot be reached.
    """
    check_choice("temporal", temporal, TEMPORAL, _CHOICE)
    if name.startswith(PYTORCHVIDEO):
        from vidssl.models.towers.pytorchvideo import create_pytorchvideo

        return create_pytorchvideo(name.removeprefix(PYTORCHVIDEO), pretrained, **options)
    chosen = _parse_options(options)
    source = resolve(
        name, pretrained, load_weights=chosen.load_weights, any_size=chosen.image_size is not None
    )
    config = own_config(source, chosen.image_size)
    preprocess = {"mean": source.mean or _clip_mean(), "std": source.std or _clip_std()}
    module_options = {
        key: value
        for key, value in asdict(chosen).items()
        if key not in ("image_size", "load_text", "load_weights")
    }
    spec = {
        "family": "open_clip",
        "name": name,
        "pretrained": source.pretrained,
        "model_cfg": config,
        "preprocess": {key: list(value) for key, value in preprocess.items()},
        "temporal": temporal,
        "options": module_options,
        "tokenizer": tokenizer_spec(config["text_cfg"], source.folder),
    }
    visual = _build_visual(spec)
    text = _build_text(spec) if chosen.load_text else None
    scales: tuple[float | None, float | None] = (None, None)
    if source.weights is not None:
        scales = load_clip_weights(
            visual,
            text,
            read_tensors(source.weights),
            str(source.pretrained),
            quick_gelu=bool(config.get("quick_gelu", False)),
            resize=chosen.image_size is not None,
        )
    return _assemble(spec, visual, None if text is None else _text_encoder(spec, text, *scales))


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
            from vidssl.models.towers.pytorchvideo import PytorchVideoEncoder

            video = PytorchVideoEncoder(
                spec["name"], spec["image_size"], spec["max_frames"], spec.get("chunk_frames")
            )
            video.spec = dict(spec)
            return video
        if family != "open_clip":
            raise VidsslError(f"encoder spec: family {family!r}: must be 'open_clip' or 'pytorchvideo'")
        check_choice("temporal", spec["temporal"], TEMPORAL, _CHOICE)
        visual = _build_visual(spec)
        tower = _text_encoder(spec, _build_text(spec), folder=tokenizer_folder) if text else None
        return _assemble(spec, visual, tower)
    except (KeyError, TypeError, AttributeError) as error:
        raise VidsslError(f"encoder spec: incomplete or damaged ({type(error).__name__}: {error})") from error


def _parse_options(options: Mapping[str, Any]) -> ClipOptions:
    known = {field.name: field for field in fields(ClipOptions)}
    for key, value in options.items():
        check_choice(
            "create_model", key, known, "{name}: unknown option {value!r}{guess} (allowed: {allowed})"
        )
        if key in _CHOICES:
            check_choice(key, value, _CHOICES[key], _CHOICE)
        elif isinstance(known[key].default, bool):
            if not isinstance(value, bool):
                raise VidsslError(f"create_model: {key}: {value!r}: must be true or false")
        elif not (value is None and known[key].default is None):
            check_count(key, value)
    return ClipOptions(**options)


def check_count(key: str, value: object) -> int:
    """`value` as a positive integer option.

    Raises:
        VidsslError: when it is not one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise VidsslError(f"create_model: {key}: {value!r}: must be a whole number of at least 1")
    return value


def _check_tower(spec: Mapping[str, Any]) -> bool:
    """Whether attention over time can be put into the image tower; raises where it was asked for and cannot."""
    config, flat = spec["model_cfg"], flat_config(spec["model_cfg"])
    vision = {key.removeprefix("vision_cfg."): value for key, value in flat.items() if "vision_cfg." in key}
    if config.get("multimodal_cfg") or vision["output_tokens"]:
        raise VidsslError(
            f"{spec['name']}: captioning models are not supported (allowed: CLIP and SigLIP models)"
        )
    custom = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
    reasons = {
        "a timm trunk": bool(vision["timm_model_name"]),
        "a ResNet": isinstance(vision["layers"], list),
        "attention pooling": bool(vision["attentional_pool"]),
        "no pooling": vision["pool_type"] == "none",
        "customised attention blocks": vision["block_type"] == "custom" or any(vision[key] for key in custom),
    }
    reason = next((reason for reason, applies in reasons.items() if applies), None)
    if reason and spec["temporal"] == "divided":
        raise VidsslError(
            f"{spec['name']}: temporal='divided' cannot be put into an image tower with {reason} (allowed: open_clip's "
            "own vision transformers such as 'ViT-B-16', or temporal='none')"
        )
    return reason is None


def _image_side(spec: Mapping[str, Any]) -> int:
    size = flat_config(spec["model_cfg"])["vision_cfg.image_size"]
    sides = size if isinstance(size, list) else [size, size]
    if sides[0] != sides[1]:
        raise VidsslError(f"{spec['name']}: image_size {sides}: only square image towers are supported")
    return int(sides[0])


def _build_visual(spec: Mapping[str, Any]) -> nn.Module:
    from open_clip.model import _build_vision_tower

    _check_tower(spec)
    _image_side(spec)
    config = spec["model_cfg"]
    tower: nn.Module = _build_vision_tower(
        config["embed_dim"], dict(config["vision_cfg"]), config.get("quick_gelu", False)
    )
    return tower


def _build_text(spec: Mapping[str, Any]) -> nn.Module:
    from open_clip.model import _build_text_tower

    config = spec["model_cfg"]
    if config["text_cfg"].get("hf_model_name"):
        raise VidsslError(
            f"{spec['name']}: the text tower {config['text_cfg']['hf_model_name']!r} is a transformers model, which is "
            "not supported (allowed: load_text=False, or a model with open_clip's own text tower)"
        )
    # Forked, so that the encoder's random values do not depend on whether there is a text tower.
    with torch.random.fork_rng(devices=[]):
        tower: nn.Module = _build_text_tower(
            config["embed_dim"], dict(config["text_cfg"]), config.get("quick_gelu", False)
        )
    return tower


def _text_encoder(
    spec: Mapping[str, Any],
    tower: nn.Module,
    scale: float | None = None,
    bias: float | None = None,
    folder: Path | None = None,
) -> TextEncoder:
    config = spec["model_cfg"]
    scale = config.get("init_logit_scale", math.log(1 / 0.07)) if scale is None else scale
    bias = config.get("init_logit_bias") if bias is None else bias
    return TextEncoder(tower, spec["tokenizer"], scale, bias, folder)


def _assemble(spec: Mapping[str, Any], visual: nn.Module, text: TextEncoder | None) -> VideoEncoder:
    mean, std = (
        (float(r), float(g), float(b)) for r, g, b in (spec["preprocess"][k] for k in ("mean", "std"))
    )
    if not _check_tower(spec):
        return FrameAverageEncoder(
            visual,
            embed_dim=spec["model_cfg"]["embed_dim"],
            image_size=_image_side(spec),
            mean=mean,
            std=std,
            spec=dict(spec),
            text=text,
        )
    return ClipVideoEncoder(
        visual, temporal=spec["temporal"], mean=mean, std=std, spec=dict(spec), text=text, **spec["options"]
    )


def _clip_mean() -> tuple[float, ...]:
    from open_clip.constants import OPENAI_DATASET_MEAN

    return tuple(OPENAI_DATASET_MEAN)


def _clip_std() -> tuple[float, ...]:
    from open_clip.constants import OPENAI_DATASET_STD

    return tuple(OPENAI_DATASET_STD)
