"""MED, MIG, modularity and IRS against plain loops, closed forms, and what is known to move them and what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.disentanglement import oracles
from tests.evaluation.disentanglement.test_information import sample
from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement.metrics import irs, med, mig, modularity


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_med_is_its_definition(seed: int, top_k: int | None) -> None:
    codes, factors = sample(seed, d=9)
    for bias in (None, "miller_madow"):
        nats = oracles.matrix(codes, factors, miller_madow=bias is not None)
        score, complete, kept = oracles.med(nats, top_k)
        found = med(codes, factors, top_k=top_k, bias=bias)
        assert found["score"] == pytest.approx(score, abs=1e-9)
        assert found["completeness"] == pytest.approx(complete, abs=1e-9)
        assert found["kept"].tolist() == kept
        assert found["importance"] == pytest.approx(nats / nats.sum(axis=0), abs=1e-9)
        assert found["per_code"] == pytest.approx(
            [oracles.one_less_entropy(r) for r in nats / nats.sum(axis=0)], abs=1e-9
        )


@pytest.mark.parametrize("seed", range(3))
def test_the_others_are_their_definitions(seed: int) -> None:
    codes, factors = sample(seed, n=200, d=5)
    codes[:, 4] = 3.0
    nats = oracles.matrix(codes, factors)
    assert mig(codes, factors) == pytest.approx(oracles.mig(nats, factors), abs=1e-9)
    assert modularity(codes, factors) == pytest.approx(oracles.modularity(nats), abs=1e-9)
    assert irs(codes, factors) == pytest.approx(oracles.irs(codes, factors), abs=1e-9)


def test_irs_cuts_factors_into_bins() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(50, size=(400, 2))
    codes = factors + rng.normal(size=(400, 2))
    assert irs(codes, factors) == pytest.approx(oracles.irs(codes, factors), abs=1e-9)


def grid(*sizes: int) -> np.ndarray:
    """Every combination once."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*map(np.arange, sizes), indexing="ij")], axis=1)


def test_axis_aligned_codes_are_perfect() -> None:
    factors = grid(4, 5, 3)
    codes = factors * [1.0, -2.0, 1e-3] + [7.0, 0.0, 0.0]
    found = med(codes, factors)
    assert found["score"] == pytest.approx(1, abs=1e-8) and found["completeness"] == pytest.approx(
        1, abs=1e-8
    )
    assert found["importance"] == pytest.approx(np.eye(3))
    assert mig(codes, factors) == pytest.approx(1)
    assert modularity(codes, factors) == pytest.approx(1)
    assert irs(codes, factors) == pytest.approx(1)


def test_a_code_of_two_factors_by_hand() -> None:
    # One code says both of two coins, another says nothing: each column is that code's, and so is no factor alone.
    factors = grid(2, 2, 3)[:, :2]
    codes = np.stack([2.0 * factors[:, 0] + factors[:, 1], np.zeros(len(factors))], axis=1)
    with pytest.warns(UserWarning, match="12 samples are fewer than the 20 bins"):
        found = med(codes, factors)
    assert found["score"] == pytest.approx(0, abs=1e-9) and found["completeness"] == pytest.approx(
        1, abs=1e-8
    )
    with pytest.warns(UserWarning, match="fewer"):
        assert mig(codes, factors) == pytest.approx(1)
    with pytest.warns(UserWarning, match="fewer"):
        assert modularity(codes, factors) == pytest.approx(0)


