"""Differential entropy of a batch of rows, estimated so that gradients flow into the rows; in nats.

    gaussian  ½ log det Cov(z) + D/2 (1 + log 2π)                          exact for Gaussians, an upper bound otherwise
    taylor    the same to second order in the correlations                 the VICReg / Barlow Twins surrogate
    knn       D · mean log ε_k + log V_D + ψ(N) - ψ(k)                     Kozachenko & Leonenko 1987; any density
    kde       -mean_i log 1/(N-1) Σ_{j≠i} N(z_i; z_j, h² I)                leave-one-out; smooths by h

Which one is right is a matter of the data: on a thin ring in the plane the Gaussian form is off by two nats, while in
many dimensions nearest neighbours are far away and only the Gaussian form has a usable gradient (Mikulasch & Zenke
2026, arXiv 2605.03517, app. A.5). All keep the factor D, so that H(c z) = H(z) + D log c.

Rows that depend on each other, such as the frames of one clip, are no sample: their nearest neighbours are each other.
`groups` says which rows belong together, and then "knn" and "kde" look at the rows of other groups only.

    >>> loss = -gaussian_entropy(z)                                        # z (N, D)
    >>> loss = -knn_entropy(z, k=3, max_rows=2048, generator=generator)
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from vidssl.dynamics.kalman import LOG_2PI
from vidssl.errors import TooFewRows, VidsslError
from vidssl.objectives.precision import full_precision, widen

EULER = 0.5772156649015329
# Distances below this share of the rows' spread are rounding: duplicates, whose logarithm would be -inf.
KNN_FLOOR = 1e-8


def gaussian_entropy(
    z: Tensor,
    eps: float | None = None,
    relative: bool = False,
    mask: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    """½ log det(Cov + eps I) + D/2 (1 + log 2π), with the covariance of N - 1.

    Args:
        z: (N, D), N > D; the estimate is biased down by about D²/4N, so N of at least 10 D is wise.
        eps: added to the diagonal; None: 1e-6 in float32, 1e-8 in float64.
        relative: eps in units of the mean variance tr Cov / D, which leaves H(c z) = H(z) + D log c exact.
        mask: (N,) bool, rows that count; all when None.
        check: False gives NaN, without a synchronisation with a GPU, where the covariance is not positive definite.

    Raises:
        VidsslError: for N <= D, which has no determinant, or a covariance that is not positive definite.
    """
    with full_precision(z):
        z, _ = _rows("gaussian_entropy", z, mask)
        n, d = z.shape
        if n <= d:
            raise TooFewRows(
                f"gaussian_entropy: {n} rows in {d} dimensions: log det needs more rows than dimensions, better 10 "
                "times as many"
            )
        cov = _covariance(z)
        eps = (1e-6 if z.dtype == torch.float32 else 1e-8) if eps is None else eps
        lift = eps * cov.diagonal().mean() if relative else cov.new_tensor(eps)
        factor, failed = torch.linalg.cholesky_ex(cov + lift * torch.eye(d, dtype=cov.dtype, device=z.device))
        if check and bool(failed):
            raise VidsslError(
                f"gaussian_entropy: the covariance of {n} rows in {d} dimensions is singular even with "
                f"eps={eps:g}; raise eps, or the rows have collapsed or are not finite"
            )
        half_log_det: Tensor = factor.diagonal().log().sum().masked_fill(failed != 0, torch.nan)
        return half_log_det.to(z.dtype) + d / 2 * (1 + LOG_2PI)


def taylor_entropy(z: Tensor, eps: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """½ Σ_i log S_ii - ¼ Σ_{i≠j} S_ij² / (S_ii S_jj) + D/2 (1 + log 2π): `gaussian_entropy` for weak correlations.

    Needs no more rows than dimensions, and costs no determinant. Arguments as there, N >= 2; eps is added to S_ii.
    """
    with full_precision(z):
        z, _ = _rows("taylor_entropy", z, mask, 2)
        cov = _covariance(z)
        variance = cov.diagonal() + eps
        correlation = cov.square() / (variance[:, None] * variance[None, :])
        off_diagonal = correlation.sum() - correlation.diagonal().sum()
        half_log_det = 0.5 * variance.log().sum() - 0.25 * off_diagonal
        return half_log_det.to(z.dtype) + z.shape[1] / 2 * (1 + LOG_2PI)


def knn_entropy(
    z: Tensor,
    k: int = 3,
    clip_quantile: float | None = None,
    mask: Tensor | None = None,
    max_rows: int | None = None,
    generator: torch.Generator | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """D · mean log ε_k + log V_D + ψ(N) - ψ(k), ε_k the distance to the k-th nearest other row.

    V_D = π^{D/2} / Γ(D/2 + 1) is the volume of the unit ball.

    With G groups every row is held against samples of G - 1 rows, one of each other group, and N is G: whatever binds the
    rows of a group, such a sample is independent, and every row is in as many samples as the others of its group.

    Args:
        z: (N, D), N > k. Time and memory of the search grow with N²; the gradient costs N.
        k: neighbour; larger is smoother and more biased.
        clip_quantile: distances beyond this quantile of theirs, in (0, 1), count as that quantile and get no gradient,
            which keeps outliers from being driven away.
        mask: (N,) bool, rows that count; all when None.
        max_rows: a random choice of as many rows when there are more.
        generator: of that choice, on the CPU; needed with `max_rows`.
        groups: (N,) int64, rows of one number depend on each other; None: no two do. More than k of them.

    Duplicates count as 1e-8 of the rows' spread apart and get no gradient.

    Raises:
        VidsslError: for N <= k (rows or groups), k < 1 or a quantile outside (0, 1).
    """
    if k < 1:
        raise VidsslError(f"knn_entropy: k={k}: must be at least 1")
    if clip_quantile is not None and not 0 < clip_quantile < 1:
        raise VidsslError(f"knn_entropy: clip_quantile={clip_quantile}: must be in (0, 1), or None")
    with full_precision(z):
        z, groups = _rows("knn_entropy", z, mask, k + 1, groups)
        z, groups = _sample("knn_entropy", z, groups, max_rows, generator)
        with torch.no_grad():
            neighbour, n = _neighbours(z, groups, k)
            floor = KNN_FLOOR * _centred(z).square().sum(1).mean().sqrt() + torch.finfo(z.dtype).tiny
        distance: Tensor = torch.linalg.vector_norm(z[:, None] - z[neighbour], dim=2)
        if clip_quantile is not None:
            limit = distance.detach().quantile(clip_quantile)
            distance = torch.where(distance > limit, limit, distance)
        d = z.shape[1]
        log_volume = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
        entropy: Tensor = d * distance.clamp_min(floor).log().mean() + (log_volume + digamma(n) - digamma(k))
        return entropy


def kde_entropy(
    z: Tensor,
    bandwidth: float | Tensor,
    mask: Tensor | None = None,
    max_rows: int | None = None,
    generator: torch.Generator | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """-mean_i log 1/(N-1) Σ_{j≠i} N(z_i; z_j, h² I): every row under a density of the others.

    With groups the sum is over the rows of other groups, and N - 1 their number: the mean is right however the rows of a
    group depend on each other.

    Args:
        z: (N, D), N >= 2; time and memory grow with N².
        bandwidth: h, in units of z; it should follow the model's noise, h = standard deviation of the prediction.
        mask, max_rows, generator, groups: as in `knn_entropy`; at least two groups.

    An upper bound in expectation: the cross-entropy to the smoothed density. Its excess grows fast with D.

    Raises:
        VidsslError: for fewer than two rows or a bandwidth that is not positive.
    """
    if not isinstance(bandwidth, Tensor) and not bandwidth > 0:
        raise VidsslError(f"kde_entropy: bandwidth={bandwidth}: must be positive")
    with full_precision(z):
        z, groups = _rows("kde_entropy", z, mask, 2, groups)
        z, groups = _sample("kde_entropy", z, groups, max_rows, generator)
        n, d = z.shape
        h = torch.as_tensor(bandwidth, dtype=z.dtype, device=z.device)
        related = _diagonal(z) if groups is None else groups[:, None] == groups[None, :]
        kernel = -0.5 * (_distances(z) / h).square()
        count = n - related.sum(dim=1, dtype=z.dtype)
        if groups is not None and bool((count == 0).any()):
            raise TooFewRows("kde_entropy: rows of one group; needs at least 2")
        log_density = kernel.masked_fill(related, -torch.inf).logsumexp(dim=1) - count.log()
        return -(log_density - d * (h.log() + LOG_2PI / 2)).mean()


@lru_cache
def digamma(n: int) -> float:
    """ψ(n) = Σ_{i<n} 1/i - γ of a whole number n >= 1."""
    return math.fsum(1 / i for i in range(1, n)) - EULER


def _neighbours(z: Tensor, groups: Tensor | None, k: int) -> tuple[Tensor, int]:
    """(N, S) which row is the k-th nearest of each row in S samples, and how many rows a sample has, one's own counted."""
    distance = _distances(z)
    if groups is None:
        nearest = distance.masked_fill(_diagonal(z), torch.inf).topk(k, largest=False).indices
        return nearest[:, -1:], len(z)
    samples = _samples(groups)  # (S, G)
    if samples.shape[1] <= k:
        raise TooFewRows(f"knn_entropy: rows of {samples.shape[1]} groups; needs at least {k + 1}")
    own = groups[:, None, None] == groups[samples]
    nearest = distance[:, samples].masked_fill(own, torch.inf).topk(k, largest=False).indices
    return samples.expand(len(z), -1, -1).gather(2, nearest[..., -1:])[..., 0], samples.shape[1]


