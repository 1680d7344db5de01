"""Scores from batches of clips that share a factor: β-VAE's (Higgins et al. 2017) and FactorVAE's (Kim and Mnih 2018).

Both ask whether one can tell, from a batch of codes, which factor was held. Batches come from an encoder that can be asked
for any factors (`beta_vae_score`, `factor_vae_score`) or from a pool of clips that are already encoded (`Pool`), where those
that share a value are drawn at random. Neither score tells disentangled codes from linearly mixed ones at every size: both
saturate early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vidssl.errors import check_value
from vidssl.evaluation.disentanglement.information import Codes, Floats, Ints, checked, checked_codes, varying
from vidssl.evaluation.disentanglement.probes import sklearn_module

Encode = Callable[[Tensor], Codes]
VARIANCE_SAMPLES = 10_000  # for the variances of all
STILL = 0.05  # codes of a smaller standard deviation do not vote
_ROWS = 8192  # encoded at a time
_ONE = "with one factor there is nothing to tell apart"


class Source(Protocol):
    """Where batches of codes come from.

    Attributes:
        held: numbers of the factors that can be held.
        rng: of all draws.
    """

    held: Ints
    rng: np.random.Generator

    def pairs(self, factors: Ints, batch: int) -> tuple[Floats, Floats]:
        """For each of n factors, `batch` pairs of clips that agree in it: twice (n, batch, d)."""

    def fixed(self, factors: Ints, batch: int) -> Floats:
        """For each of n factors, `batch` clips that all agree in it: (n, batch, d)."""

    def any(self, n: int) -> Floats:
        """(n, d) of clips drawn at random."""


def beta_vae_score(
    encode: Encode,
    sizes: Sequence[int],
    train: int = 10_000,
    test: int = 5_000,
    batch: int = 64,
    generator: torch.Generator | None = None,
) -> float:
    """Accuracy with which logistic regression tells which factor two batches share, from how far apart they are.

    A point is the mean over `batch` pairs of |z₁ - z₂|, where the pairs agree in one factor, drawn for each point, and are
    independent in the others.

    Args:
        encode: factors, an (n, K) int64 Tensor with column k in [0, sizes[k]) -> codes (n, d).
        sizes: number of values of each of the K factors.
        train, test: points to fit on and to test on.
        batch: pairs of a point.
        generator: of factors; None: one of seed 0.

    Returns:
        Test accuracy; one over the number of factors where codes say nothing.

    Raises:
        VidsslError: with fewer than two factors of two values, for codes that are not finite, or without scikit-learn.
    """
    source = _Rendered(encode, sizes, _rng(generator))
    return beta_vae(source, source, train, test, batch)


def factor_vae_score(
    encode: Encode,
    sizes: Sequence[int],
    train: int = 10_000,
    test: int = 5_000,
    batch: int = 64,
    generator: torch.Generator | None = None,
) -> float:
    """Accuracy with which the code that varies least tells which factor a batch shares.

    A vote is the code of least variance in a batch that agrees in one factor, as a share of its variance over 10,000
    clips; each code stands for the factor that it voted for most often. Codes of a standard deviation below 0.05 are left out.

    Args:
        as `beta_vae_score`; `train` and `test` count votes.

    Returns:
        Test accuracy; 0 where all codes are left out.

    Raises:
        VidsslError: as `beta_vae_score`, but scikit-learn is not needed.
    """
    source = _Rendered(encode, sizes, _rng(generator))
    return factor_vae(source, source, train, test, batch)


def beta_vae(fit: Source, check: Source, train: int, test: int, batch: int) -> float:
    """`beta_vae_score` from any sources, one to fit on and one to test on; the first says which factors can be held."""
    _check_counts(train, test, batch)
    points, labels = [], []
    for source, count in ((fit, train), (check, test)):
        labels.append(source.rng.choice(fit.held, size=count))
        pairs = (source.pairs(part, batch) for part in _blocks(labels[-1], batch))
        points.append(np.concatenate([np.abs(first - second).mean(axis=1) for first, second in pairs]))
    if len(np.unique(labels[0])) < 2:  # very few points
        return float(np.mean(labels[1] == labels[0][0]))
    model = sklearn_module("linear_model").LogisticRegression().fit(points[0], labels[0])
    return float(np.mean(model.predict(points[1]) == labels[1]))


def factor_vae(fit: Source, check: Source, train: int, test: int, batch: int) -> float:
    """`factor_vae_score` from any sources, one for the variances and to fit on, and one to test on."""
    _check_counts(train, test, batch)
    variances = fit.any(VARIANCE_SAMPLES).var(axis=0, ddof=1)
    alive = np.flatnonzero(np.sqrt(variances) >= STILL)
    if not len(alive):
        return 0.0
    votes, labels = [], []
    for source, count in ((fit, train), (check, test)):
        labels.append(source.rng.choice(fit.held, size=count))
        batches = (source.fixed(part, batch)[..., alive] for part in _blocks(labels[-1], batch))
        votes.append(
            np.concatenate([(x.var(axis=1, ddof=1) / variances[alive]).argmin(axis=1) for x in batches])
        )
    table = np.zeros((fit.held.max() + 1, len(alive)), dtype=np.int64)
    np.add.at(table, (labels[0], votes[0]), 1)
    stands_for = table.argmax(axis=0)
    return float(np.mean(stands_for[votes[1]] == labels[1]))


class Pool:
    """Clips that are already encoded; those that share a value are drawn from it, with replacement.

    Args:
        codes: (N, d). factors: (N, K); constant ones are never held.
        rng: draws the clips.

    Raises:
        VidsslError: see `mutual_information`; fewer than two factors vary.
    """

    def __init__(self, codes: Codes, factors: Codes, rng: np.random.Generator) -> None:
        x, self.factors = checked(codes, factors, bins=2)
        self.codes: Floats = x.astype(np.float64)
        self.held = np.flatnonzero(varying(self.factors, 2, _ONE))
        self.rng = rng
        # Rows in the order of a factor's values: those of one value are a slice.
        self.orders = np.argsort(self.factors, axis=0, kind="stable")

    def pairs(self, factors: Ints, batch: int) -> tuple[Floats, Floats]:
        """See `Source`."""
        first = self.rng.integers(len(self.codes), size=(len(factors), batch))
        second = self._mates(first, np.repeat(factors[:, None], batch, axis=1))
        return self.codes[first], self.codes[second]

    def fixed(self, factors: Ints, batch: int) -> Floats:
        """See `Source`."""
        first = self.rng.integers(len(self.codes), size=(len(factors), 1))
        return self.codes[
            self._mates(np.repeat(first, batch, axis=1), np.repeat(factors[:, None], batch, axis=1))
        ]

    def any(self, n: int) -> Floats:
        """All of them, however many are asked for."""
        return self.codes

    def _mates(self, rows: Ints, factors: Ints) -> Ints:
        """For each row one that has the same value of that factor, perhaps itself."""
        mates = np.empty_like(rows)
        for k in np.unique(factors):
            here = factors == k
            order = self.orders[:, k]
            values = self.factors[order, k]
            wanted = self.factors[rows[here], k]
            start, stop = (np.searchsorted(values, wanted, side=side) for side in ("left", "right"))
            mates[here] = order[self.rng.integers(start, stop)]
        return mates


class _Rendered:
    """Codes of whatever factors are asked for."""

    def __init__(self, encode: Encode, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self.encode, self.sizes, self.rng = encode, np.asarray(sizes, dtype=np.int64), rng
        check_value(
            "sizes", list(sizes), self.sizes.ndim == 1 and bool((self.sizes >= 1).all()), "at least 1 each"
        )
        self.held = np.flatnonzero(varying(np.stack([np.zeros_like(self.sizes), self.sizes - 1]), 2, _ONE))

    def pairs(self, factors: Ints, batch: int) -> tuple[Floats, Floats]:
        first, second = self._draw(len(factors), batch), self._draw(len(factors), batch)
        rows = np.arange(len(factors))
        second[rows, :, factors] = first[rows, :, factors]
        return self._codes(first), self._codes(second)

    def fixed(self, factors: Ints, batch: int) -> Floats:
        drawn = self._draw(len(factors), batch)
        rows = np.arange(len(factors))
        drawn[rows, :, factors] = drawn[rows, :1, factors]
        return self._codes(drawn)

    def any(self, n: int) -> Floats:
        return np.concatenate([self._codes(self._draw(1, len(part)))[0] for part in _blocks(np.arange(n), 1)])

    def _draw(self, n: int, batch: int) -> Ints:
        return self.rng.integers(self.sizes, size=(n, batch, len(self.sizes)))

    def _codes(self, factors: Ints) -> Floats:
        n, batch, _ = factors.shape
        codes = checked_codes(self.encode(torch.from_numpy(rearrange(factors, "n b k -> (n b) k"))))
        check_value(
            "encode: rows", len(codes), len(codes) == n * batch, f"{n * batch}, one for each row of factors"
        )
        return rearrange(codes.astype(np.float64), "(n b) d -> n b d", n=n)


def _rng(generator: torch.Generator | None) -> np.random.Generator:
    """numpy's generator, seeded by torch's."""
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    return np.random.default_rng(
        int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    )


def _blocks(rows: NDArray[Any], batch: int) -> list[NDArray[Any]]:
    return np.array_split(rows, -(-len(rows) * batch // _ROWS))


def _check_counts(train: int, test: int, batch: int) -> None:
    check_value("train, test", f"{train}, {test}", min(train, test) >= 1, "at least 1")
    check_value("batch", batch, batch >= 2, "at least 2")
