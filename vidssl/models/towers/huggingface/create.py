"""Encoders that are models of transformers: from a folder, a hub name or a description of one.

>>> encoder = vidssl.load_encoder("transformers/models/videomae-base")            # a folder with config.json and model.safetensors
>>> encoder = vidssl.load_encoder("transformers/facebook/vjepa2-vitl-fpc64-256")  # of the hub
>>> encoder = vidssl.create_model("transformers/google/siglip2-base-patch16-224", temporal="head")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.options import ClipOptions, check_effect, check_options
from vidssl.models.stored import find_encoder, read_config, stored_tensors
from vidssl.models.temporal.modes import IN_BLOCKS, ON_FRAMES
from vidssl.models.towers.frame_average import OF_FRAMES
from vidssl.models.towers.huggingface.checkpoints import (
    ARCHITECTURES,
    TRAINED,
    are_of_training,
    configured,
    renamed,
)
from vidssl.models.towers.huggingface.clips import PARTS
from vidssl.models.towers.huggingface.images import TransformersImageEncoder
from vidssl.models.towers.huggingface.kinds import find_kind
from vidssl.models.towers.huggingface.network import build_network, load_network
from vidssl.models.towers.huggingface.package import Package, is_package, read_package, statistics
from vidssl.models.towers.huggingface.text import build_text, load_text, tokenizer_of
from vidssl.models.towers.huggingface.video import TransformersVideoEncoder
from vidssl.models.towers.images import load_over_time
from vidssl.models.towers.text import TextEncoder
from vidssl.models.towers.timm import create_timm
from vidssl.models.towers.training import read_training
from vidssl.models.weights import load_strict

TRANSFORMERS = "transformers/"
FAMILY = "transformers"
TIMM_WRAPPER = "timm_wrapper"  # model_type of what transformers wraps around models of timm
_NORM = "fc_norm"  # of a finetuned VideoMAE: behind the mean of tokens, kept beside the classifier
_VISUAL, _OF_TEXT = "visual.", ("text.", "logit_")


def create_transformers(source: str, pretrained: str | None, temporal: str, **options: Any) -> VideoEncoder:
    """Build an encoder around a model of transformers.

    Args:
        source: a folder with its config.json, or ``ORG/NAME`` of the hub; brings its weights unless `pretrained` or
            ``load_weights=False`` say otherwise. Or one of `ARCHITECTURES`, for checkpoints of training programs.
        pretrained: other weights of the same architecture: a file or folder of them, the checkpoint of a training program, or a run,
            checkpoint or exported encoder of ours.
        temporal: as for `vidssl.create_model`, one of those behind frames for image models; ignored by video models.
        options: `chunk_frames` and `load_weights` for video models, those of :class:`ClipOptions` that are heeded for image models.

    Raises:
        VidsslError: for unknown models and options, options without effect, and weights that do not fit in every key, shape and sum.
    """
    name = f"{TRANSFORMERS}{source}"
    bare = source in ARCHITECTURES and not Path(source).is_dir()
    wanted = pretrained is None and options.get("load_weights", True) is True and not bare
    package = Package(name, ARCHITECTURES[source], {}, ()) if bare else read_package(source, weights=wanted)
    if package.config["model_type"] == TIMM_WRAPPER:
        return _of_timm(package, pretrained, temporal, options)
    spec = _spec(name, package, temporal, options) | {"pretrained": name if wanted else pretrained}
    if wanted:
        return _loaded(spec, package.tensors(), name, package)
    if pretrained is None:
        text = build_text(spec) if spec.get("tokenizer") else None
        return _around(build_network(package.config, name), spec, package, text)
    place = Path(pretrained).expanduser()
    if place.is_dir() and not is_package(place):
        return _stored(spec, place, pretrained, package)
    if place.is_dir():
        return _loaded(spec, read_package(pretrained).tensors(), pretrained, package)
    return _loaded(spec, _of_file(spec, place, configure=bare), pretrained, package)


def _of_timm(
    package: Package, pretrained: str | None, temporal: str, options: Mapping[str, Any]
) -> VideoEncoder:
    """The model of timm that transformers has wrapped."""
    if pretrained is None and options.get("load_weights", True):
        package.tensors()  # raises where there are none
        if len(package.weights) > 1:
            raise VidsslError(
                f"{package.source}: models of timm are read from one file, not {len(package.weights)}"
            )
        pretrained = str(package.weights[0])
    size = (package.config.get("model_args") or {}).get("img_size")
    options = {"image_size": size, **options}
    return create_timm(str(package.config["architecture"]), pretrained, temporal, **options)


def _spec(name: str, package: Package, temporal: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the encoder before there is a network; raises for options that are unknown or change nothing."""
    kind = find_kind(package.config, name)
    mean, std = statistics(package.preprocess, kind.statistics)
    spec: dict[str, Any] = {
        "family": FAMILY,
        "name": name,
        "config": package.config,
        "preprocess": {"mean": list(mean), "std": list(std)},
    }
    if kind.video:
        check_options(options, {"chunk_frames": None, "load_weights": True}, f" of {name}")
        return spec | {"chunk_frames": options.get("chunk_frames")}
    check_options(options, asdict(ClipOptions()))
    if temporal in IN_BLOCKS:
        modes = ", ".join(map(repr, (*ON_FRAMES, "none")))
        raise VidsslError(
            f"{name}: temporal={temporal!r} cannot be put into a model of transformers (allowed: {modes}; the same models of open_clip "
            "and timm have all modes)"
        )
    check_effect(options, name, temporal, transformer=False)
    heeded = {**asdict(ClipOptions()), **options}
    return spec | {
        "temporal": temporal,
        "options": {key: heeded[key] for key in OF_FRAMES},
        "image_size": options.get("image_size"),
        "tokenizer": tokenizer_of(package.config, package.source) if heeded["load_text"] else None,
    }


