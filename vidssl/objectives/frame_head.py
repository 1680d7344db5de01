"""A head for objectives on single frames that has no clip-level weights which would go without a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import HeadOutput, MLPHead


class FrameHead(nn.Module):
    """Projector, optionally with a predictor, of every frame's features.

    Args: see `vidssl.models.heads.ProjectionHead`.
    """

    def __init__(
        self,
        embed_dim: int,
        projector: Sequence[int],
        predictor: Sequence[int] | None = None,
        norm: str = "batch",
        last_norm: bool = False,
        last_bias: bool = False,
    ) -> None:
        super().__init__()
        self.projector = MLPHead(embed_dim, projector, norm, last_norm, last_bias)
        self.predictor: MLPHead | None = None
        if predictor is not None:
            self.predictor = MLPHead(projector[-1], predictor, norm, last_bias=last_bias)

    def forward(self, features: ClipFeatures) -> HeadOutput:
        """Projection and frames: (B, T, d), the same rows; prediction: (B, T, d) or None."""
        frames = self.projector(features.frames)
        return HeadOutput(frames, None if self.predictor is None else self.predictor(frames), frames)
