"""From the names users know (architecture, tag, file, `local-dir:`, `hf-hub:`) to a config and a weights file."""

from __future__ import annotations

import copy
import json
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vidssl.errors import VidsslError, did_you_mean
from vidssl.files import read_json
from vidssl.models.stored import find_encoder, read_config
from vidssl.models.weights import SUFFIXES, first_of

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
LOCAL, HUB = "local-dir:", "hf-hub:"
# Fields of a config that change training or the initial values only, not what the weights compute.
_TRAINING_FIELDS = (
    "patch_dropout",
    "timm_model_pretrained",
    "hf_model_pretrained",
    "timm_drop",
    "timm_drop_path",
)


@dataclass(frozen=True)
class Source:
    """An architecture and, possibly, its weights.

    name: as given; model_cfg: open_clip's; mean, std: of the preprocessing (None: CLIP's); weights: file to load, or
    folder of an exported encoder, None for random values; pretrained: where the weights come from, for the record;
    folder: of a local model.
    """

    name: str
    model_cfg: dict[str, Any]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: Path | None = None
    pretrained: str | None = None
    folder: Path | None = None


def resolve(name: str, pretrained: str | None, *, load_weights: bool, any_size: bool) -> Source:
    """Find what `name` and `pretrained` stand for.

    Args:
        name: an open_clip architecture, ``local-dir:/path`` or ``hf-hub:org/repo``; the latter two bring their weights.
        pretrained: None, an open_clip tag of that architecture, a checkpoint file, ``local-dir:`` or ``hf-hub:``, or a run,
            checkpoint or exported encoder of ours.
        load_weights: False forgets the weights that a ``local-dir:`` or ``hf-hub:`` name brings.
        any_size: whether a config of another image size counts as the same architecture.

    Raises:
        VidsslError: for unknown names and tags, unreadable or differing configs, and hubs out of reach.
    """
    if name.startswith((LOCAL, HUB)):
        base = _packaged(name, need_weights=load_weights and pretrained is None)
        if not load_weights:
            base = replace(base, weights=None, pretrained=None)
    else:
        base = Source(name, _builtin_config(name))
    if pretrained is None:
        return base
    folder = Path(pretrained.removeprefix(LOCAL)).expanduser()
    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        return _stored(base, pretrained, folder, any_size)
    if folder.is_dir() or pretrained.startswith((LOCAL, HUB)):
        other = _packaged(f"{LOCAL}{folder}" if folder.is_dir() else pretrained, need_weights=True)
        _same_architecture(base, other, any_size)
        return replace(other, name=name, model_cfg=base.model_cfg, pretrained=pretrained)
    if Path(pretrained).suffix in SUFFIXES or "/" in pretrained or Path(pretrained).is_file():
        return replace(base, weights=Path(pretrained).expanduser(), pretrained=pretrained)
    if name.startswith((LOCAL, HUB)):
        raise VidsslError(
            f"pretrained: {pretrained!r}: {name} has no tags; give a checkpoint file or leave it out"
        )
    return _tagged(base, pretrained)


def _builtin_config(name: str) -> dict[str, Any]:
    import open_clip

    config = open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        known = open_clip.list_models()
        raise VidsslError(
            f"model name {name!r}: no such architecture{did_you_mean(name, known)} (allowed: one of open_clip's "
            f"{len(known)} names such as 'ViT-B-16', 'local-dir:/path', 'hf-hub:org/repo', 'pytorchvideo/<network>' or 'conv3d/<network>')"
        )
    return dict(config)


def _tagged(base: Source, tag: str) -> Source:
    import open_clip
    from open_clip import pretrained

    name = base.name.replace("/", "-")
    entry = pretrained.get_pretrained_cfg(name, tag)
    if not entry:
        known = pretrained.list_pretrained_tags_by_model(name)
        raise VidsslError(
            f"pretrained: {tag!r}: neither a file nor a tag of {name}{did_you_mean(tag, known)} "
            f"(tags: {', '.join(known) or 'none'})"
        )
    quick_gelu = bool(entry.get("quick_gelu", False))
    if quick_gelu != bool(base.model_cfg.get("quick_gelu", False)):
        other = f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
        hint = f"; did you mean {other!r}?" if other in open_clip.list_models() else ""
        raise VidsslError(
            f"pretrained: {tag!r}: these weights were trained {'with' if quick_gelu else 'without'} QuickGELU, "
            f"{name} computes {'without' if quick_gelu else 'with'} it{hint}"
        )
    if entry.get("hf_hub"):
        repo, _, file = entry["hf_hub"].rpartition("/")
        weights = hub_file(repo, *([file] if file else WEIGHTS_FILES))
    else:
        try:
            weights = Path(pretrained.download_pretrained_from_url(entry["url"]))
        except (OSError, RuntimeError) as error:
            raise VidsslError(f"{entry['url']}: could not be downloaded ({error})") from None
    mean, std = tuple(entry["mean"]), tuple(entry["std"])
    return replace(base, weights=weights, pretrained=tag, mean=mean, std=std)