def large(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Axis-aligned codes of four factors with a little noise, and further codes of noise alone."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=n) for size in (4, 6, 8, 8)], axis=1)
    codes = rng.normal(size=(n, d))
    codes[:, :4] = factors + 0.1 * codes[:, :4]
    return codes, factors


def test_permuted_labels_say_almost_nothing() -> None:
    codes, factors = large(10_000, 16)
    shuffled = np.random.default_rng(1).permuted(factors, axis=0)
    assert med(codes, factors)["score"] > 0.9
    assert med(codes, shuffled)["score"] < 0.02


def test_scaling_and_shifting_codes_changes_nothing_and_rotation_does() -> None:
    codes, factors = large(2000, 8)
    rng = np.random.default_rng(2)
    # Powers of two and no shift are exact; other maps may move a value across the edge of a bin by rounding.
    exact = codes * 2.0 ** rng.integers(-9, 9, size=8)
    moved = codes * rng.uniform(0.1, 9, size=8) + rng.normal(size=8)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    score = med(codes, factors)["score"]
    assert med(exact, factors)["score"] == score
    assert med(moved, factors)["score"] == pytest.approx(score, abs=1e-3)
    assert med(codes @ rotation, factors)["score"] < score - 0.3


def test_copies_of_codes_leave_med_and_take_mig_away() -> None:
    codes, factors = large(4000, 4)
    copies = np.concatenate([codes] * 4, axis=1)
    assert med(copies, factors)["score"] == pytest.approx(med(codes, factors)["score"], abs=0.01)
    assert mig(codes, factors) > 0.9 and mig(copies, factors) == pytest.approx(0, abs=1e-12)
    assert med(copies, factors, top_k=1)["kept"].tolist() == [0, 1, 2, 3]


def test_noise_pulls_med_down_but_not_that_of_the_purest_codes() -> None:
    codes, factors = large(2000, 64)
    alone, wide = med(codes[:, :4], factors), med(codes, factors)
    assert wide["score"] < alone["score"] - 0.15
    assert med(codes, factors, top_k=1)["score"] == pytest.approx(alone["score"], abs=0.02)
    assert med(codes, factors, bias="miller_madow")["score"] > wide["score"] + 0.1


def test_constant_factors_are_left_out_with_a_warning() -> None:
    codes, factors = sample(0)
    more = np.insert(factors, 1, 5, axis=1)
    for score in (med, mig, modularity, irs):
        with pytest.warns(UserWarning, match="constant factors are left out: column 1 of 4"):
            found = score(codes, more)
        expected = score(codes, factors)
        if isinstance(found, dict):
            assert found["importance"].shape == (6, 3)
            found, expected = found["score"], expected["score"]
        assert found == expected


def test_constant_codes_score_nothing_and_disturb_nothing() -> None:
    codes, factors = sample(1)
    more = np.concatenate([codes, np.full((len(codes), 2), 0.1)], axis=1)
    assert med(more, factors)["score"] == pytest.approx(med(codes, factors)["score"], abs=1e-9)
    assert irs(more, factors) == irs(codes, factors)
    nothing = np.ones((len(codes), 3))
    found = med(nothing, factors)
    assert found["score"] == pytest.approx(0, abs=1e-9) and found["completeness"] == pytest.approx(
        0, abs=1e-9
    )
    assert (found["importance"] == 0).all()
    assert mig(nothing, factors) == 0 and modularity(nothing, factors) == 0 and irs(nothing, factors) == 0


def test_what_cannot_be_scored_is_said() -> None:
    codes, factors = sample(2)
    for score in (med, modularity):
        with pytest.raises(VidsslError, match="factors: 1 of 1 vary: a code that says one factor alone"):
            score(codes, factors[:, :1])
    with pytest.raises(VidsslError, match="factors: 0 of 3 vary"), pytest.warns(UserWarning, match="fewer"):
        med(codes[:1], factors[:1])
    with pytest.raises(VidsslError, match="codes: 1 column: a gap needs at least two"):
        mig(codes[:, :1], factors)
    with pytest.raises(VidsslError, match="top_k=0: must be at least 1"):
        med(codes, factors, top_k=0)
    with pytest.raises(VidsslError, match=r"bias='miler_madow'.*did you mean 'miller_madow'"):
        med(codes, factors, bias="miler_madow")
    with pytest.raises(VidsslError, match="1 of 500 rows"):
        irs(np.where(np.arange(500)[:, None] == 4, np.nan, codes), factors)
    assert math.isnan(med(codes[:, :1], factors)["completeness"]) and mig(codes, factors[:, :1]) > 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(25, 80),
    d=st.integers(2, 6),
    top_k=st.sampled_from([None, 1, 3]),
    bias=st.sampled_from([None, "miller_madow"]),
)
def test_laws(seed: int, n: int, d: int, top_k: int | None, bias: str | None) -> None:
    codes, factors = sample(seed, n, d, sizes=(3, 2))
    found = med(codes, factors, top_k=top_k, bias=bias)
    assert -1e-9 <= found["score"] <= 1 + 1e-9
    assert math.isnan(found["completeness"]) or -1e-9 <= found["completeness"] <= 1 + 1e-9
    sums = found["importance"].sum(axis=0)
    assert ((np.abs(sums - 1) < 1e-12) | (sums == 0)).all()
    assert 0 <= mig(codes, factors) <= 1 + 1e-12 and 0 <= modularity(codes, factors) <= 1 + 1e-12
    # The order of codes and of factors does not count.
    order = np.random.default_rng(seed).permutation(d)
    again = med(codes[:, order], factors[:, ::-1], bias=bias)
    assert again["score"] == pytest.approx(med(codes, factors, bias=bias)["score"], abs=1e-9)
    assert irs(codes[:, order], factors[:, ::-1]) == pytest.approx(irs(codes, factors), abs=1e-9)
