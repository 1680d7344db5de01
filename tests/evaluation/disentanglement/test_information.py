"""Mutual information against scikit-learn, numpy's histogram, and itself under what may not change it."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from tests.evaluation.disentanglement import oracles
from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement.information import discretise, measure_information
from vidssl.evaluation.disentanglement.metrics import mutual_information


def sample(
    seed: int, n: int = 500, d: int = 6, sizes: tuple[int, ...] = (4, 6, 3)
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of which the first follow the factors, and the factors."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=n) for size in sizes], axis=1)
    codes = rng.normal(size=(n, d))
    codes[:, : len(sizes)] += 2 * factors
    return codes, factors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [2, 7, 20])
def test_it_is_that_of_sklearn_on_the_bins_of_numpy(dtype: type, bins: int) -> None:
    codes, factors = sample(0)
    codes = codes.astype(dtype)
    found = mutual_information(codes, factors, bins)
    for i in range(codes.shape[1]):
        binned = np.digitize(codes[:, i], np.histogram(codes[:, i], bins)[1][:-1])
        for j in range(factors.shape[1]):
            assert found[i, j] == pytest.approx(mutual_info_score(binned, factors[:, j]), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e20])
def test_bins_are_those_of_numpys_histogram_to_the_last_bit(dtype: type, scale: float) -> None:
    rng = np.random.default_rng(1)
    codes = rng.normal(loc=5, size=(2000, 8))
    codes[:, 0] = rng.integers(21, size=2000)  # on the edges
    codes[:, 1] = rng.integers(11, size=2000) / 10
    codes = (codes * scale).astype(dtype)
    for row, column in zip(discretise(codes, 20), codes.T, strict=True):
        assert row.tolist() == (np.digitize(column, np.histogram(column, 20)[1][:-1]) - 1).tolist()


def test_closed_forms() -> None:
    y = np.tile(np.arange(8), 52)[:, None]
    other = np.repeat(np.arange(4), 104)[:, None]
    codes = np.concatenate([y, y % 4 == 0, np.ones_like(y), other], axis=1).astype(float)
    found = mutual_information(codes, np.concatenate([y, other], axis=1))
    quarter = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    assert found[:, 0] == pytest.approx([np.log(8), quarter, 0, 0], abs=1e-12)
    # What is independent in the sample is independent to the last bit, as what is constant.
    assert found[2].tolist() == [0, 0] and found[3, 0] == 0 and found[0, 1] == 0


def test_miller_madow_takes_the_bias_of_the_estimate_away() -> None:
    rng = np.random.default_rng(2)
    codes, factors = rng.uniform(size=(2000, 300)), rng.integers(8, size=(2000, 1))
    plain = measure_information(codes, factors).nats
    corrected = measure_information(codes, factors, bias="miller_madow").nats
    assert plain.mean() == pytest.approx(19 * 7 / (2 * 2000), rel=0.03)
    assert corrected.min() >= 0 and corrected.mean() < 0.1 * plain.mean()
    few, labels = sample(3, n=60)
    assert measure_information(few, labels, bias="miller_madow").nats == pytest.approx(
        oracles.matrix(few, labels, miller_madow=True), abs=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 60),
    bins=st.integers(2, 25),
    power=st.integers(-3, 3),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
)
def test_laws(seed: int, n: int, bins: int, power: int, sizes: list[int]) -> None:
    codes, factors = sample(seed, n, d=len(sizes) + 1, sizes=tuple(sizes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few samples
        found = measure_information(codes, factors, bins)
        # Between nothing and all there is to know of the factor, or of the bins.
        assert (found.nats >= 0).all() and (
            found.nats <= np.minimum(found.entropy, np.log(bins)) + 1e-12
        ).all()
        # Neither the order of the samples, nor the names of the values, nor scales (powers of 2: exact) count.
        order = np.random.default_rng(seed).permutation(n)
        renamed = 1000 - 3 * factors
        assert mutual_information(codes[order] * 2.0**power, renamed[order], bins) == pytest.approx(
            found.nats, abs=1e-12
        )
        assert found.entropy == pytest.approx(
            [oracles.information(column, column) for column in factors.T.tolist()], abs=1e-12
        )


def test_tensors_of_any_precision_and_whole_floats_are_taken() -> None:
    codes, factors = sample(4)
    expected = mutual_information(codes, factors)
    assert (mutual_information(torch.from_numpy(codes), torch.from_numpy(factors)) == expected).all()
    assert (mutual_information(codes, factors.astype(float)) == expected).all()
    half = torch.from_numpy(codes).bfloat16()
    assert (mutual_information(half, factors) == mutual_information(half.float(), factors)).all()


def test_bad_input_is_one_line() -> None:
    codes, factors = sample(5, n=100)
    broken = codes.copy()
    broken[3, 1], broken[7, :], broken[9, 0] = np.nan, np.inf, -np.inf
    half = factors.astype(float)
    half[0, 2] = 0.5
    for x, y, said in [
        (broken, factors, "codes: 3 of 100 rows have values that are not finite"),
        (codes[:, 0], factors, r"codes: shape \(100,\): must be \(N, d\)"),
        (codes[:0], factors[:0], "at least one row"),
        (codes[:50], factors, "50 rows of codes, 100 of factors"),
        (codes, factors[:, 0], r"factors: shape \(100,\)"),
        (codes, half, "factors: column 2: values that are not whole numbers"),
        (codes, factors.astype(str), "must be whole numbers"),
        (np.array([[-3e38], [3e38]], dtype=np.float32), factors[:2], "scale them down"),
    ]:
        with pytest.raises(VidsslError, match=said):
            mutual_information(x, y)
    with pytest.raises(VidsslError, match="bins=1: must be at least 2"):
        mutual_information(codes, factors, bins=1)
    with pytest.warns(UserWarning, match="10 samples are fewer than the 20 bins"):
        mutual_information(codes[:10], factors[:10])
    with pytest.warns(UserWarning, match="1 samples are fewer"):
        assert (mutual_information(codes[:1], factors[:1]) == 0).all()


def test_a_wide_matrix_takes_well_under_a_second_of_a_core() -> None:
    rng = np.random.default_rng(6)
    codes = rng.normal(size=(10_000, 128)).astype(np.float32)
    factors = np.stack(
        [rng.integers(size, size=10_000) for size in (4, 6, 8, 8, 8, 8, 8, 8, 4, 5, 3)], axis=1
    )
    mutual_information(codes[:, :2], factors)
    before = time.process_time()
    mutual_information(codes, factors)
    # A quarter of the 512 dimensions that may take one second; several times what it takes on a machine that is idle.
    assert time.process_time() - before < 0.5
