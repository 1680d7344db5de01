"""Reading weights and putting them into modules, loudly: what does not fit is an error that lists the keys."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct, scalar
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.positions import resample_table

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".pyth")
# Under what training programs keep the weights of a model in their checkpoints.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "teacher")
# Command lines, which training programs keep beside their weights, and what numpy's numbers are pickled as, before its
# version 2 and since: they hold data and run nothing.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefdgFDSU"),
    *(
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for core in ("core", "_core")
        for function in (scalar, _reconstruct)
    ),
]
# What the plain CLIP layout keeps at top level and the one with a separate text tower keeps under `text.`.
_TEXT_KEYS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
# Numbers that OpenAI's own files store among the tensors.
_OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")
# A range of numbers that text models of transformers kept among their weights until version 4.31.
_OLD_BUFFER = "transformer.embeddings.position_ids"
_POSITIONS, _TIMM_POSITIONS = "visual.positional_embedding", "visual.trunk.pos_embed"


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint on the CPU; nothing in the file is executed.

    Args:
        file: ``.safetensors``, or a pickle of tensors (``.pt``, ``.pth``, ``.bin``, ``.pyth``) read with
            `weights_only=True`; numpy's scalars and arrays and command lines beside the tensors do no harm. A dictionary under one of
            `WRAPPERS` is unwrapped. What `torch.compile` (``_orig_mod.``) and `DistributedDataParallel` (``module.`` on
            every key) put into names is removed.

    Raises:
        VidsslError: for a missing file, another type, damage, a pickle of other objects, or several such dictionaries.
    """
    return read_wrapped(file)[0]


