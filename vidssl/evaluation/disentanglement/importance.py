"""Disentanglement and completeness of a matrix of importances, as DCI defines them (Eastwood and Williams 2018).

1e-11 is added to every importance before an entropy is taken, as disentanglement_lib does: a row or column of zeros is then
a uniform one, and scores 0.
"""

from __future__ import annotations

import math

import numpy as np

from vidssl.evaluation.disentanglement.information import Floats

_LITTLE = 1e-11


def per_code(importance: Floats) -> Floats:
    """(d, K) importances -> (d,): 1 less the entropy, in base K, of each row divided by its sum."""
    return 1 - _entropy(importance.T)


def disentanglement(importance: Floats) -> float:
    """The mean of `per_code`, each weighted by its row's share of all importance."""
    return _weighted(per_code(importance), importance.sum(axis=1))


def completeness(importance: Floats) -> float:
    """The same along columns, in base d; nan for a single code, which leaves nothing to compare."""
    if len(importance) == 1:
        return math.nan
    return _weighted(1 - _entropy(importance), importance.sum(axis=0))


def _entropy(columns: Floats) -> Floats:
    """Of each column, in base of their length."""
    p = columns + _LITTLE
    p = p / p.sum(axis=0)
    entropy: Floats = -np.sum(p * np.log(p), axis=0) / np.log(len(p))
    return entropy


def _weighted(scores: Floats, weights: Floats) -> float:
    total = weights.sum()
    return float(np.sum(scores * weights) / total) if total > 0 else float(scores.mean())
