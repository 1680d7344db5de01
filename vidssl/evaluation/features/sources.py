"""What is computed from clips: features of an encoder by pooling and layer, or a baseline that needs none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from vidssl.errors import check_value
from vidssl.models.encoder import VideoEncoder
from vidssl.models.patches.strides import layers_of


class Kind(NamedTuple):
    """One kind of features of a clip.

    Attributes:
        pooling: ``clip`` (D,), the encoder's own; ``unit`` (D,), the mean of the unit-length frame features: the order of
            CLIP's zero-shot evaluation of video; ``frames`` (T, D); ``patches`` (T, h, w, W); ``motion``, see `motion_energy`.
        layer: of patches, counted from 0; None for the last, after the final norm.
    """

    pooling: str
    layer: int | None = None

    @property
    def is_pooled(self) -> bool:
        """Whether it is one row a clip, of which means are taken."""
        return self.pooling in ("clip", "unit", "motion")


CLIP, UNIT, FRAMES, MOTION = (Kind(name) for name in ("clip", "unit", "frames", "motion"))
Run = Callable[[Tensor], Mapping[Kind, Tensor]]


@dataclass(frozen=True)
class Source:
    """Where features come from.

    Attributes:
        name: what they are called in a `FeatureSet`; those of kind `UNIT` with ``/unit`` behind it.
        digest: 64 hexadecimal digits of all that decides them, but for the clips.
        needed: what of them is asked for.
        run: clips (B, 3, T, H, W) -> (B, …) of each kind, of these and of those that come along for nothing.
    """

    name: str
    digest: str
    needed: tuple[Kind, ...]
    run: Run

    def title(self, kind: Kind) -> str:
        """What the features of a kind are called."""
        return f"{self.name}/unit" if kind == UNIT else self.name


def encoder_source(encoder: VideoEncoder, name: str, kinds: Sequence[Kind] = (CLIP, UNIT)) -> Source:
    """The features of an encoder in evaluation mode; those that are pooled and those of frames always come along.

    Raises:
        VidsslError: for a layer that it does not have.
    """
    inner = sorted({kind.layer for kind in kinds if kind.layer is not None})
    if inner:
        count = len(layers_of(encoder))
        for layer in inner:
            check_value("layer", layer, 0 <= layer < count, f"from 0 to {count - 1}")
    last = Kind("patches") in kinds

    def run(clips: Tensor) -> dict[Kind, Tensor]:
        found = encoder(clips, patches=last)
        frames = found.frames.float()
        unit = reduce(F.normalize(frames, dim=-1), "b t d -> b d", "mean")
        outputs = {CLIP: found.clip.float(), UNIT: unit, FRAMES: frames}
        if last:
            outputs[Kind("patches")] = found.patches.float()
        for layer in inner:
            outputs[Kind("patches", layer)] = encoder.layer_map(clips, layer).float()
        return outputs

    return Source(name, encoder_digest(encoder), tuple(kinds), run)


def motion_source() -> Source:
    """Motion energy, the baseline."""
    return Source("motion", _digest({"motion energy": [8, 4]}).hexdigest(), (MOTION,), _motion)


def _motion(clips: Tensor) -> dict[Kind, Tensor]:
    return {MOTION: motion_energy(clips)}


def motion_energy(clips: Tensor, grid: int = 8, slices: int = 4) -> Tensor:
    """Baseline without learning: where and when pixels change.

    (B, 3, T, H, W) clips -> (B, slices · grid²): absolute differences of successive grey frames, averaged over a grid of
    cells and over slices of the clip. A data set whose classes this tells apart needs little understanding.
    """
    grey = reduce(clips.float(), "b c t h w -> b t h w", "mean")
    if grey.shape[1] < 2:
        return grey.new_zeros(len(grey), slices * grid * grid)
    change = rearrange((grey[:, 1:] - grey[:, :-1]).abs(), "b t h w -> b 1 t h w")
    pooled = F.adaptive_avg_pool3d(change, (slices, grid, grid))
    return rearrange(pooled, "b 1 s h w -> b (s h w)")


def encoder_digest(encoder: VideoEncoder) -> str:
    """SHA-256 (hex) over what an encoder is and all of its weights and buffers, not over where they came from.

    The text tower does not count: no feature of a clip depends on it.
    """
    spec = {key: value for key, value in encoder.spec.items() if key not in ("pretrained", "sampling")}
    found = _digest(
        [type(encoder).__qualname__, spec, encoder.mean, encoder.std, encoder.chunk_frames, encoder.embed_dim]
    )
    for name, tensor in sorted(encoder.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return str(found.hexdigest())


def _digest(said: Any) -> Any:
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