def read_state(file: Path) -> dict[str, Tensor]:
    """`read_tensors` of a safetensors file of ours, or, where it was written in parts by several processes into a folder of its
    name (without ``.safetensors``), of these put together.

    Raises:
        VidsslError: as `read_tensors`.
    """
    folder = file.with_suffix("")
    if file.is_file() or not folder.is_dir():
        return read_tensors(file)
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(
        str(folder)
    )  # which reads nothing but safetensors, and executes nothing
    try:
        found: dict[str, Any] = reader.read_metadata().state_dict_metadata
        tensors = {name: torch.empty(x.size, dtype=x.properties.dtype) for name, x in found.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one process reads alone
            load(tensors, storage_reader=reader, no_dist=True)
    except (OSError, ValueError, KeyError, SafetensorError, CheckpointException) as error:
        raise VidsslError(f"{folder}: cannot be read: {str(error).splitlines()[0]}") from error
    return tensors


def read_wrapped(file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """`read_tensors`, and under which of `WRAPPERS` they were, outermost first."""
    if not file.is_file():
        raise VidsslError(f"{file}: no such checkpoint file")
    if file.suffix not in SUFFIXES:
        raise VidsslError(f"{file}: a checkpoint must be one of {', '.join(SUFFIXES)}")
    data = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    if file.suffix == ".safetensors" and not data:
        return {}, ()  # of modules without parameters
    data, under = _unwrapped(data, file)
    tensors = {str(key).replace("_orig_mod.", ""): x for key, x in data.items() if isinstance(x, Tensor)}
    while all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors, under


def _unwrapped(data: Any, file: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The dictionary of tensors in what a checkpoint file holds, and the names it was under."""
    under: tuple[str, ...] = ()
    while isinstance(data, Mapping):
        inner = [key for key in WRAPPERS if isinstance(data.get(key), Mapping)]
        if not inner and any(isinstance(value, Tensor) for value in data.values()):
            return data, under
        if not inner:
            break
        if len(inner) > 1:
            raise VidsslError(
                f"{file}: holds several models ({', '.join(inner)}); save the one that is meant to a file of its own"
            )
        data, under = data[inner[0]], (*under, inner[0])
    found = f"only {first_of([str(key) for key in data])}" if isinstance(data, Mapping) and data else "none"
    raise VidsslError(
        f"{file}: holds no dictionary of tensors, at the top or under {', '.join(WRAPPERS)} (found: {found})"
    )


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise VidsslError(f"{file}: cannot be read as safetensors ({error})") from None


def _read_pickle(file: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            # Of TorchScript archives, which end in an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise VidsslError(f"{file}: {_unreadable(str(error))}") from None


def _unreadable(reason: str) -> str:
    """What is wrong with a pickle, in a sentence, without torch's advice to load it all the same."""
    refused = re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", reason)
    if refused:
        return (
            f"holds {refused[1]} beside its tensors; such objects are refused because loading them can execute code; "
            "save the tensors alone: torch.save(model.state_dict(), FILE)"
        )
    if "TorchScript" in reason:
        return "is a TorchScript archive, which is refused because loading it can execute code; save the state_dict"
    said = re.search(r"PytorchStreamReader failed ([^.]+)", reason)
    return f"is damaged, or no file of tensors{f' ({said[1]})' if said else ''}"


def mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How `given` differs from the wanted tensors `own`, with shortened lists of keys; empty when it does not."""
    missing = sorted(own.keys() - given.keys())
    unexpected = sorted(given.keys() - own.keys())
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & given.keys())
        if given[key].shape != own[key].shape
    ]
    if own and len(missing) == len(own):
        return f"not one of the {len(own)} tensors is in it (it has {first_of(unexpected)})"
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(keys)} {kind} ({first_of(keys)})" for kind, keys in kinds if keys)


def first_of(keys: Sequence[str], number: int = 5) -> str:
    """``a, b, … 3 more``."""
    return ", ".join(keys[:number]) + (f", … {len(keys) - number} more" if len(keys) > number else "")


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], source: str, hint: str = "") -> None:
    """`load_state_dict` whose error is one line; that of weights which do not fit ends in `hint`.

    Raises:
        VidsslError: naming `source` and the missing, unexpected and differently shaped keys, or those that hold a nan or
            an infinity: what a diverged training or a damaged file leaves behind.
    """
    difference = mismatch(module.state_dict(), tensors)
    if difference:
        raise VidsslError(f"{source}: weights do not fit: {difference}{hint}")
    broken = sorted(key for key, value in tensors.items() if not bool(value.isfinite().all()))
    if broken:
        raise VidsslError(
            f"{source}: {len(broken)} of {len(tensors)} tensors are not finite ({first_of(broken)}); the training has "
            "diverged, or the file is damaged"
        )
    module.load_state_dict(dict(tensors))


def load_clip_weights(
    visual: nn.Module,
    text: nn.Module | None,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    quick_gelu: bool,
    resize: bool,
) -> tuple[float | None, float | None]:
    """Load an open_clip state dict, of either layout, into an image tower and possibly a text tower.

    Args:
        visual: image tower.
        text: text tower; None drops the text weights.
        tensors: ``visual.*``, ``text.*`` (or the plain layout's names), ``logit_scale``, ``logit_bias``.
        source: named in errors.
        quick_gelu: whether the towers use QuickGELU, which weights in OpenAI's own format need.
        resize: interpolate the position embedding of an image tower made for another image size.

    Returns:
        (logit_scale, logit_bias), None where absent.

    Raises:
        VidsslError: when keys or shapes differ, or OpenAI weights meet towers without QuickGELU.
    """
    if any(key in tensors for key in _OPENAI_KEYS) and not quick_gelu:
        raise VidsslError(
            f"{source}: OpenAI weights need QuickGELU, which this architecture does not use; take the '-quickgelu' one"
        )
    given = {
        f"text.{key}" if key.startswith(_TEXT_KEYS) else key: value
        for key, value in tensors.items()
        if key not in _OPENAI_KEYS
    }
    scale, bias = (given.pop(key, None) for key in ("logit_scale", "logit_bias"))
    if text is None or _OLD_BUFFER not in text.state_dict():
        given.pop(f"text.{_OLD_BUFFER}", None)
    if text is None:
        given = {key: value for key, value in given.items() if not key.startswith("text.")}
    if resize:
        resize_positions(visual, given)
    towers = nn.ModuleDict({"visual": visual} if text is None else {"visual": visual, "text": text})
    load_strict(towers, given, source, _hint(towers.state_dict(), given))
    return None if scale is None else float(scale), None if bias is None else float(bias)


def _hint(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Which option helps where positions or the text tower alone do not fit."""
    of_one = own.keys() ^ given.keys()
    shapes = [key for key in own.keys() & given.keys() if own[key].shape != given[key].shape]
    if of_one and all(key.startswith("text.") for key in of_one):
        return "; load_text=False loads the image tower only"
    if not of_one and shapes in ([_POSITIONS], [_TIMM_POSITIONS]):
        return "; image_size= interpolates the position embedding"
    return ""


def resize_positions(visual: nn.Module, given: dict[str, Tensor]) -> None:
    """Interpolate the patch positions of the weights (a square grid after the prefix tokens) to the tower's grid."""
    trunk: Any = getattr(visual, "trunk", None)
    if _POSITIONS in given:
        key, bare, grid = _POSITIONS, 1, getattr(visual, "grid_size", None)
    else:
        key, grid = _TIMM_POSITIONS, getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
        bare = 0 if getattr(trunk, "no_embed_class", False) else getattr(trunk, "num_prefix_tokens", 0)
    if grid is None or key not in given:
        return
    table = given[key].float().reshape(-1, given[key].shape[-1])
    side = int((len(table) - bare) ** 0.5)
    if side * side == len(table) - bare:
        patches = resample_table(table[bare:], (side, side), (int(grid[0]), int(grid[1])))
        resized = torch.cat([table[:bare], patches])
        given[key] = resized.reshape(*given[key].shape[:-2], *resized.shape)
