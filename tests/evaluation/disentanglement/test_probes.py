"""SAP, explicitness and DCI against scikit-learn called by hand, and what they say of codes that are known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tests.evaluation.disentanglement import oracles
from tests.evaluation.disentanglement.test_information import sample
from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement.metrics import dci, explicitness, sap

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def split(seed: int = 0, n: int = 120, d: int = 4) -> Split:
    codes, factors = sample(seed, 2 * n, d)
    return codes[:n], factors[:n], codes[n:], factors[n:]


def gap(scores: np.ndarray) -> float:
    return float(np.mean([sorted(column)[-1] - sorted(column)[-2] for column in scores.T]))


def test_sap_is_the_gap_of_single_linear_machines() -> None:
    x, y, test_x, test_y = split()
    scores = np.array(
        [
            [
                LinearSVC(C=0.01, class_weight="balanced", random_state=0)
                .fit(x[:, [i]], y[:, j])
                .score(test_x[:, [i]], test_y[:, j])
                for j in range(3)
            ]
            for i in range(4)
        ]
    )
    assert sap(x, y, test_x, test_y) == pytest.approx(gap(scores), abs=1e-12)


def test_continuous_sap_is_the_gap_of_squared_correlations() -> None:
    x, y, test_x, test_y = split()
    x[:, 3] = 2.0
    scores = np.zeros((4, 3))
    for i in range(3):
        for j in range(3):
            scores[i, j] = np.corrcoef(x[:, i], y[:, j])[0, 1] ** 2
    assert sap(x, y, test_x, test_y, continuous=True) == pytest.approx(gap(scores), abs=1e-12)


def test_explicitness_is_the_mean_area_of_one_against_the_rest() -> None:
    x, y, test_x, test_y = split()
    areas = []
    for j in range(3):
        scaler = StandardScaler().fit(x)
        model = LogisticRegression().fit(scaler.transform(x), y[:, j])
        p = model.predict_proba(scaler.transform(test_x))
        areas.append(
            np.mean([roc_auc_score(test_y[:, j] == v, p[:, i]) for i, v in enumerate(model.classes_)])
        )
    assert explicitness(x, y, test_x, test_y) == pytest.approx(np.mean(areas), abs=1e-12)


def test_dci_is_that_of_the_trees_importances() -> None:
    codes, factors = sample(4, 80, 3, sizes=(2, 2))
    x, y, test_x, test_y = codes[:40], factors[:40], codes[40:], factors[40:]
    models = [GradientBoostingClassifier(random_state=0).fit(x, column) for column in y.T]
    score, complete, _ = oracles.med(np.stack([model.feature_importances_ for model in models], axis=1))
    found = dci(x, y, test_x, test_y)
    assert found["disentanglement"] == pytest.approx(score, abs=1e-9)
    assert found["completeness"] == pytest.approx(complete, abs=1e-9)
    hits = [model.score(test_x, column) for model, column in zip(models, test_y.T, strict=True)]
    assert found["informativeness"] == pytest.approx(np.mean(hits), abs=1e-12)


def test_they_tell_codes_that_say_all_from_noise_and_copies() -> None:
    x, y, test_x, test_y = split(1, n=200, d=3)
    noise, test_noise = np.random.default_rng(0).normal(size=(2, 200, 3))
    assert explicitness(x, y, test_x, test_y) > 0.9
    assert explicitness(noise, y, test_noise, test_y) == pytest.approx(0.5, abs=0.06)
    copies, test_copies = np.tile(x, 2), np.tile(test_x, 2)
    assert sap(x, y, test_x, test_y) > 0.2
    assert sap(copies, y, test_copies, test_y) == pytest.approx(0, abs=1e-12)
    assert sap(copies, y, test_copies, test_y, continuous=True) == pytest.approx(0, abs=1e-12)


def test_odd_parts() -> None:
    x, y, test_x, test_y = split(2)
    constant = np.insert(y, 0, 1, axis=1), np.insert(test_y, 0, 2, axis=1)
    more = np.insert(x, 0, 0.3, axis=1), np.insert(test_x, 0, 5.0, axis=1)
    for score in (sap, explicitness):
        with pytest.warns(UserWarning, match="constant factors are left out: column 0 of 4"):
            assert score(x, constant[0], test_x, constant[1]) == score(x, y, test_x, test_y)
    # A code that is constant where one fits says nothing, whatever it does in the test.
    assert explicitness(more[0], y, more[1], test_y) == pytest.approx(
        explicitness(x, y, test_x, test_y), abs=1e-3
    )
    # A value that the test part lacks has no area; the others count.
    kept = test_y[:, 0] != 0
    assert 0 < explicitness(x, y[:, :1], test_x[kept], test_y[kept, :1]) <= 1
    with pytest.raises(VidsslError, match="none of those that vary in the train part"):
        explicitness(x, y[:, :1], test_x, np.zeros_like(test_y[:, :1]))
    with pytest.raises(VidsslError, match="rows and columns must agree"):
        sap(x, y, test_x[:, :2], test_y)
    with pytest.raises(VidsslError, match="test_codes: 1 of 120 rows"):
        sap(x, y, np.where(np.arange(120)[:, None] == 0, np.nan, test_x), test_y)
    with pytest.raises(VidsslError, match="a gap needs at least two"):
        sap(x[:, :1], y, test_x[:, :1], test_y)
    with pytest.raises(VidsslError, match="1 of 1 vary"):
        dci(x, y[:, :1], test_x, test_y[:, :1])


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("svm", "linear_model", "ensemble"):
        monkeypatch.setitem(sys.modules, f"sklearn.{name}", None)
    for score in (sap, explicitness, dci):
        with pytest.raises(VidsslError, match=r'needs scikit-learn.*pip install "vidssl\[probes\]"'):
            score(*split(3, n=40))
    assert sap(*split(3), continuous=True) > 0