def _packaged(name: str, need_weights: bool) -> Source:
    """A folder or hub repository with its config and weights."""
    weights: Path | None = None
    folder: Path | None = None
    if name.startswith(LOCAL):
        folder = Path(name.removeprefix(LOCAL)).expanduser()
        if not folder.is_dir():
            raise VidsslError(
                f"{name}: no such folder; expected one of open_clip's form ({CONFIG_FILE} and weights), as `vidssl demo` leaves in demo/clip"
            )
        config_file = folder / CONFIG_FILE
        weights = next((folder / file for file in WEIGHTS_FILES if (folder / file).is_file()), None)
        if need_weights and weights is None:
            raise VidsslError(f"{name}: nothing to load: no {' or '.join(WEIGHTS_FILES)} in the folder")
    else:
        config_file = hub_file(name.removeprefix(HUB), CONFIG_FILE)
        if need_weights:
            weights = hub_file(name.removeprefix(HUB), *WEIGHTS_FILES)
    config, preprocess = _read_config(config_file)
    mean, std = (tuple(preprocess[key]) if preprocess.get(key) else None for key in ("mean", "std"))
    return Source(name, config, mean, std, weights, name if weights else None, folder)


def _stored(base: Source, pretrained: str, folder: Path, any_size: bool) -> Source:
    """The weights of an encoder of ours, which has to be of the architecture of `base`."""
    weights = find_encoder(folder)
    spec = read_config(weights)["spec"]
    try:
        mean, std = (tuple(spec["preprocess"][key]) for key in ("mean", "std"))
        other = Source(pretrained, spec["model_cfg"], mean, std, weights, pretrained)
    except (KeyError, TypeError):
        family = spec.get("family") if isinstance(spec, dict) else None
        raise VidsslError(f"{pretrained}: an encoder of another family ({family}) than {base.name}") from None
    _same_architecture(base, other, any_size)
    return replace(other, name=base.name, model_cfg=base.model_cfg)


def _read_config(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` of an open_clip config file."""
    if not file.is_file():
        raise VidsslError(f"{file}: no such file; a model folder needs its {CONFIG_FILE}")
    data = read_json(file)
    config = data.get("model_cfg")
    if not isinstance(config, dict):
        raise VidsslError(f"{file}: not an open_clip config (it has no model_cfg)")
    wanted = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if wanted:
        raise VidsslError(f"{file}: model_cfg lacks {', '.join(wanted)}")
    return config, data.get("preprocess_cfg") or {}


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every architectural field of an open_clip model config with defaults filled in, as ``vision_cfg.width`` etc.

    Raises:
        VidsslError: for fields that open_clip does not know.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    flat: dict[str, Any] = {
        "embed_dim": config["embed_dim"],
        "quick_gelu": bool(config.get("quick_gelu", False)),
    }
    for section, schema in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        try:
            values = asdict(schema(**config[section]))
        except TypeError as error:
            raise VidsslError(f"model config: {section}: {error}") from None
        flat |= {f"{section}.{key}": value for key, value in values.items() if key not in _TRAINING_FIELDS}
    return json.loads(json.dumps(flat))  # type: ignore[no-any-return]  # tuples and lists compare equal


def _same_architecture(base: Source, other: Source, any_size: bool) -> None:
    ours, theirs = flat_config(base.model_cfg), flat_config(other.model_cfg)
    ignored = "vision_cfg.image_size" if any_size else None
    differing = [key for key in ours if ours[key] != theirs[key] and key != ignored]
    if differing:
        listing = first_of([f"{key} {theirs[key]!r} instead of {ours[key]!r}" for key in differing], 8)
        raise VidsslError(f"{other.name}: another architecture than {base.name}: {listing}")


def hub_file(repo: str, *names: str) -> Path:
    """The first of `names` that a Hugging Face repository has, from the local cache or downloaded into it.

    Raises:
        VidsslError: when the hub cannot be reached and nothing is cached, or the repository has none of the files.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    reachable = hub_reachable()
    for name in names:
        try:
            return Path(hf_hub_download(repo, name, local_files_only=not reachable))
        except EntryNotFoundError:  # there, or in the cache
            continue
        except (OSError, ValueError) as error:
            raise VidsslError(f"hf-hub:{repo}: {' '.join(str(error).split())[:200]}") from None
    wanted = " or ".join(names)
    if not reachable:
        raise VidsslError(
            f"hf-hub:{repo}: the Hugging Face hub cannot be reached and {wanted} is not in the local cache; connect, "
            "or give a local copy with local-dir:/path or a checkpoint file"
        )
    raise VidsslError(f"hf-hub:{repo}: the repository has no {wanted}")


def hub_reachable() -> bool:
    """Whether the hub's host has an address: without one, the hub's client would retry for half a minute per file."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def own_config(source: Source, image_size: int | None) -> dict[str, Any]:
    """The model config to build: a copy without patch dropout, which would tear a patch's frames apart."""
    config = copy.deepcopy(source.model_cfg)
    config["vision_cfg"]["patch_dropout"] = 0.0
    config["vision_cfg"]["timm_model_pretrained"] = False
    if image_size is not None:
        config["vision_cfg"]["image_size"] = image_size
    return config
