"""β-VAE's and FactorVAE's scores: what they are by construction, and that a pool gives what rendering does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement.batches import Pool, beta_vae, factor_vae
from vidssl.evaluation.disentanglement.metrics import beta_vae_score, factor_vae_score

SIZES = (4, 3, 5)
FEW = {"train": 300, "test": 300, "batch": 16}


def identity(factors: Tensor) -> Tensor:
    return factors.double()


def noise(factors: Tensor) -> np.ndarray:
    return np.random.default_rng(int(factors.sum())).normal(size=(len(factors), 4))


def pool(encode, n: int = 2000, seed: int = 0) -> Pool:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    factors = rng.integers(SIZES, size=(n, 3))
    return Pool(encode(torch.from_numpy(factors)), factors, rng)


def test_codes_that_are_the_factors_score_one_and_noise_a_third() -> None:
    assert beta_vae_score(identity, SIZES, **FEW) == 1
    assert factor_vae_score(identity, SIZES, **FEW) == 1
    assert beta_vae_score(noise, SIZES, **FEW) == pytest.approx(1 / 3, abs=0.1)
    assert factor_vae_score(noise, SIZES, **FEW) == pytest.approx(1 / 3, abs=0.1)


def test_a_pool_gives_what_rendering_does() -> None:
    for score in (beta_vae, factor_vae):
        assert score(pool(identity), pool(identity, seed=1), **FEW) == 1
        assert score(pool(noise), pool(noise, seed=1), **FEW) == pytest.approx(1 / 3, abs=0.1)


def test_a_pool_that_is_fitted_and_tested_on_is_known_by_heart() -> None:
    small, other = pool(noise, n=12), pool(noise, n=12, seed=1)
    assert beta_vae(small, small, **FEW) > 0.6
    assert beta_vae(small, other, **FEW) < 0.55


def test_pairs_and_batches_share_the_factor_and_nothing_else() -> None:
    drawn = pool(identity)
    held = np.array([0, 1, 2, 2])
    first, second = drawn.pairs(held, 400)
    batches = drawn.fixed(held, 400)
    for row, k in enumerate(held):
        assert (first[row, :, k] == second[row, :, k]).all() and len(set(first[row, :, k])) == SIZES[k]
        assert len(set(batches[row, :, k])) == 1
        for other in {0, 1, 2} - {k}:
            agree = float((first[row, :, other] == second[row, :, other]).mean())
            assert agree == pytest.approx(1 / SIZES[other], abs=0.1)
            assert len(set(batches[row, :, other])) == SIZES[other]
    # All clips of a value are as likely.
    mates = drawn._mates(np.zeros((1, 50_000), dtype=np.int64), np.zeros((1, 50_000), dtype=np.int64))
    same = np.flatnonzero(drawn.factors[:, 0] == drawn.factors[0, 0])
    counts = Counter(mates[0].tolist())
    assert set(counts) <= set(same.tolist())
    expected = 50_000 / len(same)
    assert sum((counts[i] - expected) ** 2 / expected for i in same.tolist()) < 2 * len(same)


def test_factor_vae_votes_by_share_of_variance() -> None:
    """By hand: the larger code is the stiller one as a share of its variance; raw variance would choose the other."""

    def encode(factors: Tensor) -> Tensor:
        return torch.stack([100.0 * factors[:, 0], 0.1 * factors[:, 1], 0.01 * factors[:, 2].double()], dim=1)

    # The third code is too still to vote: nothing stands for its factor, so that a third of the votes is lost or guessed.
    assert factor_vae_score(encode, SIZES, **FEW) == pytest.approx(2 / 3, abs=0.1)
    assert factor_vae_score(lambda factors: 1000 * encode(factors), SIZES, **FEW) == 1
    assert factor_vae_score(lambda factors: 1e-4 * encode(factors), SIZES, **FEW) == 0


def test_the_generator_decides_and_is_only_read() -> None:
    def mixed(factors: Tensor) -> Tensor:
        return factors.double() @ torch.tensor([[1.0, 1.0], [1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)

    state = torch.random.get_rng_state()
    one, same, other = (
        factor_vae_score(mixed, SIZES, **FEW, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one == same != other
    assert (torch.random.get_rng_state() == state).all()


def test_constant_factors_are_never_held() -> None:
    seen = []

    def encode(factors: Tensor) -> Tensor:
        seen.append(tuple(factors.shape))
        assert int(factors[:, 1].max()) == 0
        return factors.double()

    with pytest.warns(UserWarning, match="column 1 of 3"):
        assert factor_vae_score(encode, (4, 1, 5), train=20, test=20, batch=8) == 1
    # 10,000 for the variances, then 40 votes of 8.
    assert sum(rows for rows, _ in seen) == 10_000 + 40 * 8


def test_bad_input_is_one_line() -> None:
    for score in (beta_vae_score, factor_vae_score):
        with pytest.raises(VidsslError, match="1 of 2 vary: with one factor"):
            score(identity, (4, 1))
        with pytest.raises(VidsslError, match="rows have values that are not finite"):
            score(lambda factors: factors / 0.0, SIZES, **FEW)
        with pytest.raises(VidsslError, match="one for each row of factors"):
            score(lambda factors: factors[:5].double(), SIZES, **FEW)
        with pytest.raises(VidsslError, match="batch=1: must be at least 2"):
            score(identity, SIZES, batch=1)
        with pytest.raises(VidsslError, match=r"sizes=.*at least 1 each"):
            score(identity, (3, 0, 2))
