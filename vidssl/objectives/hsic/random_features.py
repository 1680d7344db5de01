"""HSIC with random Fourier features of the inverse multiquadric kernel: linear in the number of rows.

phi(x) = sqrt(2/D) cos(W x / c + b) has E[phi(x)'phi(y)] = c / sqrt(‖x - y‖² + c²) when the rows of W follow the
spectral measure of 1 / sqrt(1 + ‖x‖²) and b is uniform on [0, 2 pi).
"""

from __future__ import annotations

import math
from functools import partial
from typing import TypeAlias

import torch
from einops import reduce
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.hsic.imq import bandwidth
from vidssl.objectives.hsic.labels import LabelPairs

# Two independent draws (W_a, b_a, W_b, b_b), W (D, d), b (D,).
FeatureDraws: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def sample_imq_features(
    dim: int,
    num_features: int,
    generator: torch.Generator | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Frequencies and phases for the kernel 1 / sqrt(1 + ‖x‖²), exactly and in any dimension.

    1/sqrt(1 + ‖x‖²) = E exp(-t‖x‖²) with t ~ Gamma(1/2, 1), and exp(-t‖x‖²) is the characteristic function of
    sqrt(2t) u with u ~ N(0, I). As 2t is chi² with one degree of freedom, w = g · u with g ~ N(0, 1): neither Bessel
    functions nor a grid of radii are needed.

    Args:
        dim: d, of the rows.
        num_features: D.
        generator: of the draws, on the CPU, so that a seed means the same on every device.

    Returns:
        W (D, d) and b (D,), uniform on [0, 2 pi).

    Raises:
        VidsslError: unless both sizes are positive.
    """
    if dim < 1 or num_features < 1:
        raise VidsslError(
            f"sample_imq_features: dim={dim}, num_features={num_features}; both must be positive"
        )
    amplitude = torch.randn(num_features, 1, generator=generator, dtype=dtype)
    direction = torch.randn(num_features, dim, generator=generator, dtype=dtype)
    phase = torch.rand(num_features, generator=generator, dtype=dtype) * (2 * math.pi)
    return (amplitude * direction).to(device), phase.to(device)


def draw_features(
    dim: int, num_features: int, generator: torch.Generator, *, device: torch.device, dtype: torch.dtype
) -> FeatureDraws:
    """Two independent draws, of which the product of Gram matrices is unbiased."""
    draw = partial(sample_imq_features, dim, num_features, generator, device=device, dtype=dtype)
    return *draw(), *draw()


def random_features(rows: Tensor, scale: float | Tensor, w: Tensor, b: Tensor) -> Tensor:
    """(n, D) features phi of rows (n, d); the bandwidth receives no gradient."""
    phase = torch.addmm(b.to(rows.dtype), rows / bandwidth(scale, rows), w.to(rows.dtype).T)
    return phase.cos() * math.sqrt(2 / w.shape[0])


def feature_pair(rows: Tensor, scale: float | Tensor, draws: FeatureDraws) -> tuple[Tensor, Tensor]:
    """Features (n, D) of rows (n, d) from either draw."""
    w_a, b_a, w_b, b_b = draws
    return random_features(rows, scale, w_a, b_a), random_features(rows, scale, w_b, b_b)


def hsic_xy_of_views(phi: Tensor, views: int) -> Tensor:
    """HSIC(Z, Y) from features (n, D) stacked ``(view video)``, all videos distinct; without its offset 1/(k-1).

    The terms v = w are summed with the others, which is what makes this linear; each is 1 on average, and that
    average is subtracted.
    """
    n, k = phi.shape[0], views
    of_video = reduce(phi, "(k b) f -> b f", "sum", k=k)
    attraction = of_video.square().sum() / (n * (k - 1)) - 1 / (k - 1)
    return attraction - phi.sum(dim=0).square().sum() / n**2


def hsic_xy_of_labels(phi: Tensor, pairs: LabelPairs) -> tuple[Tensor, Tensor, Tensor]:
    """HSIC(Z, Y) from features (n, D) for any label kernel, without bias; then `attraction` and `within` of `ImqHsic`.

    Pairs of different rows only, so the terms v = w of `hsic_xy_of_views` do not add their noise.
    """
    neighbours = _neighbours(phi, pairs, pairs.weight)
    mean = phi.mean(dim=0)
    weighted = (phi * neighbours).sum()
    xy = weighted - 2 * ((pairs.marginal @ phi) @ mean) + pairs.share * mean.square().sum()
    with torch.no_grad():
        attraction, within = weighted.detach(), torch.zeros_like(weighted)
        if pairs.positives < len(pairs.weight):
            positive = pairs.weight * (torch.arange(len(pairs.weight), device=phi.device) < pairs.positives)
            attraction = (phi * _neighbours(phi, pairs, positive)).sum()
        if pairs.same_view is not None:
            within = (phi * _neighbours(phi, pairs, pairs.weight * pairs.same_view)).sum()
        return xy, attraction, within


def _neighbours(phi: Tensor, pairs: LabelPairs, weight: Tensor) -> Tensor:
    """(n, D) sum_j weight_ij phi_j over the pairs."""
    indices, n = torch.stack([pairs.first, pairs.second]), phi.shape[0]
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        weights = torch.sparse_coo_tensor(indices, weight, (n, n))
    neighbours: Tensor = torch.sparse.mm(weights, phi)
    return neighbours


def hsic_xx_of_features(phi_a: Tensor, phi_b: Tensor) -> Tensor:
    """HSIC(Z, Z) = ‖Phi_b' H Phi_a‖_F² / n², features (n, D) of two independent draws."""
    n = phi_a.shape[0]
    cross = (phi_b - phi_b.mean(dim=0)).T @ (phi_a - phi_a.mean(dim=0))
    return cross.square().sum() / n**2