def _samples(groups: Tensor) -> Tensor:
    """(S, G) rows: S samples of one row from each of G groups, as many as the largest group has rows, smaller ones in turn.

    Where in its group the first sample begins differs from group to group, so that groups which move alike (clips that all
    start at the same point of a cycle) are not met at the same point. The places are always the same ones.
    """
    _, which, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    order = which.argsort(stable=True)
    first = sizes.cumsum(0) - sizes
    start = torch.rand(len(sizes), generator=torch.Generator().manual_seed(0)).to(groups.device)
    turn = torch.arange(int(sizes.max()), device=groups.device)[:, None] + (start * sizes).long()
    chosen: Tensor = order[first + turn % sizes]
    return chosen


def _rows(
    name: str, z: Tensor, mask: Tensor | None, at_least: int = 1, groups: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The rows that count, float32 or wider, and their groups."""
    if z.ndim != 2 or z.shape[1] == 0:
        raise VidsslError(f"{name}: z has shape {tuple(z.shape)}; it must be (N, D)")
    if groups is not None and (groups.dtype != torch.int64 or groups.shape != z.shape[:1]):
        raise VidsslError(
            f"{name}: groups is {groups.dtype} {tuple(groups.shape)}; it must be int64 ({len(z)},)"
        )
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape != z.shape[:1]:
            raise VidsslError(
                f"{name}: mask is {mask.dtype} {tuple(mask.shape)}; it must be bool ({len(z)},)"
            )
        z = z[mask]
        groups = None if groups is None else groups[mask]
    if len(z) < at_least:
        raise TooFewRows(f"{name}: {len(z)} rows; needs at least {at_least}")
    rows: Tensor = widen(z)
    return rows, groups


def _sample(
    name: str, z: Tensor, groups: Tensor | None, max_rows: int | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor | None]:
    if max_rows is None or len(z) <= max_rows:
        return z, groups
    if generator is None:
        raise VidsslError(f"{name}: max_rows={max_rows} of {len(z)} rows needs a generator to draw them")
    drawn = torch.randperm(len(z), generator=generator)[:max_rows].to(z.device)
    return z[drawn], None if groups is None else groups[drawn]


def _centred(z: Tensor) -> Tensor:
    # Twice: far from the origin the first mean is rounded, and its error would enter the variance.
    z = z - z.mean(dim=0)
    return z - z.mean(dim=0)


def _covariance(z: Tensor) -> Tensor:
    """(D, D), in float64 where there is one: the determinant of nearly dependent dimensions needs the digits."""
    z = _centred(z if z.device.type == "mps" else z.double())
    return z.T @ z / (len(z) - 1)


def _distances(z: Tensor) -> Tensor:
    """(N, N) Euclidean distances; not by way of inner products, which cancel between close rows."""
    return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")


def _diagonal(z: Tensor) -> Tensor:
    return torch.eye(len(z), dtype=torch.bool, device=z.device)
