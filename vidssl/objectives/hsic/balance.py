"""The weight gamma that follows the data: how much spreading the features may cost, in units of what tells identities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_value
from vidssl.objectives.hsic.statistics import HSIC_XX_FLOOR, Hsic


class Balance(nn.Module):
    """gamma = min(most, kappa · HSIC(Z, Y) / sqrt(HSIC(Z, Z))), a number without gradient, zero where HSIC(Z, Y) is not above it.

    As the weight of sqrt(HSIC(Z, Z)) it has HSIC(Z, Y) times the gradient of
    -log HSIC(Z, Y) + (kappa / 2) log HSIC(Z, Z), where kappa = 1 is -log of the alignment (CKA) of rows and identity.

    Args:
        kappa: at least 0.
        most: above 0; None: no limit.
        memory: in [0, 1): both are running means of the training batches, in which a batch counts so much less than the
            next. A single batch has HSIC(Z, Y) above zero now and then even where nothing tells identities; its mean has not.

    Raises:
        VidsslError: for values out of range.
    """

    xy: Tensor
    xx: Tensor
    weight: Tensor

    def __init__(self, kappa: float, most: float | None, memory: float) -> None:
        super().__init__()
        check_value("kappa", kappa, kappa >= 0, "at least 0")
        check_value("gamma_max", most, most is None or most > 0, "above 0")
        if not 0 <= memory < 1:
            raise VidsslError(f"gamma_memory={memory}: must be in [0, 1)")
        self.kappa, self.memory = kappa, memory
        self.most = math.inf if most is None else most
        if memory:
            for name in ("xy", "xx", "weight"):
                self.register_buffer(name, torch.zeros(()))

    def forward(self, hsic: Hsic) -> Tensor:
        xy, xx = hsic.xy.detach(), hsic.xx.detach()
        if self.memory:
            weight = self.memory * self.weight + 1
            xy = self.xy + (xy - self.xy) / weight
            xx = self.xx + (xx - self.xx) / weight
            if self.training:
                for kept, new in ((self.xy, xy), (self.xx, xx), (self.weight, weight)):
                    kept.copy_(new)
        gamma = self.kappa * xy.clamp_min(0) / xx.clamp_min(HSIC_XX_FLOOR).sqrt()
        return gamma.clamp_max(self.most)