def _of_file(spec: dict[str, Any], file: Path, *, configure: bool) -> dict[str, Tensor]:
    """Weights of a file, by the names of transformers; where they are a training program's, the spec gets a record of it."""
    tensors, record = read_training(file)
    if record["under"] or record["prefix"]:
        spec["read"] = record
    if are_of_training(tensors) and spec["config"]["model_type"] in TRAINED:
        tensors, mapped = renamed(tensors, spec["config"]["model_type"])
        spec["read"] = record | {"mapped": mapped}
        spec[_NORM] = ARCHITECTURES["videomae-base"]["layer_norm_eps"]
    if configure:
        spec["config"] = configured(spec["config"], tensors)
    return tensors


def build_transformers(spec: Mapping[str, Any], text: bool, tokenizer_folder: Path | None) -> VideoEncoder:
    """The encoder of a spec, with random weights; see `build_from_spec`."""
    network = build_network(spec["config"], str(spec["name"]))
    if spec.get(_NORM):
        _add_norm(network, spec[_NORM])
    return _encoder(network, spec, build_text(spec, tokenizer_folder) if text else None)


def _loaded(
    spec: dict[str, Any], tensors: Mapping[str, Tensor], source: str, package: Package
) -> VideoEncoder:
    """The encoder with weights as transformers names them."""
    network = load_network(spec["config"], tensors, source)
    norm = {key.split(".")[-1]: value for key, value in tensors.items() if key.startswith(f"{_NORM}.")}
    eps = spec.pop(_NORM, nn.LayerNorm(1).eps)  # transformers takes torch's, not that of its config
    if norm:
        spec[_NORM] = eps
        load_strict(_add_norm(network, eps), norm, f"{source}: {_NORM}")
    text = load_text(spec, tensors, source) if spec.get("tokenizer") else None
    return _around(network, spec, package, text)


def _stored(spec: dict[str, Any], place: Path, pretrained: str, package: Package) -> VideoEncoder:
    """The encoder with the weights of one of ours."""
    folder = find_encoder(place)
    theirs = read_config(folder)["spec"]
    if spec["name"].removeprefix(TRANSFORMERS) in ARCHITECTURES:
        free = ("num_frames", "use_mean_pooling")  # which the weights decide
        spec["config"] = spec["config"] | {
            key: theirs.get("config", {}).get(key) for key in free if key in spec["config"]
        }
    if theirs.get("family") != FAMILY or theirs["config"] != spec["config"]:
        raise VidsslError(f"{pretrained}: another model ({theirs.get('name')}) than {spec['name']}")
    network = build_network(spec["config"], spec["name"])
    if theirs.get(_NORM):
        spec[_NORM] = theirs[_NORM]
        _add_norm(network, theirs[_NORM])
    tensors = stored_tensors(folder)
    of_text = {key: tensors.pop(key) for key in list(tensors) if key.startswith(_OF_TEXT)}
    text = build_text(spec) if spec.get("tokenizer") and of_text else None
    if text is not None:
        weights = {key.removeprefix("text."): x for key, x in of_text.items() if key.startswith("text.")}
        load_strict(text.tower, weights, f"{pretrained}: text tower")
        text.logit_scale = float(of_text["logit_scale"])
        text.logit_bias = float(of_text["logit_bias"]) if "logit_bias" in of_text else None
    encoder = _around(network, spec, package, text)
    over_time = {key: value for key, value in tensors.items() if not key.startswith(_VISUAL)}
    if isinstance(encoder, TransformersVideoEncoder):
        load_strict(encoder, tensors, pretrained)
        return encoder
    visual: Any = encoder.visual
    own = {key.removeprefix(_VISUAL): value for key, value in tensors.items() if key.startswith(_VISUAL)}
    load_strict(visual, own, pretrained)
    if over_time:
        load_over_time(encoder, over_time, pretrained, theirs)
    return encoder


def _around(
    network: nn.Module, spec: dict[str, Any], package: Package, text: TextEncoder | None
) -> VideoEncoder:
    """The encoder; what the network says of its clips or images goes into the spec."""
    if spec["config"]["model_type"] in PARTS:
        spec["max_frames"] = PARTS[spec["config"]["model_type"]](network).frames
    elif spec["image_size"] is None:
        spec["image_size"] = _shown_size(package.preprocess) or _made_for(network)
    return _encoder(network, spec, text)


def _encoder(network: nn.Module, spec: Mapping[str, Any], text: TextEncoder | None) -> VideoEncoder:
    if spec["config"]["model_type"] in PARTS:
        return TransformersVideoEncoder(network, spec)
    return TransformersImageEncoder(network, spec, text)


def _add_norm(network: Any, eps: float) -> nn.Module:
    network.fc_norm = nn.LayerNorm(network.config.hidden_size, eps=eps)
    norm: nn.Module = network.fc_norm
    return norm


def _shown_size(preprocess: Mapping[str, Any]) -> int | None:
    """Side of the square that a processor shows the model, if it says."""
    preprocess = preprocess.get("image_processor") or preprocess
    for key in ("crop_size", "size"):
        size = preprocess.get(key)
        if isinstance(size, Mapping) and size.get("height") and size.get("height") == size.get("width"):
            return int(size["height"])
    return None


def _made_for(network: Any) -> int:
    """Side of the images a model was made for, by its config."""
    config = network.config
    size = getattr(config, "image_size", None) or int(config.num_patches**0.5) * config.patch_size
    return int(size if isinstance(size, int) else size[0])
