"""`transformers`: a folder as `save_pretrained` writes it, without code of its own.

Three kinds of models have a form there: open_clip's plain vision transformers (CLIP, with the text tower where that fits), models of
timm (`TimmWrapperModel`), and what came from transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.exporting.formats.clip_of_transformers import (
    as_clip,
    clip_tokenizer,
    no_place_for_text,
    require_clip,
)
from vidssl.exporting.formats.form import Features, Format, Loaded, over_frames, require_images
from vidssl.files import read_json, write_json
from vidssl.models.encoder import VideoEncoder
from vidssl.models.factory import create_model
from vidssl.models.towers.huggingface.create import FAMILY, TRANSFORMERS
from vidssl.models.towers.huggingface.network import quiet
from vidssl.models.towers.text import TextEncoder
from vidssl.models.towers.timm import TIMM
from vidssl.models.weights import load_strict

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
_TIMM_MODEL = "timm_model."


def _require(encoder: VideoEncoder) -> None:
    spec = encoder.spec
    if spec.get("family") == FAMILY and spec.get("temporal") in (None, "none"):
        return
    require_images(encoder, "transformers")
    if spec["family"] == "open_clip":
        require_clip(encoder)


def _write(encoder: VideoEncoder, folder: Path, clips: Tensor) -> dict[str, Any]:
    said: dict[str, Any] = {}
    family = encoder.spec["family"]
    if family == FAMILY:
        _of_transformers(encoder).save_pretrained(folder)
        if isinstance(encoder.text, TextEncoder):
            clip_tokenizer(encoder.text).save_pretrained(folder)
    elif family == "timm":
        _as_timm(encoder).save_pretrained(folder)
    else:
        clip: Any = as_clip(encoder)
        clip.save_pretrained(folder)
        if (reason := no_place_for_text(encoder)) is not None and encoder.text is not None:
            said["left_behind"] = f"the text tower: CLIP of transformers has no place for {reason}"
        elif isinstance(encoder.text, TextEncoder):
            clip_tokenizer(encoder.text).save_pretrained(folder)
    size = {"height": encoder.image_size, "width": encoder.image_size}
    preprocess = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": encoder.image_size},
        "crop_size": size,
        "image_mean": list(encoder.mean),
        "image_std": list(encoder.std),
    }
    write_json(folder / PREPROCESSOR, preprocess)
    return said


def _of_transformers(encoder: VideoEncoder) -> Any:
    """The network, together with its text tower where it came with one."""
    network: Any = encoder.net if hasattr(encoder, "net") else encoder.visual.net  # type: ignore[union-attr]
    text = encoder.text
    if not isinstance(text, TextEncoder):
        return network
    import transformers

    library: Any = transformers
    options = dict(encoder.spec["config"])
    config = library.CONFIG_MAPPING[options.pop("model_type")](**options)
    with torch.random.fork_rng(devices=[]):
        model = library.AutoModel.from_config(config).float().eval()
    tower: Any = text.tower
    tensors = {"logit_scale": torch.tensor(text.logit_scale)}
    if text.logit_bias is not None:
        tensors["logit_bias"] = torch.tensor(text.logit_bias)
    own = model.state_dict()
    for part, name in ((network, "vision_model."), (tower.net, "text_model.")):
        # A tower by itself may have its names without the part's.
        tensors |= {key if key in own else name + key: value for key, value in part.state_dict().items()}
    fitting = {
        key: value.reshape(own[key].shape) if key.startswith("logit_") else value
        for key, value in tensors.items()
    }
    load_strict(model, fitting, f"{encoder.spec['name']}: towers together")
    return model


def _as_timm(encoder: VideoEncoder) -> Any:
    """`TimmWrapperModel` with the trunk's weights."""
    import transformers

    library: Any = transformers
    trunk: Any = encoder.visual.trunk  # type: ignore[union-attr]
    resized = hasattr(trunk, "set_input_size")
    config = library.TimmWrapperConfig(
        architecture=encoder.spec["name"].removeprefix(TIMM),
        num_labels=0,
        model_args={"img_size": encoder.image_size} if resized else None,
    )
    with torch.random.fork_rng(devices=[]):
        model = library.TimmWrapperModel(config).eval()
    tensors = {f"{_TIMM_MODEL}{key}": value for key, value in trunk.state_dict().items()}
    load_strict(model, tensors, f"{encoder.spec['name']}: as TimmWrapperModel")
    return model


def _read(folder: Path) -> Loaded:
    kind = read_json(folder / CONFIG)["architectures"][0]
    try:
        if kind == "TimmWrapperModel":
            return _read_timm(folder)
        if kind == "CLIPModel":
            return _read_clip(folder)
    except (ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise VidsslError(f"transformers cannot load what was written for it: {said}") from error
    encoder = create_model(f"{TRANSFORMERS}{folder}", temporal="none").eval()

    def encode(clips: Tensor) -> Features:
        features = encoder(clips)
        return features.clip, features.frames

    return Loaded(encode, None if encoder.text is None else encoder.text.encode)


def _read_timm(folder: Path) -> Loaded:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder)
    model.eval()
    return Loaded(over_frames(lambda images: model(images).pooler_output))


def _read_clip(folder: Path) -> Loaded:
    from transformers import AutoTokenizer, CLIPModel

    model: Any = CLIPModel.from_pretrained(folder)
    model.eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def images(frames: Tensor) -> Tensor:
        features: Tensor = model.visual_projection(model.vision_model(frames).pooler_output)
        return features

    def texts(names: Sequence[str]) -> Tensor:
        length = model.config.text_config.max_position_embeddings
        tokens = tokenizer(
            list(names), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        # No token is masked, as in training: CLIP reads at the end token, which sees nothing behind it.
        features: Tensor = model.text_projection(model.text_model(tokens.input_ids).pooler_output)
        return features

    return Loaded(over_frames(images), texts)


HUGGING_FACE = Format(
    require=_require,
    write=quiet()(_write),
    read=quiet()(_read),
    library="transformers",
    usage="""\
from transformers import AutoImageProcessor, AutoModel
processor, model = AutoImageProcessor.from_pretrained({place}), AutoModel.from_pretrained({place})
frames = processor(images, return_tensors="pt").pixel_values  # PIL images, the T frames of a clip
output = getattr(model, "get_image_features", model)(frames)  # .pooler_output; of video networks: model(frames[None])""",
    hub='"{name}"',
    images=True,
)
