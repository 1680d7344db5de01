"""The entropy of one frame's latent, from the frames of a batch of clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from vidssl.dynamics.kalman import LOG_2PI
from vidssl.errors import TooFewRows, VidsslError, check_choice, check_value
from vidssl.objectives.entropy import gaussian_entropy, kde_entropy, knn_entropy, taylor_entropy
from vidssl.objectives.running_covariance import RunningCovariance
from vidssl.objectives.sigreg import draw_directions, gaussianity

POOLS = ("batch_time", "within_clip", "per_step")
GAUSSIAN = ("logdet", "taylor")
# Up to this many dimensions nearest neighbours are near enough to follow a density of any shape.
KNN_DIMS = 8
# Of "sigreg", fresh ones every step; see `SIGReg`.
DIRECTIONS = 256
SIGREG_STRENGTH = 10


class FrameRows(NamedTuple):
    """What an estimator is given: rows (N, m), which of them are real (N,) or None, the clip (N,) that each is of, the standard
    deviation () that the model predicts, and whether to say what is wrong with them (else the result is NaN)."""

    z: Tensor
    mask: Tensor | None
    clip: Tensor
    noise_scale: Tensor
    check: bool


class FrameEntropy(nn.Module):
    """An estimator of `ESTIMATORS` and which frames enter it together.

    Args:
        estimator: its name.
        dim: m.
        pool: "batch_time": all real frames of the batch; "within_clip": these less the mean of their clip, of "logdet" and
            "taylor", so that what only tells clips apart has no entropy; "per_step": those of one frame number at a time, of which the
            mean is taken, weighted by how many there are. Pooled is never less (entropy is concave).
        neighbours, clip_quantile: of "knn"; a quantile of 1 clips nothing.
        bandwidth: of "kde"; None: what the call says.
        max_rows: of "knn" and "kde".
        memory: of "logdet", not with "per_step": share of past batches in the covariance, see `RunningCovariance`.
        other_clips: of "knn" and "kde": a frame is held against the frames of other clips only.
        generator: of their draws.

    Raises:
        VidsslError: for an unknown choice or a number out of range.
    """

    def __init__(
        self,
        estimator: str,
        dim: int,
        generator: torch.Generator,
        pool: str = "batch_time",
        neighbours: int = 3,
        clip_quantile: float = 1.0,
        bandwidth: float | None = None,
        max_rows: int = 2048,
        other_clips: bool = False,
        memory: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("entropy", estimator, ESTIMATORS)
        check_choice("pool", pool, POOLS)
        check_value("neighbours", neighbours, neighbours >= 1, "at least 1")
        check_value("clip_quantile", clip_quantile, 0 < clip_quantile <= 1, "in (0, 1]")
        check_value("bandwidth", bandwidth, bandwidth is None or bandwidth > 0, "positive")
        check_value("max_rows", max_rows, max_rows > neighbours, f"more than neighbours={neighbours}")
        if memory and (estimator != "logdet" or pool == "per_step"):
            raise VidsslError(f"memory={memory}: is for entropy='logdet', and not for pool='per_step'")
        if pool == "within_clip" and estimator not in GAUSSIAN:
            raise VidsslError(
                f"pool='within_clip': entropy is one of {', '.join(GAUSSIAN)}, not {estimator!r}"
            )
        self.running = RunningCovariance(dim, memory) if memory else None
        self.estimator, self.generator, self.pool = estimator, generator, pool
        self.neighbours, self.bandwidth, self.max_rows = neighbours, bandwidth, max_rows
        self.clip_quantile = None if clip_quantile == 1 else clip_quantile
        self.other_clips = other_clips

    def forward(
        self, z: Tensor, valid: Tensor | None, clip: Tensor, noise_scale: Tensor, check: bool = True
    ) -> Tensor:
        """
        Args:
            z: (B, T, m).
            valid: (B, T) bool, which frames are real; None: all.
            clip: (B,) int64, one number for clips of one video.
            noise_scale: bandwidth of "kde" where none was given.
            check: False: rows without an entropy give NaN, where telling takes a synchronisation.

        Returns:
            Scalar, nats.

        Raises:
            VidsslError: for too few rows, or clips.
        """
        b, t, m = z.shape
        estimate = ESTIMATORS[self.estimator]
        lost: Tensor | float = 0.0
        if self.pool == "within_clip":
            z, lost = _within_clips(z, valid)
        if self.pool != "per_step":
            mask = None if valid is None else rearrange(valid, "b t -> (b t)")
            rows = FrameRows(
                rearrange(z, "b t m -> (b t) m"), mask, repeat(clip, "b -> (b t)", t=t), noise_scale, check
            )
            return estimate(self, rows) + lost
        needed = {"logdet": m + 1, "knn": self.neighbours + 1}.get(self.estimator, 2)
        counts = [b] * t if valid is None else valid.sum(dim=0).tolist()
        # The tail of a few long clips among short ones is too thin for an estimate of its own.
        steps = [step for step in range(t) if counts[step] >= needed]
        if not steps:
            raise TooFewRows(
                f"pool='per_step' with entropy={self.estimator!r} needs {needed} videos, got {max(counts)}"
            )
        total = z.new_zeros(())
        for step in steps:
            mask = None if valid is None else valid[:, step]
            total = total + counts[step] * estimate(
                self, FrameRows(z[:, step], mask, clip, noise_scale, check)
            )
        return total / sum(counts[step] for step in steps)


def _within_clips(z: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Latents (B, T, m) less the mean of their clip, and the entropy that a Gaussian's estimate loses by that: of N rows with the
    means of B clips taken out, N - B are free."""
    real = torch.ones_like(z[..., :1]) if valid is None else valid[..., None].to(z.dtype)
    frames = real.sum(dim=1, keepdim=True)
    mean = (z * real).sum(dim=1, keepdim=True) / frames.clamp_min(1)
    free = (frames - 1).clamp_min(0).sum()
    return z - mean, 0.5 * z.shape[2] * ((frames.sum() - 1) / free).log()


