"""What is read off the HSIC of a batch beside the loss: how invariant the rows are, and which pairs they owe it to."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vidssl.objectives.hsic.labels import LabelPairs

# HSIC(Z, Z) below which the square root is cut off; at collapse it is 0 and the root has no derivative there.
HSIC_XX_FLOOR = 1e-12
# Invariance below which it is taken for none, so that the rank it asks for stays a number.
RHO_FLOOR = 1e-3


class Hsic(NamedTuple):
    """Scalars of one batch, from either estimator.

    Attributes:
        xy, xx: HSIC(Z, Y) and HSIC(Z, Z), differentiable in the rows.
        mean_kernel: mean of K over all pairs.
        attraction, within: see `imq.ImqHsic`.
    """

    xy: Tensor
    xx: Tensor
    mean_kernel: Tensor
    attraction: Tensor
    within: Tensor

    @property
    def rho(self) -> Tensor:
        """HSIC(Z, Y) over its value if K were 1 for every positive pair and the same for all others; at most 1."""
        perfect = self.xy + (1 - self.attraction)
        return self.xy / perfect.clamp_min(HSIC_XX_FLOOR)

    @property
    def rank(self) -> Tensor:
        """(tr HKH)² / ‖HKH‖_F²: so many equal eigenvalues have the variance and the HSIC(Z, Z) of the kernel features."""
        return (1 - self.mean_kernel).square() / self.xx.clamp_min(HSIC_XX_FLOOR)

    def rank_needed(self, gamma: Tensor) -> Tensor:
        """(gamma / rho)²: up to this rank, features that shrink to a point lower the loss."""
        return (gamma / self.rho.clamp_min(RHO_FLOOR)).square()

    def xy_by_view(self, pairs: LabelPairs) -> dict[str, Tensor]:
        """HSIC(Z, Y) with the mean over positives from different views, and from one view, in place of the mean over all.

        The second is there when one view gives several rows that are positives (prediction and target, frames).
        """
        if pairs.same_view is None:
            return {"hsic_xy_across": self.xy}
        rest, share = self.attraction - self.xy, pairs.weight @ pairs.same_view.to(pairs.weight)
        across = (self.attraction - self.within) / (1 - share).clamp_min(HSIC_XX_FLOOR)
        return {"hsic_xy_across": across - rest, "hsic_xy_within": self.within / share - rest}
