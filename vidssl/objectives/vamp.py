"""VAMP-2: how much of a process features tell in advance, whatever linear map they are read with.

The score is the sum of squared canonical correlations between features now and later, which the true transfer operator's
leading singular functions maximise (Wu & Noé 2020, "Variational Approach for Learning Markov Processes from Time Series
Data", arXiv 1707.04659). Features fitted to few rows correlate by chance, so the map is fitted to some videos and
judged on others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.precision import full_precision, widen


@torch.no_grad()
def vamp2_score(
    fit: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], ridge: float | None = None
) -> Tensor:
    """2 tr(M'C01) - tr(M'C00 M C11) of the test rows, with M = C00⁻¹ C01 C11⁻¹ of the rows it is fitted to.

    That is the VAMP-E score of the fitted operator (eq. 30), with the constant function, which adds 1 to every VAMP-2,
    left out: at most the VAMP-2 score of the features in expectation, and equal to it on the rows of the fit.

    Args:
        fit, test: (features now, features later), each (N, d), row i of both from the same moment.
        ridge: added to the variances C00, C11 of the fit, in units of their mean; None: d/N, which vanishes for many rows.

    Returns:
        Scalar, at most d, 0 for a map that predicts nothing; negative when it does worse than that. NaN for rows that
        are not finite or all equal, as a single one is.

    Raises:
        VidsslError: for shapes that do not fit.
    """
    shapes = [tuple(rows.shape) for rows in (*fit, *test)]
    if len({shape[1:] for shape in shapes}) > 1 or any(
        a.shape != b.shape or a.ndim != 2 or len(a) < 1 for a, b in (fit, test)
    ):
        raise VidsslError(f"vamp2: needs pairs of (N, d), got {', '.join(map(str, shapes))}")
    (x, y), (x_test, y_test) = widen(fit), widen(test)
    n, d = x.shape
    with full_precision(x):
        x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        x, y = x - x_mean, y - y_mean
        ridge = d / n if ridge is None else ridge
        half = torch.cholesky_solve(x.T @ y / n, _root(x, ridge))
        operator = torch.cholesky_solve(half.T, _root(y, ridge)).T
        # The fitted kernel is 1 + (x - mean)'M(y - mean), with the means of the fit; its mean over independent pairs
        # of the test rows is taken from the joint one, which leaves the covariance around their own means.
        x, y, n = x_test - x_mean, y_test - y_mean, len(x_test)
        joint = x.T @ y / n - torch.outer(x.mean(dim=0), y.mean(dim=0))
        independent = ((x.T @ x) @ operator * (operator @ (y.T @ y))).sum() / n**2
        score: Tensor = 2 * (operator * joint).sum() - independent
        return score


def _root(rows: Tensor, ridge: float) -> Tensor:
    """Cholesky factor of the covariance of centred rows, lifted."""
    cov = rows.T @ rows / len(rows)
    lift = ridge * cov.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(
        cov + lift * torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
    )
    root: Tensor = factor.masked_fill(failed != 0, torch.nan)
    return root
