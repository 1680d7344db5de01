"""The student: an encoder and the heads of every objective in one module, so that one EMA copies all of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidssl.errors import VidsslError
from vidssl.models.batch_norm import is_frozen_norm
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.heads import HeadOutput


class StudentOutput(NamedTuple):
    """Per view: the encoder's features, and for each objective (by name) its head's output."""

    features: list[ClipFeatures]
    heads: dict[str, list[HeadOutput]]


class Student(nn.Module):
    """Encoder and heads.

    Args:
        encoder: clips to features.
        heads: objective name -> module from :class:`ClipFeatures` to :class:`HeadOutput`.
        micro_batches: number of pieces in which the encoder works through a batch. Only one piece's activations are
            kept (the others are recomputed in the backward pass, one extra forward in all), so that memory falls while
            loss and gradient stay those of the whole batch, which no plain gradient accumulation gives for losses that
            compare rows of a batch. Heads always see the whole batch, so batch-norm statistics are unchanged too.
    """

    def __init__(self, encoder: VideoEncoder, heads: Mapping[str, nn.Module], micro_batches: int = 1) -> None:
        super().__init__()
        if micro_batches < 1:
            raise VidsslError(f"micro_batches: {micro_batches}: must be at least 1")
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.micro_batches = micro_batches

    def train(self, mode: bool = True) -> Student:
        """As every module; but frozen batch norm keeps its running statistics, or a frozen image model would change all the same."""
        super().train(mode)
        for layer in self.encoder.modules():
            if is_frozen_norm(layer):
                layer.eval()
        return self

    def forward(self, views: Sequence[Tensor], keys: Sequence[Tensor] | None = None) -> StudentOutput:
        """Encode views.

        Args:
            views: k clips tensors (B, 3, T_v, H_v, W_v), row i of each from the same video.
            keys: (B,) int64 for each view: have the encoder leave patches out, see `VideoEncoder.forward`.
        """
        features = self._encode(views, keys)
        heads = {name: [head(view) for view in features] for name, head in self.heads.items()}
        return StudentOutput(features, heads)

    def _encode(self, views: Sequence[Tensor], keys: Sequence[Tensor] | None) -> list[ClipFeatures]:
        """One encoder pass for all views of a shape; results in the order of `views`."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, view in enumerate(views):
            groups[tuple(view.shape[2:])].append(position)
        features: dict[int, ClipFeatures] = {}
        for positions in groups.values():
            rows = joined([views[position] for position in positions])
            drawn = None if keys is None else torch.cat([keys[position] for position in positions])
            encoded = self._encode_rows(rows, drawn)
            size = views[positions[0]].shape[0]
            for clip, frames, position in zip(
                encoded.clip.split(size), encoded.frames.split(size), positions, strict=True
            ):
                features[position] = ClipFeatures(clip, frames, None)
        return [features[position] for position in range(len(views))]

    def _encode_rows(self, rows: Tensor, keys: Tensor | None) -> ClipFeatures:
        if self.micro_batches == 1:
            features: ClipFeatures = self.encoder(rows, keys=keys)
            return features
        chunks = rows.chunk(self.micro_batches)
        drawn = [None] * len(chunks) if keys is None else keys.split([len(chunk) for chunk in chunks])
        pieces = [
            checkpoint(self.encoder, piece, False, key, use_reentrant=False)
            if torch.is_grad_enabled()
            else self.encoder(piece, keys=key)
            for piece, key in zip(chunks, drawn, strict=True)
        ]
        return ClipFeatures(
            torch.cat([piece.clip for piece in pieces]), torch.cat([piece.frames for piece in pieces]), None
        )


def joined(views: Sequence[Tensor]) -> Tensor:
    """`torch.cat(views)` of views of one shape; no copy where they lie one behind the other in memory, as `render_views`
    leaves them."""
    first = views[0]
    is_row = all(
        view.is_contiguous()
        and not view.requires_grad
        and view.data_ptr() == first.data_ptr() + place * first.nbytes
        and view.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        for place, view in enumerate(views)
    )
    if not is_row:
        return torch.cat(list(views))
    shape = (len(views) * len(first), *first.shape[1:])
    return first.as_strided(shape, first.stride(), first.storage_offset())
