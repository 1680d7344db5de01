"""Heads on encoder features: projectors and predictors of clips or single frames, and their options in a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from einops import reduce
from torch import Tensor, nn

from vidssl.errors import COUNT, OR_NULL, SIZES, SWITCH, WORD, VidsslError, check_choice, check_value
from vidssl.models.batch_norm import GlobalBatchNorm1d
from vidssl.models.encoder import ClipFeatures

NORMS = ("batch", "layer", "none")
# The options of a recipe's objective that belong to its head, and what each may be.
HEAD_OPTIONS = {
    "projector": SIZES,
    "predictor": SIZES + OR_NULL,
    "norm": WORD,
    "last_norm": SWITCH,
    "predictor_last_norm": SWITCH,
    "last_bias": SWITCH,
    "prototypes": COUNT + OR_NULL,
    "pool_frames": COUNT,
}


class HeadOutput(NamedTuple):
    """What a head makes of one view; not normalised. projection, prediction: (B, d); frames: (B, T, d)."""

    projection: Tensor
    prediction: Tensor | None
    frames: Tensor | None

    @property
    def predicted(self) -> Tensor:
        """(B, d) the prediction where the head has a predictor, else the projection."""
        return self.projection if self.prediction is None else self.prediction


class MLPHead(nn.Module):
    """Linear, norm, ReLU, …, Linear.

    Args:
        in_dim: size of the input's last axis.
        dims: output sizes of the linear layers, the last one that of the head.
        norm: ``"batch"`` (over all rows of all processes), ``"layer"`` or ``"none"``, after every linear but the last.
        last_norm: norm after the last linear too.
        last_bias: bias of the last linear. The others have one exactly when no norm with its own bias follows.

    Raises:
        VidsslError: for empty `dims`, an unknown norm, or `last_norm` without a norm.
    """

    def __init__(
        self,
        in_dim: int,
        dims: Sequence[int],
        norm: str = "batch",
        last_norm: bool = False,
        last_bias: bool = False,
    ) -> None:
        super().__init__()
        if not dims or min(in_dim, *dims) < 1:
            raise VidsslError(
                f"head: sizes {in_dim} -> {list(dims)}: at least one layer, all sizes at least 1"
            )
        check_choice("head: norm", norm, NORMS, "{name} {value!r}{guess} (allowed: {allowed})")
        if last_norm and norm == "none":
            raise VidsslError("head: last_norm needs norm 'batch' or 'layer', got 'none'")
        layers: list[nn.Module] = []
        sizes = [in_dim, *dims]
        for width, dim in pairwise(sizes[:-1]):
            layers += [nn.Linear(width, dim, bias=norm == "none"), *_norm(norm, dim), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(sizes[-2], sizes[-1], bias=last_bias))
        if last_norm:
            layers += _norm(norm, dims[-1])
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in_dim). Returns (..., dims[-1]); all leading axes count as rows of the batch norm."""
        rows: Tensor = self.layers(x.reshape(-1, x.shape[-1]))
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class Prototypes(nn.Module):
    """Cosines of rows with learned directions: the last layer of DINO's head (Caron et al. 2021, arXiv 2104.14294).

    Both sides have length 1, which is what DINO's weight norm with its gain held at 1 comes to; temperatures of that
    paper are for logits of this size and far too low for free ones.

    Args:
        in_dim: size of the input's last axis.
        count: number of prototypes.
    """

    def __init__(self, in_dim: int, count: int) -> None:
        super().__init__()
        check_value("head: prototypes", count, count >= 1, "at least 1")
        self.weight = nn.Parameter(torch.empty(count, in_dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in_dim). Returns (..., count), in [-1, 1]."""
        return nn.functional.linear(
            nn.functional.normalize(x, dim=-1), nn.functional.normalize(self.weight, dim=-1)
        )


def _norm(norm: str, dim: int) -> list[nn.Module]:
    if norm == "none":
        return []
    return [GlobalBatchNorm1d(dim) if norm == "batch" else nn.LayerNorm(dim)]


class ProjectionHead(nn.Module):
    """Projector, optionally with a predictor (BYOL, Grill et al. 2020, arXiv 2006.07733) and a frame projector.

    Args:
        embed_dim: D of the encoder.
        projector: sizes of the projector's layers; the last is d.
        predictor: sizes of the predictor's layers, ending in d; None for none.
        frames: project the frame features too, with weights of their own: the batch statistics of single frames are
            not those of clips.
        norm, last_norm, last_bias: of projector and frame projector, see :class:`MLPHead`; the predictor has the same
            `norm` and `last_bias`.
        predictor_last_norm: norm after the predictor's last linear.
        prototypes: how many directions the projection is compared with (:class:`Prototypes`); the cosines are then the
            projection of d = `prototypes`. None for none.

    Raises:
        VidsslError: when the predictor does not end in the projector's size, or comes with prototypes.
    """

    def __init__(
        self,
        embed_dim: int,
        projector: Sequence[int],
        predictor: Sequence[int] | None = None,
        frames: bool = False,
        norm: str = "batch",
        last_norm: bool = False,
        last_bias: bool = False,
        predictor_last_norm: bool = False,
        prototypes: int | None = None,
    ) -> None:
        super().__init__()
        self.projector: nn.Module = MLPHead(embed_dim, projector, norm, last_norm, last_bias)
        if prototypes is not None:
            if predictor is not None or frames:
                raise VidsslError("head: prototypes: is for a head without a predictor or frames")
            self.projector = nn.Sequential(self.projector, Prototypes(projector[-1], prototypes))
        self.predictor: MLPHead | None = None
        self.frame_projector: MLPHead | None = None
        if predictor is not None:
            if not predictor or predictor[-1] != projector[-1]:
                raise VidsslError(
                    f"head: predictor {list(predictor)}: must end in the projector's size {projector[-1]}"
                )
            self.predictor = MLPHead(projector[-1], predictor, norm, predictor_last_norm, last_bias)
        if frames:
            self.frame_projector = MLPHead(embed_dim, projector, norm, last_norm, last_bias)

    def forward(self, features: ClipFeatures) -> HeadOutput:
        """features: of one view. Returns projections of its B clips (and B x T frames)."""
        projection = self.projector(features.clip)
        prediction = None if self.predictor is None else self.predictor(projection)
        frames = None if self.frame_projector is None else self.frame_projector(features.frames)
        return HeadOutput(projection, prediction, frames)


class IdentityHead(nn.Module):
    """No head: the rows are the encoder's clip features themselves."""

    def forward(self, features: ClipFeatures) -> HeadOutput:
        """features: of one view. Returns its (B, D) clip features as the projection."""
        return HeadOutput(features.clip, None, None)


class FrameHead(nn.Module):
    """Projector, optionally with a predictor, of every frame's features: no clip-level weights without a gradient.

    Args:
        pool_frames: average the features of so many neighbouring frames first, as one frame for what follows.
        others: see `ProjectionHead`.
    """

    def __init__(
        self,
        embed_dim: int,
        projector: Sequence[int],
        predictor: Sequence[int] | None = None,
        norm: str = "batch",
        last_norm: bool = False,
        last_bias: bool = False,
        predictor_last_norm: bool = False,
        pool_frames: int = 1,
    ) -> None:
        super().__init__()
        check_value("head: pool_frames", pool_frames, pool_frames >= 1, "at least 1")
        self.pool_frames = pool_frames
        self.projector = MLPHead(embed_dim, projector, norm, last_norm, last_bias)
        self.predictor: MLPHead | None = None
        if predictor is not None:
            self.predictor = MLPHead(projector[-1], predictor, norm, predictor_last_norm, last_bias)

    def forward(self, features: ClipFeatures) -> HeadOutput:
        """Projection and frames: (B, T / pool_frames, d), the same rows; prediction: of that shape, or None.

        Raises:
            VidsslError: when pool_frames does not divide T.
        """
        frames = features.frames
        if frames.shape[1] % self.pool_frames:
            raise VidsslError(
                f"head: pool_frames={self.pool_frames}: does not divide {frames.shape[1]} frames"
            )
        if self.pool_frames > 1:
            frames = reduce(frames, "b (t s) d -> b t d", "mean", s=self.pool_frames)
        frames = self.projector(frames)
        return HeadOutput(frames, None if self.predictor is None else self.predictor(frames), frames)
