"""Scores that fit classifiers, with the settings of disentanglement_lib: SAP, explicitness, and DCI by boosted trees.

They need scikit-learn, which comes with the extra ``probes``. SAP and DCI take minutes: d x K classifiers, and for every
factor a hundred trees for each of its values.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement.importance import completeness, disentanglement
from vidssl.evaluation.disentanglement.information import (
    Codes,
    Floats,
    Ints,
    checked_codes,
    checked_factors,
    varying,
)


class _Parts:
    """Codes (N, d) and factors (N, K) to fit on and to test on; factors that vary where one fits."""

    def __init__(self, x: Codes, y: Codes, test_x: Codes, test_y: Codes, at_least: int, why: str) -> None:
        self.x, self.test_x = (
            checked_codes(codes, name).astype(np.float64)
            for codes, name in ((x, "train_codes"), (test_x, "test_codes"))
        )
        self.y, self.test_y = checked_factors(y, "train_factors"), checked_factors(test_y, "test_factors")
        shapes = [part.shape for part in (self.x, self.y, self.test_x, self.test_y)]
        (n, d), (rows, k), test, (test_rows, test_k) = shapes
        if n != rows or test[0] != test_rows or d != test[1] or k != test_k:
            said = " and ".join(str(shape) for shape in shapes[:2]), " and ".join(str(s) for s in shapes[2:])
            raise VidsslError(
                f"codes and factors of shapes {said[0]} to fit on, {said[1]} to test on: rows and columns must agree"
            )
        kept = varying(self.y, at_least, why)
        self.y, self.test_y = self.y[:, kept], self.test_y[:, kept]


def sap(
    train_codes: Codes, train_factors: Codes, test_codes: Codes, test_factors: Codes, continuous: bool = False
) -> float:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848): by how much the best single code predicts
    a factor better than the second best; mean over factors. Near 0 as soon as two codes say the same.

    Args:
        train_codes, test_codes: (N, d) and (M, d). train_factors, test_factors: (N, K) and (M, K).
        continuous: score by the squared correlation, of the train part, in place of the test accuracy of a linear SVM.

    Raises:
        VidsslError: for shapes that do not go together, values that are not finite, a single code, no factor that varies, or
            (unless `continuous`) without scikit-learn.
    """
    parts = _Parts(train_codes, train_factors, test_codes, test_factors, 1, "there is nothing to predict")
    if parts.x.shape[1] < 2:
        raise VidsslError("codes: 1 column: a gap needs at least two")
    scores = _squared_correlations(parts.x, parts.y) if continuous else _accuracies(parts)
    second, best = np.sort(scores, axis=0)[-2:]
    return float(np.mean(best - second))


def _squared_correlations(x: Floats, y: Ints) -> Floats:
    """(d, K); 0 for a code of variance 1e-12 or less."""
    x, centred = x - x.mean(axis=0), y - y.mean(axis=0)
    degrees = max(len(x) - 1, 1)
    covariance = x.T @ centred / degrees
    product = np.outer((x**2).sum(axis=0), (centred**2).sum(axis=0)) / degrees**2
    alive = (x**2).sum(axis=0) / degrees > 1e-12
    squares: Floats = np.divide(covariance**2, product, out=np.zeros_like(product), where=alive[:, None])
    return squares


def _accuracies(parts: _Parts) -> Floats:
    """(d, K) test accuracies of a linear SVM on a single code."""
    svm = sklearn_module("svm")
    scores = np.zeros((parts.x.shape[1], parts.y.shape[1]))
    for i, j in np.ndindex(*scores.shape):
        classifier = svm.LinearSVC(C=0.01, class_weight="balanced", random_state=0)
        classifier.fit(parts.x[:, i : i + 1], parts.y[:, j])
        scores[i, j] = np.mean(classifier.predict(parts.test_x[:, i : i + 1]) == parts.test_y[:, j])
    return scores


def explicitness(train_codes: Codes, train_factors: Codes, test_codes: Codes, test_factors: Codes) -> float:
    """Explicitness (Ridgeway and Mozer 2018, arXiv 1802.05312): how well all codes together tell the values of a factor.

    Logistic regression on codes standardised by the train part; the mean over factors, and over the values of each that
    the test part has, of the one-vs-rest ROC-AUC on the test part: 1/2 where codes say nothing.

    Args:
        as `sap`.

    Raises:
        VidsslError: as `sap`; also when the test part has no factor with two values.
    """
    parts = _Parts(train_codes, train_factors, test_codes, test_factors, 1, "there is nothing to tell")
    linear, metrics = sklearn_module("linear_model"), sklearn_module("metrics")
    mean, std = parts.x.mean(axis=0), parts.x.std(axis=0)
    std[(parts.x == parts.x[:1]).all(axis=0)] = 1  # a constant code stays one
    x, test_x = (parts.x - mean) / std, (parts.test_x - mean) / std
    areas = []
    for y, test_y in zip(parts.y.T, parts.test_y.T, strict=True):
        model = linear.LogisticRegression().fit(x, y)
        probabilities = model.predict_proba(test_x).T
        found = [
            metrics.roc_auc_score(test_y == value, probability)
            for value, probability in zip(model.classes_, probabilities, strict=True)
            if 0 < np.sum(test_y == value) < len(test_y)
        ]
        if found:
            areas.append(np.mean(found))
    if not areas:
        raise VidsslError("test_factors: none of those that vary in the train part does in the test part")
    return float(np.mean(areas))


def dci(train_codes: Codes, train_factors: Codes, test_codes: Codes, test_factors: Codes) -> dict[str, float]:
    """Disentanglement, completeness, informativeness (Eastwood and Williams 2018) by gradient boosted trees.

    Importances of codes are those of the trees for each factor. Trees pick a few convenient codes, so that wide,
    entangled representations get too much credit.

    Args:
        as `sap`.

    Returns:
        ``disentanglement``, ``completeness`` (see `importance`), ``informativeness``: mean test accuracy of the trees.

    Raises:
        VidsslError: as `sap`; fewer than two factors vary.
    """
    parts = _Parts(
        train_codes,
        train_factors,
        test_codes,
        test_factors,
        2,
        "a code that says one factor alone needs others that it could say",
    )
    ensemble = sklearn_module("ensemble")
    importance = np.zeros((parts.x.shape[1], parts.y.shape[1]))
    accuracies = []
    for j, (y, test_y) in enumerate(zip(parts.y.T, parts.test_y.T, strict=True)):
        model = ensemble.GradientBoostingClassifier(random_state=0).fit(parts.x, y)
        importance[:, j] = np.abs(model.feature_importances_)
        accuracies.append(np.mean(model.predict(parts.test_x) == test_y))
    return {
        "disentanglement": disentanglement(importance),
        "completeness": completeness(importance),
        "informativeness": float(np.mean(accuracies)),
    }


def check_sklearn() -> None:
    """
    Raises:
        VidsslError: when scikit-learn is not installed.
    """
    sklearn_module("base")


def sklearn_module(name: str) -> Any:
    """``sklearn.<name>``, imported when it is needed.

    Raises:
        VidsslError: when scikit-learn is not installed.
    """

    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError as error:
        raise VidsslError(
            f'this score needs scikit-learn, which cannot be imported ({error}); pip install "vidssl[probes]"'
        ) from None
