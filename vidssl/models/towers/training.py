"""Checkpoints of training programs (DINO, SVT, VideoMAE, TimeSformer): the encoder in them, and what was left out.

    {"teacher": {"module.backbone.blocks.0.attn.qkv.weight": …, "module.head.mlp.0.weight": …}, "student": …, "args": …}

is an encoder under `teacher`, with `module.backbone.` before its names, and a projection head that no feature needs. Nothing in such a
file is executed, see `read_wrapped`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.weights import first_of, read_wrapped

# What training programs, and transformers around models of timm, put before the names of the encoder's weights, and what
# stands beside the encoder then.
_BEFORE = ("backbone.", "timm_model.", "encoder.", "model.")
_BESIDE = re.compile(r"(head|decoder|encoder_to_decoder|predictor|projector)\.|mask_token$")
_PATCHES = "patch_embed.proj.weight"  # what such programs call the first weight of a transformer


class Training(NamedTuple):
    """The encoder's weights by the names its class has in the training program, and the record of where they were.

    record: `under` and `prefix`, where they were; `left_out`, what was beside them, with numbers of blocks as ``*``.
    """

    tensors: dict[str, Tensor]
    record: dict[str, Any]


def read_training(file: Path) -> Training:
    """Read the encoder in a checkpoint; a plain file of weights is one without wrapper, prefix and heads.

    Raises:
        VidsslError: as `read_tensors`, and for weights beside the encoder that are none of a head or decoder.
    """
    tensors, under = read_wrapped(file)
    prefix, beside = "", dict[str, Tensor]()
    while inner := next((before for before in _BEFORE if _stands_before(before, tensors)), ""):
        prefix += inner
        beside |= {key: value for key, value in tensors.items() if not key.startswith(inner)}
        tensors = {key.removeprefix(inner): value for key, value in tensors.items() if key.startswith(inner)}
    if strange := sorted(key for key in beside if not _BESIDE.match(key)):
        raise VidsslError(
            f"{file}: the encoder is under {prefix!r}, and beside it is what belongs to no head or decoder: {first_of(strange)}"
        )
    return Training(tensors, {"under": "/".join(under), "prefix": prefix, "left_out": patterns(beside)})


def _stands_before(prefix: str, tensors: Mapping[str, Tensor]) -> bool:
    if prefix in ("backbone.", "timm_model."):
        return any(key.startswith(prefix) for key in tensors)
    return f"{prefix}{_PATCHES}" in tensors or f"{prefix}backbone.{_PATCHES}" in tensors


def patterns(names: Any) -> list[str]:
    """Names of weights with every number as ``*``, each once."""
    return sorted({re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names})


def lines_of(record: Mapping[str, Any]) -> list[str]:
    """A record for a person: where the encoder was, what became of its weights, what was left out."""
    place = "".join(f"{part}: " for part in (record["under"],) if part) + (
        record["prefix"] or "the names as they are"
    )
    lines = [f"weights read from {place}"]
    lines += [f"  {theirs} -> {ours}" for theirs, ours in record.get("mapped", {}).items() if theirs != ours]
    if record["left_out"]:
        lines.append(f"left out: {', '.join(record['left_out'])}")
    return lines
