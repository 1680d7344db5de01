"""Log density of Gaussian vectors of which some entries may be missing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import Layout, in_one_precision, shared
from vidssl.errors import VidsslError

LOG_2PI = math.log(2 * math.pi)


def innovation_log_likelihood(
    innovation: Tensor, innovation_cov: Tensor, mask: Tensor | None = None, check: bool = True
) -> Tensor:
    """log N(e_t; 0, S_t) of the observed entries of every step, in nats.

    With the filter's own innovations these are its `log_likelihood`. Other targets give other losses: for a target that
    must not train the encoder, e_t = z_t.detach() - C x_t^- - d.

    Args:
        innovation: (…, T, m); NaN is a missing entry.
        innovation_cov: (m, m), (T, m, m) or (…, T, m, m), positive definite.
        mask: bool, broadcastable to (…, T, m); False is a missing entry.
        check: as in `kalman_filter`.

    Returns:
        (…, T); 0 where a whole step is missing. float32 or wider, differentiable in both arguments.

    Raises:
        VidsslError: for wrong shapes, or a covariance that is not finite or not positive definite.
    """
    name = "innovation_log_likelihood"
    if innovation.ndim < 2:
        raise VidsslError(f"{name}: innovation has shape {tuple(innovation.shape)}; it must be (…, T, m)")
    with torch.autocast(innovation.device.type, enabled=False):
        e, S = in_one_precision(name, {"innovation": innovation, "innovation_cov": innovation_cov}).values()
        *batch, steps, m = e.shape
        layout = Layout(name, steps, batch, of="innovation")
        S = layout.check("innovation_cov", S, (m, m))
        e, observed = hide_missing(layout, e, mask, check)
        if check:
            layout.check_values({"innovation": e, "innovation_cov": S})
        columns = shared(S) and (observed is None or observed.ndim == 2)
        e, S = layout.vectors(e, columns), layout.matrices(S)
        if observed is not None:
            observed = layout.vectors(observed, columns)
            S = mask_covariance(S, observed[..., 0])
        L, failed = torch.linalg.cholesky_ex(S)
        if check and bool((failed != 0).any()):
            raise VidsslError(f"{name}: innovation_cov{layout.where(failed != 0)} is not positive definite")
        found = log_density(e, L, observed)
        if not check:
            found = found + undefined(failed, found.dtype)
        return layout.vectors_back(found[:, :, None])[..., 0]


def log_density(e: Tensor, L: Tensor, observed: Tensor | None) -> Tensor:
    """log N(e; 0, L Lᵀ) of each column of e (…, m, k), L (…, m, m): (…, k).

    Unobserved entries are 0 in e, and their rows and columns in L those of the identity, which contributes nothing.
    """
    count = e.shape[-2] if observed is None else observed.sum(-2, dtype=e.dtype)
    square: Tensor = torch.linalg.solve_triangular(L, e, upper=False).square().sum(-2)
    log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    return -0.5 * (square + count * LOG_2PI) - log_det


def undefined(failed: Tensor, dtype: torch.dtype) -> Tensor:
    """0, or NaN where any factor has failed: added to a result, it leaves it as it is or makes it undefined."""
    return torch.where((failed != 0).any(), torch.nan, 0.0).to(dtype)


def hide_missing(
    layout: Layout, values: Tensor, mask: Tensor | None, check: bool = True
) -> tuple[Tensor, Tensor | None]:
    """`values` (…, T, m) with 0 where NaN or masked, and which entries are observed; None when all are.

    Without a mask and not told to `check`, all are.

    Returns without batch axes, (T, m), what is observed when all sequences lack the same entries.

    Raises:
        VidsslError: for a mask of another type or shape.
    """
    if mask is None and (not check or bool(torch.isfinite(values.sum()))):
        return values, None  # a finite sum has no NaN in it
    observed = ~torch.isnan(values)
    if mask is not None:
        observed = observed & _checked(layout.function, mask, values.shape)
    if bool(observed.all()):
        return values, None
    values = torch.where(observed, values, 0)
    rows = observed.reshape(-1, *observed.shape[-2:])
    if len(rows) and bool((rows == rows[:1]).all()):
        observed = rows[0]
    layout.batches["mask"] = tuple(observed.shape[:-2])
    return values, observed


def _checked(function: str, mask: Tensor, shape: torch.Size) -> Tensor:
    if mask.dtype != torch.bool:
        raise VidsslError(f"{function}: mask is {mask.dtype}; it must be bool, True where observed")
    *batch, steps, m = shape
    fits = mask.ndim >= 2 and mask.shape[-1] in (1, m) and mask.shape[-2] in (1, steps)
    pairs = zip(reversed(mask.shape[:-2]), reversed(batch), strict=False)
    if not fits or any(i != j and 1 not in (i, j) for i, j in pairs):
        raise VidsslError(
            f"{function}: mask has shape {tuple(mask.shape)}; it must be broadcastable to {tuple(shape)}; for whole "
            "steps give it a last axis of length 1"
        )
    return mask


def mask_covariance(S: Tensor, observed: Tensor) -> Tensor:
    """S (…, m, m) with the rows and columns of unobserved entries (…, m) replaced by those of the identity."""
    k = observed.to(S.dtype)
    return S * (k[..., :, None] * k[..., None, :]) + torch.diag_embed(1 - k)
