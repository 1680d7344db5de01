"""`open_clip`: the image tower with its text tower, as the folder that open_clip itself loads by ``local-dir:``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.exporting.formats.form import Format, Loaded, over_frames, require_images
from vidssl.files import write_json, write_tensors
from vidssl.models.encoder import VideoEncoder
from vidssl.models.sources import CONFIG_FILE, WEIGHTS_FILES
from vidssl.models.towers.text import TextEncoder


def _require(encoder: VideoEncoder) -> None:
    name, family = encoder.spec["name"], encoder.spec.get("family")
    require_images(encoder, "open_clip")
    if family != "open_clip":
        raise VidsslError(
            f"{name}: is a model of {family}, and open_clip holds only its own (allowed formats: vidssl, torch-export, "
            "onnx, transformers)"
        )
    if not isinstance(encoder.text, TextEncoder):
        raise VidsslError(f"{name}: has no text tower, and open_clip loads no model without one")


def _write(encoder: VideoEncoder, folder: Path, clips: Tensor) -> dict[str, Any]:
    text = encoder.text
    assert isinstance(text, TextEncoder)
    config = copy.deepcopy(encoder.spec["model_cfg"])
    scales = {"logit_scale": torch.tensor(text.logit_scale)}
    if text.logit_bias is not None:
        config["init_logit_bias"] = text.logit_bias
        scales["logit_bias"] = torch.tensor(text.logit_bias)
    # open_clip keeps the weights of its plain text tower at the top.
    apart = config.get("custom_text") or config["text_cfg"].get("hf_model_name")
    tensors = {key: value for key, value in encoder.state_dict().items() if key.startswith("visual.")}
    tensors |= {f"text.{key}" if apart else key: value for key, value in text.state_dict().items()}
    write_tensors(folder / WEIGHTS_FILES[0], tensors | scales)
    if text.tokenizer_spec["kind"] == "transformers":
        text.tokenizer.save_pretrained(folder)
    preprocess = {"mean": list(encoder.mean), "std": list(encoder.std)}
    write_json(folder / CONFIG_FILE, {"model_cfg": config, "preprocess_cfg": preprocess})
    return {}


def _read(folder: Path) -> Loaded:
    import open_clip

    try:
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise VidsslError(f"open_clip cannot load what was written for it: {said}") from error

    def texts(names: Sequence[str]) -> Tensor:
        features: Tensor = model.encode_text(tokenizer(list(names)))
        return features

    return Loaded(over_frames(model.encode_image), texts)


OPEN_CLIP = Format(
    require=_require,
    write=_write,
    read=_read,
    library="open_clip",
    usage="""\
import open_clip, torch
model, _, preprocess = open_clip.create_model_and_transforms({place})
frames = torch.stack([preprocess(image) for image in images])  # PIL images, the T frames of a clip
clip = model.eval().encode_image(frames).mean(0)  # (D,), the mean over frames""",
    here='"local-dir:{name}"',
    hub='"hf-hub:{name}"',
    images=True,
)
