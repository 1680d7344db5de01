"""Whether an export computes what its original does: on the same clips, one by one and together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.exporting.formats.form import Loaded
from vidssl.models.encoder import VideoEncoder

# Share of the largest number of the original's features by which an export's may differ.
TOLERANCE = 1e-5
TEXTS = ("a video of a person juggling", "two dogs", "")


@dataclass(frozen=True)
class Agreement:
    """How an export compares with its original, as largest absolute differences.

    Attributes:
        clip, frames: of clip and frame features, over the clips together and the first by itself.
        text: of text features; None where there are none on either side.
        largest: absolute value among the original's features of clips and frames.
        between: how far the features of two clips are apart at most. If they are not, the check shows little.
    """

    clip: float
    frames: float
    text: float | None
    largest: float
    between: float

    @property
    def record(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@torch.no_grad()
def check(encoder: VideoEncoder, loaded: Loaded, clips: Tensor, what: str) -> Agreement:
    """Compare an export with its original.

    Args:
        encoder: the original, in evaluation mode.
        loaded: the export, read back.
        clips: (B, 3, T, H, W), more than are in the batch that it was made with.
        what: the export, for the error.

    Raises:
        VidsslError: when features differ by more than `TOLERANCE`, have another shape, or are not finite.
    """
    own = encoder(clips)
    if not all(bool(x.isfinite().all()) for x in (own.clip, own.frames)):
        raise VidsslError(f"{encoder.spec['name']}: its features of the check's clips are not finite")
    largest = max(own.clip.abs().max().item(), own.frames.abs().max().item())
    differences = {"clip": 0.0, "frames": 0.0}
    for count in (len(clips), 1):
        # The original by itself too: its kernels may sum in another order for another number of clips.
        wanted = own if count == len(clips) else encoder(clips[:count])
        for name, given in zip(differences, loaded.encode(clips[:count]), strict=True):
            difference = _difference(getattr(wanted, name), given, f"{what}: {name} features")
            differences[name] = max(differences[name], difference)
            _require(difference, largest, f"{what}: {name} features of {count} clips")
    text = None
    if loaded.texts is not None:
        assert encoder.text is not None
        wanted_text = encoder.text.encode(TEXTS)
        text = _difference(wanted_text, loaded.texts(TEXTS), f"{what}: text features")
        _require(text, wanted_text.abs().max().item(), f"{what}: text features")
    return Agreement(**differences, text=text, largest=largest, between=apart(own.clip))


def apart(features: Tensor) -> float:
    """How far two rows of (B, D) are apart at most, in one number of the D."""
    return (features.amax(0) - features.amin(0)).max().item()


def _difference(wanted: Tensor, given: Tensor, what: str) -> float:
    if given.shape != wanted.shape:
        raise VidsslError(f"{what} are {tuple(given.shape)} instead of the original's {tuple(wanted.shape)}")
    return (given.float() - wanted).abs().max().item()


def _require(difference: float, largest: float, what: str) -> None:
    if not difference <= TOLERANCE * largest:  # nor a nan
        raise VidsslError(
            f"{what} differ from the original's by {difference:.2g}, of up to {largest:.2g} "
            f"(allowed: {TOLERANCE * largest:.2g}); nothing was written"
        )
