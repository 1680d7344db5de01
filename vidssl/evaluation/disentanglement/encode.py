"""Codes of clips with known factors: of the encoder, of its untrained twin, and of the encoder shown less.

What a video encoder may owe to single frames is measured by itself: `FRAME` is a clip that stands still at frame 0, `BAG`
the mean over the frames of such still clips, which knows all frames and not their order, `SHUFFLED` the clip with its frames
in random order. An encoder that looks at each frame alone has the last two by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidssl import distributed
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.disentanglement.clips import Clips
from vidssl.evaluation.disentanglement.information import Floats, Ints
from vidssl.evaluation.setup import Subject
from vidssl.evaluation.temporal.ways import shuffled, still_frames

ENCODER, UNTRAINED = "encoder", "untrained"
FRAME, BAG, SHUFFLED = "frame 0 alone", "mean of frames", "frames shuffled"


@dataclass(frozen=True)
class Encoded:
    """Codes of the clips that could be read and encoded.

    Attributes:
        codes: name -> (N, d) float32, all of the same clips.
        rows: (N,) which of the clips these are.
        failures: the others.
    """

    codes: dict[str, NDArray[np.float32]]
    rows: Ints
    failures: tuple[FailedVideo, ...]


@torch.inference_mode()
def encode_clips(subject: Subject, clips: Clips, seed: int = 0) -> Encoded:
    """Encode every clip in all ways; with several processes each does its share and all return everything.

    Args:
        subject: the encoder, and its untrained twin, None leaves it out.
        seed: of the order of shuffled frames, which depends on it and on the clip alone.

    Raises:
        VidsslError: when codes are finite for none of the clips.
    """
    numbers: list[int] = []
    found: dict[str, list[NDArray[np.float32]]] = {}
    failures: list[FailedVideo] = []
    for shown in clips.shown(subject):
        numbers += shown.numbers
        failures += shown.failures
        for name, batch in _codes(subject, shown.clips, shown.numbers, seed).items():
            found.setdefault(name, []).append(batch.float().cpu().numpy())
    parts = [part for part in distributed.gather_objects((numbers, found, failures)) if part[0]]
    order = np.argsort(np.concatenate([np.asarray(part[0]) for part in parts]))
    codes = {
        name: np.concatenate([rows for part in parts for rows in part[1][name]])[order]
        for name in parts[0][1]
    }
    return _without_broken(
        codes, [failure for part in parts for failure in part[2]], clips, str(subject.path)
    )


def _codes(subject: Subject, clips: Tensor, numbers: Sequence[int], seed: int) -> dict[str, Tensor]:
    encoder = subject.encoder
    features = encoder(clips)
    codes = {ENCODER: features.clip}
    if subject.untrained is not None:
        codes[UNTRAINED] = subject.untrained(clips).clip
    still = still_frames(encoder, clips, features)
    alone = still is features.frames
    mixed = features.clip if alone else encoder(shuffled(clips, numbers, seed)).clip
    return {**codes, SHUFFLED: mixed, BAG: still.mean(dim=1), FRAME: still[:, 0]}


def _without_broken(
    codes: dict[str, NDArray[np.float32]], failures: list[FailedVideo], clips: Clips, source: str
) -> Encoded:
    """Leave out clips that could not be read, or of which any code is not finite."""
    count = len(clips.table.values)
    usable = np.ones(count, dtype=bool)
    usable[[failure.video_id for failure in failures]] = False
    for number in range(count):
        broken = [name for name, rows in codes.items() if not np.isfinite(rows[number]).all()]
        if usable[number] and broken:
            usable[number] = False
            reason = f"codes are not finite ({', '.join(broken)})"
            failures.append(FailedVideo(number, str(clips.table.paths[number]), reason))
    if not usable.any():
        failures.sort(key=lambda failure: failure.video_id)
        raise VidsslError(
            f"{source}: none of {counted(count, 'clip')} has codes; {failures[0].path}: {failures[0].reason}"
        )
    failures.sort(key=lambda failure: failure.video_id)
    return Encoded(
        {name: rows[usable] for name, rows in codes.items()}, np.flatnonzero(usable), tuple(failures)
    )


def rotated(codes: Floats | NDArray[np.float32], seed: int = 0) -> Floats:
    """Codes (N, d) in a random orthogonal basis: the same information, spread over all dimensions."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(codes.shape[1], codes.shape[1])))
    turned: Floats = codes.astype(np.float64) @ basis
    return turned
