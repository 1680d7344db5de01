"""Is the representation alive? Label-free measures of rows (N, d), and one sentence when it is not.

All are computed in float32 or wider, without gradient. Rows that are not finite, or whose squares are not, give NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.base import l2_normalise
from vidssl.objectives.precision import full_precision, widen


@torch.no_grad()
def rankme(z: Tensor, eps: float = 1e-7) -> Tensor:
    """exp of the entropy of the normalised singular values (RankMe, Garrido et al. 2023, arXiv 2210.02885, eq. 1).

    Args:
        z: (N, d) rows, neither centred nor normalised.
        eps: added to the normalised singular values.

    Returns:
        Scalar in (0, min(N, d)], up to eps.
    """
    z = _rows(z)
    with full_precision(z):
        return _entropy_rank(_spectrum(torch.linalg.svdvals, z), eps)


@torch.no_grad()
def lidar(z: Tensor, delta: float = 1e-4, eps: float = 1e-8) -> Tensor:
    """Effective rank of the between-object scatter, whitened by the within-object scatter.

    LiDAR (Thilak et al. 2024, arXiv 2312.04000): the exp-entropy of the normalised eigenvalues of
    S_w^(-1/2) S_b S_w^(-1/2), where S_b = mean_i (m_i - m)(m_i - m)' over the object means and
    S_w = mean_iv (z_iv - m_i)(z_iv - m_i)' + delta I over the views.

    Args:
        z: (n, k, d): k >= 2 views of n >= 2 objects; more objects than d make it informative.
        delta: ridge of S_w, in squared units of z.
        eps: added to the normalised eigenvalues.

    Returns:
        Scalar in (0, min(n - 1, d)], up to eps.

    Raises:
        VidsslError: for fewer objects or views.
    """
    if z.ndim != 3 or z.shape[0] < 2 or z.shape[1] < 2:
        raise VidsslError(f"lidar: needs (n, k, d) with at least 2 objects and 2 views, got {tuple(z.shape)}")
    z = widen(z)
    n, k, d = z.shape
    with full_precision(z):
        means = z.mean(dim=1)
        between = means - means.mean(dim=0)
        within = rearrange(z - means[:, None], "n k d -> (n k) d")
        scatter_within = within.T @ within / (n * k) + delta * torch.eye(d, dtype=z.dtype, device=z.device)
        scatter_between = between.T @ between / n
        # Same eigenvalues as the symmetric form: S_w = R R', R^-1 S_b R^-T.
        root, failed = torch.linalg.cholesky_ex(scatter_within)
        root.masked_fill_(failed != 0, torch.nan)  # too large for the ridge to hold
        half = torch.linalg.solve_triangular(root, scatter_between, upper=False)
        whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
        eigenvalues = _spectrum(torch.linalg.eigvalsh, (whitened + whitened.T) / 2).clamp_min(0)
        return _entropy_rank(eigenvalues, eps)


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """(sum of eigenvalues)² / sum of squared eigenvalues of the covariance (participation ratio).

    The number r of equal eigenvalues with the same total and the same sum of squares; 0 for equal rows.

    Args:
        z: (N, d).
    """
    z = _rows(z)
    with full_precision(z):
        centred = z - z.mean(dim=0)
        gram = centred.T @ centred if z.shape[1] <= z.shape[0] else centred @ centred.T
        total, squares = gram.diagonal().sum(), gram.square().sum()
        return total.square() / squares.clamp_min(torch.finfo(z.dtype).tiny)


@torch.no_grad()
def spectrum_exponent(z: Tensor) -> Tensor:
    """α of eigenvalues λ_j ∝ j^(-α) of the covariance, largest first (Agrawal et al. 2022, α-ReQ, NeurIPS).

    About 1 was found to go with good features; 0 is white, and well above 1 is a few directions. Least squares of log λ_j on log j with
    weights 1/j, the same for every factor of two (Stringer et al. 2019), over the first half of the min(N - 1, d) eigenvalues: the
    last ones of a sample are too small.

    Args:
        z: (N, d), at least 5 rows and 4 dimensions, better N above 2d.

    Returns:
        Scalar; NaN for fewer, or where one of these eigenvalues is 0.
    """
    z = _rows(z)
    used = min(len(z) - 1, z.shape[1]) // 2
    if used < 2:
        return z.new_tensor(torch.nan)
    with full_precision(z):
        values = _spectrum(torch.linalg.svdvals, z - z.mean(dim=0))[:used]
        if not bool(values[-1] > torch.finfo(z.dtype).eps * values[0]):
            return z.new_tensor(torch.nan)
        x, y = torch.arange(1, used + 1, device=z.device).to(z).log(), 2 * values.log()
        weight = torch.exp(-x) / torch.exp(-x).sum()
        x = x - (weight * x).sum()
        return -(weight * x * y).sum() / (weight * x.square()).sum()


@torch.no_grad()
def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """How alike two encoders see the same N things, up to rotation and scale: centred kernel alignment, debiased.

    HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of linear kernels (Kornblith et al. 2019, arXiv 1905.00414) with the unbiased
    estimator of HSIC (Song et al. 2012, eq. 5; for CKA Nguyen, Raghu & Kornblith 2021, arXiv 2010.15327): the plain one nears 1
    for any features of more dimensions than rows.

    Args:
        x: (N, d), y: (N, d'); row i of both of the same thing; N >= 4.

    Returns:
        Scalar, 1 for the same features, about 0 (and below) for independent ones.

    Raises:
        VidsslError: for another number of rows, or fewer than 4.
    """
    x, y = _rows(x), _rows(y)
    if len(x) != len(y) or len(x) < 4:
        raise VidsslError(f"linear_cka: needs N >= 4 rows of both, got {len(x)} and {len(y)}")
    with full_precision(x):
        kernels = []
        for z in (x, y):
            z = z - z.mean(dim=0)
            kernels.append((z @ z.T).fill_diagonal_(0))
        a, b = kernels
        return _unbiased_hsic(a, b) / (_unbiased_hsic(a, a) * _unbiased_hsic(b, b)).sqrt()


@torch.no_grad()
def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """mean ‖x_i - y_i‖^alpha of l2-normalised positive pairs (Wang & Isola 2020, arXiv 2005.10242); 0 is perfect.

    Args:
        x, y: (N, d), row i of both from the same video; normalised here.
    """
    x, y = l2_normalise(_rows(x)), l2_normalise(_rows(y))
    distance: Tensor = torch.linalg.vector_norm(x - y, dim=1)
    return distance.pow(alpha).mean()


@torch.no_grad()
def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """log of the mean of exp(-t ‖z_i - z_j‖²) over pairs i < j of l2-normalised rows (Wang & Isola 2020).

    Args:
        z: (N >= 2, d); normalised here.

    Returns:
        Scalar between about -2t (even on the sphere) and 0 (collapsed).
    """
    z = l2_normalise(_rows(z))
    with full_precision(z):
        i, j = torch.triu_indices(len(z), len(z), offset=1, device=z.device)
        square = (2 - 2 * z @ z.T).clamp_min(0)[i, j]
        return torch.logsumexp(-t * square, dim=0) - torch.log(square.new_tensor(len(square)))


@torch.no_grad()
def dimension_std(z: Tensor) -> Tensor:
    """Standard deviation of each dimension of the l2-normalised rows, averaged over dimensions.

    About 1/sqrt(d) for rows spread evenly over the sphere, 0 when collapsed (Chen & He 2021, SimSiam,
    arXiv 2011.10566, section 4.1).

    Args:
        z: (N >= 2, d); normalised here.
    """
    return l2_normalise(_rows(z)).std(dim=0).mean()


def collapse_warning(
    *,
    loss: float | None = None,
    hsic_xx: float | None = None,
    kernel_rank: float | None = None,
    rank_needed: float | None = None,
    std: float | None = None,
    dim: int | None = None,
    rank: float | None = None,
) -> str | None:
    """One sentence when the numbers of a step look like collapse, else None.

    Args:
        loss, hsic_xx: of SSL-HSIC; both near 0 means that all rows are equal.
        kernel_rank, rank_needed: `effective_rank` and `rank_needed` of SSL-HSIC; spreading pays while the first is larger.
        std, dim: `dimension_std` and d; far below 1/sqrt(d) means that all rows point the same way.
        rank: an effective rank of the rows; below 2 means that they lie on a line.
    """
    signs = []
    if loss is not None and hsic_xx is not None and abs(loss) < 1e-3 and hsic_xx < 1e-5:
        signs.append(f"the loss sits at {loss:.1e} with HSIC(Z, Z) at {hsic_xx:.1e}, so all rows are alike")
    if std is not None and dim is not None and std < 0.1 * dim**-0.5:
        signs.append(f"the rows' standard deviation is {std:.1e} (about {dim**-0.5:.2g} when spread)")
    if rank is not None and rank < 2:
        signs.append(f"the effective rank is {rank:.1f}")
    if not signs:
        return None
    if hsic_xx is None:
        return f"the representation looks collapsed: {'; '.join(signs)}."
    advice = "end the projector in a norm (last_norm) if it does not, or take larger batches"
    if kernel_rank is not None and rank_needed is not None and kernel_rank < rank_needed:
        advice = (
            f"spreading pays only above an effective rank of (gamma/rho)² = {rank_needed:.3g}, which is at "
            f"{kernel_rank:.3g}; let gamma follow the data (gamma: null) or lower it, or {advice}"
        )
    return f"the representation looks collapsed: {'; '.join(signs)}. {advice[0].upper()}{advice[1:]}."


def same_view_warning(within: float | None, across: float | None) -> str | None:
    """One sentence when SSL-HSIC is earned by rows of one view, which need no invariance to be alike, else None.

    Args:
        within, across: HSIC(Z, Y) with positives from one view (prediction and target, frames) and from different
            views. An invariant code has the same for both.
    """
    if within is None or across is None or within < 0.05 or across > 0.5 * within:
        return None
    return (
        f"rows of the same view are alike, views of the same video are not: HSIC(Z, Y) is {within:.2g} within a view and "
        f"{across:.2g} across views. That tells views apart, not videos; set same_view_pairs: false."
    )


def _spectrum(decompose: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    """Singular values or eigenvalues; NaN instead of torch's error where the matrix is not finite."""
    return (
        decompose(matrix) if bool(matrix.isfinite().all()) else matrix.new_full(matrix.shape[:1], torch.nan)
    )


def _unbiased_hsic(a: Tensor, b: Tensor) -> Tensor:
    """Up to its factor 1/(N(N - 3)), of (N, N) kernels whose diagonals are zero."""
    n = len(a)
    product = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2))
    return product - 2 / (n - 2) * a.sum(dim=0) @ b.sum(dim=0)


def _entropy_rank(spectrum: Tensor, eps: float) -> Tensor:
    """exp(-sum p log p) of p = spectrum / sum + eps."""
    p = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny) + eps
    return torch.exp(-(p * p.log()).sum())


def _rows(z: Tensor) -> Tensor:
    if z.ndim != 2 or len(z) < 1:
        raise VidsslError(f"diagnostics: needs rows (N, d), got {tuple(z.shape)}")
    wide: Tensor = widen(z)
    return wide
