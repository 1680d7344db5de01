"""Which models of transformers there are, what of each is the encoder, and how its frames are normalised if nothing says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vidssl.errors import VidsslError, did_you_mean

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_OF_TEXT = r"text_model\.|text_projection\.|logit_scale$|logit_bias$"


class Kind(NamedTuple):
    """A model of transformers.

    model: its class. video: whether it takes clips; the others see one frame at a time.
    left_out: regular expression of the weights that are no part of the encoder: heads, decoders, other towers.
    statistics: mean and std of the published weights, for folders without a preprocessor config.
    section: of the config that the class is built from. unused: parts that are built and not kept.
    """

    model: str
    video: bool
    left_out: str
    statistics: tuple[tuple[float, float, float], tuple[float, float, float]]
    section: str | None = None
    unused: tuple[str, ...] = ()


_CLASSIFIER = r"classifier\."
_CLIP_TOWER = Kind("CLIPVisionModelWithProjection", False, rf"{_CLASSIFIER}|{_OF_TEXT}", _CLIP)
_SIGLIP_TOWER = Kind("SiglipVisionModel", False, rf"{_CLASSIFIER}|{_OF_TEXT}", _HALF)
_SIGLIP2_TOWER = _SIGLIP_TOWER._replace(model="Siglip2VisionModel")
KINDS = {
    "videomae": Kind(
        "VideoMAEModel",
        True,
        rf"{_CLASSIFIER}|fc_norm\.|decoder\.|encoder_to_decoder\.|mask_token$",
        _IMAGENET,
    ),
    "timesformer": Kind("TimesformerModel", True, _CLASSIFIER, ((0.45,) * 3, (0.225,) * 3)),
    # Frames of its processor are scaled to [-1, 1] before 0.5 is subtracted and divided by.
    "vivit": Kind(
        "VivitModel", True, rf"{_CLASSIFIER}|pooler\.", ((0.75,) * 3, (0.25,) * 3), unused=("pooler",)
    ),
    "vjepa2": Kind(
        "VJEPA2Model", True, rf"{_CLASSIFIER}|pooler\.|predictor\.", _IMAGENET, unused=("predictor",)
    ),
    "xclip": Kind(
        "XCLIPModel",
        True,
        rf"{_OF_TEXT}|prompts_",
        _CLIP,
        unused=(
            "text_model",
            "text_projection",
            "logit_scale",
            "prompts_visual_layernorm",
            "prompts_visual_projection",
            "prompts_generator",
        ),
    ),
    "clip": _CLIP_TOWER._replace(section="vision_config"),
    "clip_vision_model": _CLIP_TOWER,
    "siglip": _SIGLIP_TOWER._replace(section="vision_config"),
    "siglip_vision_model": _SIGLIP_TOWER,
    "siglip2": _SIGLIP2_TOWER._replace(section="vision_config"),
    "siglip2_vision_model": _SIGLIP2_TOWER,
    "dinov2": Kind("Dinov2Model", False, _CLASSIFIER, _IMAGENET),
    "dinov2_with_registers": Kind("Dinov2WithRegistersModel", False, _CLASSIFIER, _IMAGENET),
    "dinov3_vit": Kind("DINOv3ViTModel", False, _CLASSIFIER, _IMAGENET),
    "dinov3_convnext": Kind("DINOv3ConvNextModel", False, _CLASSIFIER, _IMAGENET),
}

_OF_IMAGES = r"vision_model\.|visual_projection\.|logit_scale$|logit_bias$"
# The text towers beside image towers. That of X-CLIP is none: what it says of a text depends on the video.
TEXTS = {
    "clip": Kind("CLIPTextModelWithProjection", False, _OF_IMAGES, _CLIP, section="text_config"),
    "siglip": Kind("SiglipTextModel", False, _OF_IMAGES, _HALF, section="text_config"),
    "siglip2": Kind("Siglip2TextModel", False, _OF_IMAGES, _HALF, section="text_config"),
}


def find_kind(config: Mapping[str, Any], source: str) -> Kind:
    """What a config's model is.

    Raises:
        VidsslError: for models that are not known here.
    """
    name = str(config.get("model_type"))
    if name not in KINDS:
        text = "; a text tower alone has no images" if "text" in name else ""
        raise VidsslError(
            f"{source}: model_type {name!r}: is no encoder known here{did_you_mean(name, KINDS)}{text} (allowed: {', '.join(KINDS)})"
        )
    return KINDS[name]
