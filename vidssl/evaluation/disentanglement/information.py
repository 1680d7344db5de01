"""How much single codes say of single factors: histograms of the codes, and mutual information in nats.

A code is one dimension of a representation, a factor one label of what was shown. Codes are cut into bins of equal width
between their smallest and their largest value, as disentanglement_lib does (Locatello et al. 2019, arXiv 1811.12359), so
that numbers do not change when a code is scaled or shifted; the information is the plug-in estimate, which is never
negative and therefore positive on average for codes that say nothing, about (bins - 1)(values - 1) / 2N.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vidssl.errors import VidsslError, check_choice

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = ArrayLike | Tensor
BINS = 20
_CELLS = 4_000_000  # counts held at a time


class Information(NamedTuple):
    """What codes say of factors.

    Attributes:
        nats: (d, K) mutual information.
        entropy: (K,) of the factors, nats: what a code could say at most.
    """

    nats: Floats
    entropy: Floats


def mutual_information(codes: Codes, factors: Codes, bins: int = BINS) -> Floats:
    """Mutual information of every code with every factor.

    Args:
        codes: (N, d) floats.
        factors: (N, K) whole numbers; which ones does not matter.
        bins: of equal width, of each code.

    Returns:
        (d, K) nats; 0 for a constant code or factor.

    Raises:
        VidsslError: for other shapes, values that are not finite, factors that are not whole, or no samples.
    """
    return measure_information(*checked(codes, factors, bins), bins).nats


def measure_information(
    codes: NDArray[Any], factors: Ints, bins: int = BINS, bias: str | None = None
) -> Information:
    """The same of checked arrays, with the factors' entropies.

    Args:
        codes, factors: of `checked`.
        bias: "miller_madow" adds (m_z + m_y - m_zy - 1) / 2N, where m counts the cells that are not empty (Miller 1955), and
            takes 0 where that is negative.
    """
    if bias is not None:
        check_choice("bias", bias, ("miller_madow",))
    n, d = codes.shape
    nats, entropy = np.zeros((d, factors.shape[1])), np.zeros(factors.shape[1])
    binned = discretise(codes, bins)
    for j, column in enumerate(factors.T):
        values, labels = np.unique(column, return_inverse=True)
        of_label = np.bincount(labels).astype(np.float64)
        entropy[j] = -np.sum(of_label / n * np.log(of_label / n))
        step = max(_CELLS // (bins * len(values)), 1)
        for start in range(0, d, step):
            counts = _counts(binned[start : start + step], labels, bins, len(values))
            nats[start : start + step, j] = _nats(counts, of_label, bias)
    return Information(nats, entropy)


def discretise(codes: NDArray[Any], bins: int) -> Ints:
    """(N, d) codes -> (d, N) numbers of their bins, from 0; each code between its own smallest and largest value.

    The bins are those of `np.histogram`, the last one closed; a constant code lies in one of them.
    """
    by_code = np.ascontiguousarray(codes.T)
    half = by_code.dtype.type(0.5)
    binned = np.empty(by_code.shape, dtype=np.int64)
    for i, row in enumerate(by_code):
        low, high = row.min(), row.max()
        if low == high:
            low, high = low - half, high + half
        inner = np.linspace(low, high, bins + 1, dtype=row.dtype)[1:-1]
        binned[i] = np.searchsorted(inner, row, side="right")
    return binned


def _counts(binned: Ints, labels: Ints, bins: int, values: int) -> Floats:
    """(d, bins, values): how many samples have this bin and that label."""
    cells = bins * values
    rows = [np.bincount(row * values + labels, minlength=cells) for row in binned]
    return np.stack(rows).reshape(len(binned), bins, values).astype(np.float64)


def _nats(counts: Floats, of_label: Floats, bias: str | None) -> Floats:
    """(d,): sum of p log(p / (p_x p_y)); products of whole numbers, so that independence in the sample is exactly 0."""
    n = of_label.sum()
    of_bin = counts.sum(axis=2)
    ratio = np.divide(counts * n, of_bin[:, :, None] * of_label, out=np.ones_like(counts), where=counts > 0)
    nats = np.einsum("dbv,dbv->d", counts / n, np.log(ratio))
    if bias == "miller_madow":
        cells = (of_bin > 0).sum(axis=1) + len(of_label) - (counts > 0).sum(axis=(1, 2)) - 1
        nats = nats + cells / (2 * n)
    return np.asarray(np.maximum(nats, 0.0))


def checked(codes: Codes, factors: Codes, bins: int = BINS) -> tuple[NDArray[Any], Ints]:
    """Codes (N, d) in float32 or float64 and factors (N, K) in int64.

    Raises:
        VidsslError: see `mutual_information`.
    """
    if bins < 2:
        raise VidsslError(f"bins={bins}: must be at least 2")
    x, y = checked_codes(codes), checked_factors(factors)
    if len(x) != len(y):
        raise VidsslError(f"{len(x)} rows of codes, {len(y)} of factors: must be as many")
    if len(x) < bins:
        _warn(f"{len(x)} samples are fewer than the {bins} bins: information is mostly that of the sample")
    return x, y


def checked_codes(codes: Codes, name: str = "codes") -> NDArray[Any]:
    """(N, d), float32 as it is and everything else float64.

    Raises:
        VidsslError: for another shape, none of them, or values that are not finite; says how many rows.
    """
    if isinstance(codes, Tensor):
        codes = codes.detach().cpu()
        codes = (codes if codes.dtype == torch.float64 else codes.float()).numpy()
    x = np.asarray(codes)
    if x.ndim != 2 or 0 in x.shape:
        raise VidsslError(f"{name}: shape {x.shape}: must be (N, d) with at least one row and one column")
    if x.dtype != np.float32:
        x = x.astype(np.float64)
    broken = int((~np.isfinite(x)).any(axis=1).sum())
    if broken:
        raise VidsslError(
            f"{name}: {broken} of {len(x)} rows have values that are not finite; leave them out"
        )
    with np.errstate(over="ignore"):
        spread = x.max(axis=0) - x.min(axis=0)
    if not np.isfinite(spread).all():
        raise VidsslError(f"{name}: values as far apart as {x.dtype} can hold; scale them down")
    return x


def checked_factors(factors: Codes, name: str = "factors") -> Ints:
    """(N, K).

    Raises:
        VidsslError: for another shape, or values that are not whole numbers; says in which column.
    """
    y = factors.detach().cpu().numpy() if isinstance(factors, Tensor) else np.asarray(factors)
    if y.ndim != 2 or 0 in y.shape:
        raise VidsslError(f"{name}: shape {y.shape}: must be (N, K) with at least one row and one column")
    if not np.issubdtype(y.dtype, np.number) and y.dtype != np.bool_:
        raise VidsslError(f"{name}: values of {y.dtype}: must be whole numbers")
    if np.issubdtype(y.dtype, np.inexact):
        odd = [str(j) for j, column in enumerate(y.T) if not np.array_equal(np.rint(column), column)]
        if odd or not np.isfinite(y).all():
            raise VidsslError(f"{name}: column {', '.join(odd)}: values that are not whole numbers")
    return y.astype(np.int64)


def varying(factors: Ints, at_least: int, why: str) -> NDArray[np.bool_]:
    """Which factors are not constant, (K,) bool; those that are get a warning.

    Args:
        at_least: how many have to vary.
        why: said when fewer do.

    Raises:
        VidsslError: then.
    """
    kept: NDArray[np.bool_] = (factors != factors[:1]).any(axis=0)
    if int(kept.sum()) < at_least:
        raise VidsslError(f"factors: {int(kept.sum())} of {len(kept)} vary: {why}")
    if not kept.all():
        _warn(f"constant factors are left out: {_listed(np.flatnonzero(~kept))} of {len(kept)}")
    return kept


def _listed(columns: Sequence[int] | Ints) -> str:
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(str(int(j)) for j in columns)}"


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
