"""What stands in a model's folder or hub repository: config, how frames are normalised, weights. Nothing in it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.files import read_json
from vidssl.models.sources import hub_file
from vidssl.models.weights import read_tensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
# What says how a model is kept or fetched, not what it computes.
_STORAGE = (
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "quantization_config",
    "id2label",
    "label2id",
)


@dataclass(frozen=True)
class Package:
    """A model of transformers as it is kept.

    source: as given. config: of the model. preprocess: of its frames, empty where nothing says. weights: files, none where
    there are none. other: files of weights that are no safetensors.
    """

    source: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: tuple[Path, ...]
    other: tuple[str, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """The weights.

        Raises:
            VidsslError: when there are none, or none in safetensors, or they are damaged.
        """
        if not self.weights and self.other:
            raise VidsslError(
                f"{self.source}: has its weights in {self.other[0]} only, and models of transformers are read from safetensors, which "
                "cannot execute code; save them with save_pretrained, or take a revision that has model.safetensors"
            )
        if not self.weights:
            raise VidsslError(f"{self.source}: has a {CONFIG} and no weights (expected: {WEIGHTS})")
        found: dict[str, Tensor] = {}
        for file in self.weights:
            found |= read_tensors(file)
        return found


def is_package(folder: Path) -> bool:
    """Whether a folder holds a model of transformers."""
    file = folder / CONFIG
    try:
        return file.is_file() and "model_type" in read_json(file)
    except VidsslError:
        return False


def read_package(source: str, weights: bool = True) -> Package:
    """Read a folder, or a repository of the hub, which is downloaded where it is not in the cache.

    Args:
        source: a folder, or ``org/name``.
        weights: False looks for none.

    Raises:
        VidsslError: when it is not there or cannot be reached, its config is none, or wants code of its own.
    """
    folder = Path(source).expanduser()
    get = _in_folder(folder) if folder.is_dir() else _in_hub(source, folder)
    file = get(CONFIG)
    if file is None:
        raise VidsslError(f"{source}: has no {CONFIG}")
    config = read_json(file)
    if config.get("auto_map"):
        raise VidsslError(
            f"{source}: wants code of its repository to be run ({CONFIG}: auto_map), which is refused; models that transformers itself "
            "has need none"
        )
    if "model_type" not in config and "architecture" in config:
        raise VidsslError(
            f"{source}: a model of timm; name it timm/{config['architecture']}, with its weights as pretrained (hf-hub:ORG/NAME or a file)"
        )
    if "model_type" not in config:
        raise VidsslError(f"{file}: not the config of a model of transformers (it has no model_type)")
    preprocess = next((read_json(found) for name in PREPROCESSORS if (found := get(name))), {})
    kept = {key: value for key, value in config.items() if key not in _STORAGE}
    if not weights:
        return Package(source, kept, preprocess, ())
    files: tuple[Path, ...] = ()
    if (single := get(WEIGHTS)) is not None:
        files = (single,)
    elif (index := get(INDEX)) is not None:
        names = sorted({Path(str(name)).name for name in read_json(index).get("weight_map", {}).values()})
        shards = {name: get(name) for name in names}
        if missing := [name for name, shard in shards.items() if shard is None]:
            raise VidsslError(f"{source}: {INDEX} names {missing[0]}, which is not there")
        files = tuple(shard for shard in shards.values() if shard is not None)
    other = () if files else ("pytorch_model.bin",) if get("pytorch_model.bin") else _others(folder)
    return Package(source, kept, preprocess, files, other)


def _others(folder: Path) -> tuple[str, ...]:
    return tuple(
        sorted(file.name for kind in ("*.bin", "*.pt", "*.h5", "*.msgpack") for file in folder.glob(kind))
    )


def _in_folder(folder: Path) -> Any:
    def get(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    return get


def _in_hub(source: str, folder: Path) -> Any:
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise VidsslError(
            f"transformers/{source}: no such folder, and no repository of the hub (expected: a folder with a {CONFIG}, or ORG/NAME)"
        )
    reached = False

    def get(name: str) -> Path | None:
        nonlocal reached
        try:
            found = hub_file(source, name)
        except VidsslError:
            if not reached:
                raise
            return None
        reached = True
        return found

    return get


def statistics(preprocess: Mapping[str, Any], default: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that frames in [0, 1] are normalised with, from the config of an image or video processor.

    A processor computes (255 f x - o - m) / s, with its `rescale_factor` f, its `offset` o (0 or 1), `image_mean` m and
    `image_std` s; what it leaves out counts as f = 1 / 255, o = 0 (1 for ViViT's), m = 0 and s = 1.

    Args:
        preprocess: the config; empty for `default`.
        default: mean and std.
    """
    for inner in ("video_processor", "image_processor"):
        if isinstance(preprocess.get(inner), Mapping):
            preprocess = preprocess[inner]
            break
    if "image_mean" not in preprocess and "do_normalize" not in preprocess:
        return tuple(default[0]), tuple(default[1])
    rescales = preprocess.get("do_rescale", True)
    factor = 255 * float(preprocess.get("rescale_factor", 1 / 255)) if rescales else 255.0
    names = (preprocess.get(key, "") for key in ("video_processor_type", "image_processor_type"))
    offset = float(preprocess.get("offset", any("Vivit" in name for name in names))) if rescales else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if preprocess.get("do_normalize", True):
        mean, std = (list(preprocess[key]) for key in ("image_mean", "image_std"))
    return tuple((m + offset) / factor for m in mean), tuple(s / factor for s in std)