def _logdet(own: FrameEntropy, rows: FrameRows) -> Tensor:
    if own.running is not None:
        found: Tensor = own.running(rows.z, rows.mask)
        return found
    # Relative, so that H(c z) = H(z) + m log c whatever the scale of z.
    return gaussian_entropy(rows.z, relative=True, mask=rows.mask, check=rows.check)


def _taylor(own: FrameEntropy, rows: FrameRows) -> Tensor:
    return taylor_entropy(rows.z, mask=rows.mask)


def _knn(own: FrameEntropy, rows: FrameRows) -> Tensor:
    groups = rows.clip if own.other_clips else None
    return knn_entropy(
        rows.z, own.neighbours, own.clip_quantile, rows.mask, own.max_rows, own.generator, groups
    )


def _kde(own: FrameEntropy, rows: FrameRows) -> Tensor:
    bandwidth = rows.noise_scale if own.bandwidth is None else own.bandwidth
    groups = rows.clip if own.other_clips else None
    return kde_entropy(rows.z, bandwidth, rows.mask, own.max_rows, own.generator, groups)


def _sigreg(own: FrameEntropy, rows: FrameRows) -> Tensor:
    """m/2 (1 + log 2π) - 10 m S/N, S the statistic of SIGReg: the entropy of N(0, I), less five times the divergence from it.

    No estimate. For rows s·N(0, I) the statistic is 0.48 N (s - 1)² near s = 1, and the divergence m (s - 1)²; a likelihood
    gains -m log s meanwhile, and they settle at a standard deviation of 0.9. Far away the statistic is bounded and the
    likelihood is not: rows that start below 0.18 shrink to nothing, for any N and m.
    """
    z = rows.z if rows.mask is None else rows.z[rows.mask]
    n, m = z.shape
    missing = gaussianity(z, draw_directions(m, DIRECTIONS, own.generator, z)) / n
    return m / 2 * (1 + LOG_2PI) - SIGREG_STRENGTH * m * missing


ESTIMATORS: dict[str, Callable[[FrameEntropy, FrameRows], Tensor]] = {
    "logdet": _logdet,
    "knn": _knn,
    "kde": _kde,
    "taylor": _taylor,
    "sigreg": _sigreg,
}
ENTROPIES = ("auto", *ESTIMATORS, "stopgrad")
# Those that do not grow with the scale of z: whatever R is, nothing runs away.
SCALE_FREE = ("stopgrad", "sigreg")


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
