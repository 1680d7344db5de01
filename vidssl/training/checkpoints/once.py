"""What stands once in a run, in its untrained encoder (``initial/``), and not in every checkpoint: the text tower, and what is frozen.

It is known there by a digest, so that another one in its place is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.files import sha256
from vidssl.models.encoder import VideoEncoder
from vidssl.models.stored import MODEL, is_exported, read_config
from vidssl.models.weights import read_tensors
from vidssl.runs import INITIAL

PLACE = f"../../../{INITIAL}"  # as it is found from a checkpoint's encoder


def without_rest(
    run: Path, tensors: dict[str, Tensor], shared: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    """What of an encoder's weights is to be written, and where the rest is: what is frozen is in the run's untrained encoder.

    All of it is written where the rest is less than half, or not (any more) what it was when the run began.
    """
    frozen = {name.removeprefix("encoder.") for name in shared}
    own = {name: x for name, x in tensors.items() if name not in frozen}
    file = run / INITIAL / MODEL
    if _bytes(own) * 2 > _bytes(tensors) or not file.is_file():
        return tensors, None
    try:
        known = read_tensors(file)
    except VidsslError:  # damaged: that must not cost this checkpoint
        return tensors, None
    if not all(name in known and torch.equal(known[name], tensors[name]) for name in frozen):
        return tensors, None
    return own, {"folder": PLACE, "sha256": sha256(file)}


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(x.nbytes for x in tensors.values())


def text_in_initial(run: Path, encoder: VideoEncoder) -> str | None:
    """From a checkpoint's encoder to the run's untrained one, where that has the same text tower."""
    if encoder.text is None or not is_exported(run / INITIAL):
        return None
    text = read_config(run / INITIAL)["text"]
    same = text is not None and text["fingerprint"] == encoder.text.fingerprint
    return PLACE if same else None
