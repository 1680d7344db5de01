"""The scores once more, in plain loops from their definitions, for comparison only."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bins_of(column: Array, bins: int = 20) -> list[int]:
    """numpy's own histogram and digitize."""
    return [int(b) for b in np.digitize(column, np.histogram(column, bins)[1][:-1])]


def information(x: list[int], y: list[int]) -> float:
    n, joint, of_x, of_y = len(x), Counter(zip(x, y, strict=True)), Counter(x), Counter(y)
    return sum(c / n * log(c * n / (of_x[a] * of_y[b])) for (a, b), c in joint.items())


def matrix(codes: Array, factors: NDArray[np.int64], bins: int = 20, miller_madow: bool = False) -> Array:
    found = np.zeros((codes.shape[1], factors.shape[1]))
    for i in range(codes.shape[1]):
        for j in range(factors.shape[1]):
            x, y = bins_of(codes[:, i], bins), factors[:, j].tolist()
            found[i, j] = information(x, y)
            if miller_madow:
                cells = len(set(x)) + len(set(y)) - len(set(zip(x, y, strict=True))) - 1
                found[i, j] = max(0.0, found[i, j] + cells / (2 * len(x)))
    return found


def one_less_entropy(weights: list[float]) -> float:
    weights = [w + 1e-11 for w in weights]
    p = [w / sum(weights) for w in weights]
    return 1 + sum(q * log(q) for q in p) / log(len(p))


def med(nats: Array, top_k: int | None = None) -> tuple[float, float, list[int]]:
    """Score, completeness, kept."""
    d, k = nats.shape
    r = [[nats[i, j] / sum(nats[:, j]) for j in range(k)] for i in range(d)]
    kept = list(range(d))
    if top_k is not None:
        kept = []
        for j in range(k):
            mine = [i for i in range(d) if max(range(k), key=lambda j, i=i: r[i][j]) == j]
            kept += sorted(mine, key=lambda i: -one_less_entropy(r[i]))[:top_k]
        kept.sort()
    total = sum(sum(r[i]) for i in kept)
    score = sum(sum(r[i]) / total * one_less_entropy(r[i]) for i in kept)
    columns = [[r[i][j] for i in kept] for j in range(k)]
    if len(kept) == 1:
        return score, float("nan"), kept
    return score, sum(sum(c) / total * one_less_entropy(c) for c in columns), kept


def mig(nats: Array, factors: NDArray[np.int64]) -> float:
    gaps = []
    for j in range(nats.shape[1]):
        ordered, column = sorted(nats[:, j]), factors[:, j].tolist()
        gaps.append((ordered[-1] - ordered[-2]) / information(column, column))
    return sum(gaps) / len(gaps)


def modularity(nats: Array) -> float:
    scores = []
    for row in nats:
        squares = sorted(float(m) ** 2 for m in row)
        scores.append(1 - sum(squares[:-1]) / (squares[-1] * (len(row) - 1)) if squares[-1] > 0 else 0.0)
    return sum(scores) / len(scores)


def irs(codes: Array, factors: NDArray[np.int64]) -> float:
    weighted, weights = 0.0, 0.0
    for i in range(codes.shape[1]):
        z = codes[:, i].astype(np.float64)
        largest = max(abs(v - sum(z) / len(z)) for v in z)
        if max(z) == min(z):
            continue
        best = -np.inf
        for j in range(factors.shape[1]):
            labels, spreads = bins_of(factors[:, j].astype(float)), []
            for value in sorted(set(labels)):
                group = [v for v, label in zip(z, labels, strict=True) if label == value]
                away = sorted(abs(v - sum(group) / len(group)) for v in group)
                place = 0.99 * (len(away) - 1)
                low = int(place)
                high = min(low + 1, len(away) - 1)
                spreads.append(away[low] + (place - low) * (away[high] - away[low]))
            best = max(best, 1 - sum(spreads) / len(spreads) / largest)
        weighted, weights = weighted + largest * best, weights + largest
    return weighted / weights
