"""Scores of disentanglement: does each code say something of one factor alone (and is each factor said by one code)?

All of them take codes (N, d) and factors (N, K) and are deterministic. Those of this file are counted; those that fit
classifiers are in `probes`, those that draw batches with a factor held in `batches`; both are had from here too.
Constant factors are left out, with a warning. docs/disentanglement.md says what each number means and what it cannot tell.

>>> med(codes, factors)["score"], mutual_information(codes, factors).max(axis=0)    # always together
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError, check_value
from vidssl.evaluation.disentanglement.batches import beta_vae_score, factor_vae_score
from vidssl.evaluation.disentanglement.importance import completeness, disentanglement, per_code
from vidssl.evaluation.disentanglement.information import (
    BINS,
    Codes,
    Floats,
    Information,
    checked,
    discretise,
    measure_information,
    mutual_information,
    varying,
)
from vidssl.evaluation.disentanglement.probes import dci, explicitness, sap

__all__ = [
    "beta_vae_score",
    "dci",
    "explicitness",
    "factor_vae_score",
    "irs",
    "med",
    "mig",
    "modularity",
    "mutual_information",
    "sap",
]
QUANTILE = 0.99  # of the deviations that IRS looks at


def med(
    codes: Codes, factors: Codes, bins: int = BINS, top_k: int | None = None, bias: str | None = None
) -> dict[str, Any]:
    """Mutual-information-based entropy disentanglement: DCI's disentanglement of the matrix of mutual information.

    Columns of the matrix are divided by their sums (R); a code's score is 1 less the entropy, in base K, of its row; the
    score is their mean, weighted by what each code has of all columns. A tiny information looks large once columns are
    divided by their sums: look at the nats too.

    Args:
        codes: (N, d). factors: (N, K) whole numbers.
        bins: of each code.
        top_k: score only the k purest codes of those whose largest R is at a factor, for every factor. Columns stay as they are.
        bias: "miller_madow" corrects the plug-in estimate, which otherwise adds up over codes that say nothing.

    Returns:
        ``score`` and ``completeness`` (the same along columns, base: number of codes) of the ``kept`` codes (their numbers,
        all of them without `top_k`); ``per_code`` (d,) and ``importance`` R (d, K) of all codes. K counts factors that vary.
        Completeness of a single code is nan; where no code says anything, both scores are 0.

    Raises:
        VidsslError: see `mutual_information`; fewer than two factors vary; `top_k` below 1.
    """
    check_value("top_k", top_k, top_k is None or top_k >= 1, "at least 1, or None")
    x, y = _checked(
        codes, factors, bins, 2, "a code that says one factor alone needs others that it could say"
    )
    return med_of(measure_information(x, y, bins, bias).nats, top_k)


def med_of(nats: Floats, top_k: int | None = None) -> dict[str, Any]:
    """`med` of a matrix of mutual information, (d, K)."""
    totals = nats.sum(axis=0)
    importance = np.divide(nats, totals, out=np.zeros_like(nats), where=totals > 0)
    purity = per_code(importance)
    kept = np.arange(len(nats)) if top_k is None else _purest(importance, purity, top_k)
    return {
        "score": disentanglement(importance[kept]),
        "completeness": completeness(importance[kept]),
        "per_code": purity,
        "importance": importance,
        "kept": kept,
    }


def _purest(importance: Floats, purity: Floats, top_k: int) -> NDArray[np.int64]:
    """For each factor the `top_k` purest of the codes that prefer it; the first of equal ones."""
    factor = importance.argmax(axis=1)
    order = np.argsort(-purity, kind="stable")
    kept = [order[factor[order] == j][:top_k] for j in range(importance.shape[1])]
    return np.sort(np.concatenate(kept))


def mig(codes: Codes, factors: Codes, bins: int = BINS) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942): by how much the best code says more of a factor than
    the second best, as a share of the factor's entropy; mean over factors. Near 0 as soon as two codes say the same.

    Raises:
        VidsslError: see `mutual_information`; a single code; no factor varies.
    """
    x, y = _checked(codes, factors, bins, 1, "there is nothing to say")
    return mig_of(measure_information(x, y, bins))


def mig_of(information: Information) -> float:
    """`mig` of what was measured, of factors that vary."""
    if len(information.nats) < 2:
        raise VidsslError("codes: 1 column: a gap needs at least two")
    second, best = np.sort(information.nats, axis=0)[-2:]
    return float(np.mean((best - second) / information.entropy))


def modularity(codes: Codes, factors: Codes, bins: int = BINS) -> float:
    """Modularity (Ridgeway and Mozer 2018, arXiv 1802.05312): 1 less the squared information of a code with all factors
    but its best, as a share of what it would be if all were as large; mean over codes, 0 for one that says nothing.

    Codes that say nothing get about 0.6, for their estimated information is never 0.

    Raises:
        VidsslError: see `mutual_information`; fewer than two factors vary.
    """
    x, y = _checked(
        codes, factors, bins, 2, "a code that says one factor alone needs others that it could say"
    )
    return modularity_of(measure_information(x, y, bins).nats)


def modularity_of(nats: Floats) -> float:
    """`modularity` of a matrix of mutual information, (d, K)."""
    squares = nats**2
    best = squares.max(axis=1)
    others = (squares.sum(axis=1) - best) / (nats.shape[1] - 1)
    share = np.divide(others, best, out=np.ones_like(best), where=best > 0)
    return float(np.mean(1 - share))


def irs(codes: Codes, factors: Codes, bins: int = BINS) -> float:
    """Interventional robustness (Suter et al. 2019, arXiv 1811.00007): how still a code stays while one factor is held.

    For each value of a factor, the 99th percentile of a code's distance from its mean there; their mean over values, as a
    share of the code's largest distance from its mean at all; 1 less that, for the best factor, weighted by that
    largest distance. Factors are cut into bins as codes are; constant codes are left out. One factor at a time is
    held, so the score of codes that say nothing is well above 0 where few samples share a value.

    Returns:
        0 where every code is constant.

    Raises:
        VidsslError: see `mutual_information`; no factor varies.
    """
    x, y = _checked(codes, factors, bins, 1, "nothing can be held")
    x = x[:, (x != x[:1]).any(axis=0)].astype(np.float64)
    if not x.size:
        return 0.0
    largest = np.abs(x - x.mean(axis=0)).max(axis=0)
    still = np.empty((x.shape[1], y.shape[1]))
    for j, column in enumerate(discretise(y.astype(np.float64), bins)):
        groups = [x[column == value] for value in np.unique(column)]
        spread = [np.quantile(np.abs(group - group.mean(axis=0)), QUANTILE, axis=0) for group in groups]
        still[:, j] = 1 - np.mean(spread, axis=0) / largest
    return float(np.average(still.max(axis=1), weights=largest))


def _checked(
    codes: Codes, factors: Codes, bins: int, at_least: int, why: str
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Codes, and the factors that vary."""
    x, y = checked(codes, factors, bins)
    return x, y[:, varying(y, at_least, why)]
