"""The entropy of one frame's latent, from the frames of a batch of clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.objectives.entropy import gaussian_entropy, kde_entropy, knn_entropy, taylor_entropy

ESTIMATORS = ("logdet", "knn", "kde", "taylor")
POOLS = ("batch_time", "per_step")
ENTROPIES = ("auto", *ESTIMATORS, "stopgrad")
# Up to this many dimensions nearest neighbours are near enough to follow a density of any shape.
KNN_DIMS = 8


def check_entropy(entropy: str, target: str) -> str:
    """The entropy that goes with what is predicted: with a teacher's rows "stopgrad", none.

    z → s z adds m log s to the entropy of a frame. Where z itself is predicted, errors grow with it, and the likelihood
    holds the scale; a teacher's rows are of the size that they are, and once it has followed, nothing has been lost.

    Raises:
        VidsslError: for an unknown entropy, or another one with a teacher's rows.
    """
    check_choice("entropy", entropy, ENTROPIES)
    if target == "student":
        return entropy
    if entropy not in ("auto", "stopgrad"):
        raise VidsslError(
            f"entropy={entropy!r}: must be 'stopgrad' with target='teacher'; nothing would hold the scale of the latents"
        )
    return "stopgrad"


@dataclass(frozen=True)
class FrameEntropy:
    """An estimator of `vidssl.objectives.entropy` and which frames enter it together.

    Args:
        estimator: "logdet", "knn", "kde" or "taylor".
        pool: "batch_time": all real frames of the batch; "per_step": those of one frame number at a time, of which the
            mean is taken, weighted by how many there are. Pooled is never less (entropy is concave).
        neighbours, clip_quantile: of "knn"; a quantile of 1 clips nothing.
        bandwidth: of "kde"; None: what the call says.
        max_rows: of "knn" and "kde".
        generator: of their draws.

    Raises:
        VidsslError: for an unknown choice or a number out of range.
    """

    estimator: str
    pool: str
    neighbours: int
    clip_quantile: float
    bandwidth: float | None
    max_rows: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        check_choice("entropy", self.estimator, ESTIMATORS)
        check_choice("pool", self.pool, POOLS)
        k, q, h, rows = self.neighbours, self.clip_quantile, self.bandwidth, self.max_rows
        check_value("neighbours", k, k >= 1, "at least 1")
        check_value("clip_quantile", q, 0 < q <= 1, "in (0, 1]")
        check_value("bandwidth", h, h is None or h > 0, "positive")
        check_value("max_rows", rows, rows > k, f"more than neighbours={k}")

    def __call__(self, z: Tensor, valid: Tensor | None, noise_scale: Tensor) -> Tensor:
        """
        Args:
            z: (B, T, m).
            valid: (B, T) bool, which frames are real; None: all.
            noise_scale: bandwidth of "kde" where none was given.

        Returns:
            Scalar, nats.

        Raises:
            VidsslError: for too few rows.
        """
        h = noise_scale if self.bandwidth is None else self.bandwidth
        if self.pool == "batch_time":
            mask = None if valid is None else rearrange(valid, "b t -> (b t)")
            return self._estimate(rearrange(z, "b t m -> (b t) m"), mask, h)
        b, t, m = z.shape
        needed = {"logdet": m + 1, "knn": self.neighbours + 1}.get(self.estimator, 2)
        counts = [b] * t if valid is None else valid.sum(dim=0).tolist()
        # The tail of a few long clips among short ones is too thin for an estimate of its own.
        steps = [step for step in range(t) if counts[step] >= needed]
        if not steps:
            raise VidsslError(
                f"pool='per_step' with entropy={self.estimator!r} needs {needed} videos, got {max(counts)}"
            )
        total = z.new_zeros(())
        for step in steps:
            mask = None if valid is None else valid[:, step]
            total = total + counts[step] * self._estimate(z[:, step], mask, h)
        return total / sum(counts[step] for step in steps)

    def _estimate(self, z: Tensor, mask: Tensor | None, bandwidth: float | Tensor) -> Tensor:
        if self.estimator == "logdet":
            # Relative, so that H(c z) = H(z) + m log c whatever the scale of z.
            return gaussian_entropy(z, relative=True, mask=mask)
        if self.estimator == "taylor":
            return taylor_entropy(z, mask=mask)
        if self.estimator == "knn":
            quantile = None if self.clip_quantile == 1 else self.clip_quantile
            return knn_entropy(z, self.neighbours, quantile, mask, self.max_rows, self.generator)
        return kde_entropy(z, bandwidth, mask, self.max_rows, self.generator)
