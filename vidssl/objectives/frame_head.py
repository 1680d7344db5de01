"""A head for objectives on single frames that has no clip-level weights which would go without a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from einops import reduce
from torch import nn

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import HeadOutput, MLPHead


class FrameHead(nn.Module):
    """Projector, optionally with a predictor, of every frame's features.

    Args:
        pool_frames: average the features of so many neighbouring frames first, as one frame for what follows.
        others: see `vidssl.models.heads.ProjectionHead`.
    """

    def __init__(
        self,
        embed_dim: int,
        projector: Sequence[int],
        predictor: Sequence[int] | None = None,
        norm: str = "batch",
        last_norm: bool = False,
        last_bias: bool = False,
        pool_frames: int = 1,
    ) -> None:
        super().__init__()
        if pool_frames < 1:
            raise VidsslError(f"head: pool_frames={pool_frames}: must be at least 1")
        self.pool_frames = pool_frames
        self.projector = MLPHead(embed_dim, projector, norm, last_norm, last_bias)
        self.predictor: MLPHead | None = None
        if predictor is not None:
            self.predictor = MLPHead(projector[-1], predictor, norm, last_bias=last_bias)

    def forward(self, features: ClipFeatures) -> HeadOutput:
        """Projection and frames: (B, T / pool_frames, d), the same rows; prediction: of that shape, or None.

        Raises:
            VidsslError: when pool_frames does not divide T.
        """
        frames = features.frames
        if self.pool_frames > 1:
            if frames.shape[1] % self.pool_frames:
                raise VidsslError(
                    f"head: pool_frames={self.pool_frames}: does not divide {frames.shape[1]} frames"
                )
            frames = reduce(frames, "b (t s) d -> b t d", "mean", s=self.pool_frames)
        frames = self.projector(frames)
        return HeadOutput(frames, None if self.predictor is None else self.predictor(frames), frames)
