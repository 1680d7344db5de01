"""Patch features as colours: their first three principal components, fitted over all frames of a video together.

What an encoder takes for the same has the same colour, in one frame as in the next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl.errors import VidsslError

TAILS = (0.01, 0.99)  # quantiles that become no and full colour
NOTHING = 1e-10  # mean square of a component of rows of length 1 that is only rounding


class Colours(NamedTuple):
    """pictures: (T, 3, h, w) float32 in [0, 1]; shares: (3,) of the variance, in each component."""

    pictures: Tensor
    shares: Tensor


def principal_colours(features: Tensor) -> Colours:
    """Red, green and blue for the first three principal components of the features.

    Features are l2-normalised, since cosines are what patches are compared by, and a few patches of large norm would
    otherwise be all there is to see. A component's sign is chosen such that its largest weight is positive, so the
    same video always has the same colours. A component without variance is grey.

    Args:
        features: (T, D, h, w).

    Raises:
        VidsslError: for features that are not finite.
    """
    count, dim, h, _ = features.shape
    if not bool(features.isfinite().all()):
        raise VidsslError("principal components: the patch features are not finite")
    rows = rearrange(F.normalize(features.float(), dim=1), "t d h w -> t (h w) d")
    rows = rows - rows.mean(dim=(0, 1), dtype=torch.float64).float()
    covariance = torch.zeros(dim, dim, dtype=torch.float64, device=rows.device)
    for frame in rows:
        covariance += frame.double().T @ frame.double()
    variances, axes = (x.flip(-1)[..., :3] for x in torch.linalg.eigh(covariance))  # the largest first
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    values = rearrange(rows @ axes.float(), "t n k -> (t n) k").cpu()
    low, high = torch.from_numpy(np.quantile(values.numpy(), TAILS, axis=0)).float()
    seen = variances.cpu() > NOTHING * values.shape[0]
    colours = torch.where(seen, ((values - low) / (high - low)).clamp(0, 1), 0.5)
    colours = F.pad(colours, (0, 3 - colours.shape[1]), value=0.5)
    total = covariance.trace().clamp(min=NOTHING)
    shares = F.pad(variances.clamp(min=0) / total, (0, 3 - variances.shape[0]))
    return Colours(rearrange(colours, "(t h w) k -> t k h w", t=count, h=h), shares.float().cpu())
