"""What all dimensions of a code say together of the sign of a motion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def joint(codes: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
    """Logistic regression, fitted on the first half of the clips that have a sign and tested on the second.

    Args:
        codes: (N, d). labels: (N,) 0 or 1, and -1 where there is no sign.

    Returns:
        `accuracy`; `nats`, the entropy of a coin less the cross-entropy on the tested half, which bounds the mutual
        information from below (Barber and Agakov 2003) and is below 0 where nothing is known.
    """
    rows = np.flatnonzero(labels >= 0)
    fitted, tested = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    said = probe.fit(codes[fitted], labels[fitted]).predict_proba(codes[tested])
    true = said[np.arange(len(tested)), labels[tested]].clip(1e-6)
    return {"accuracy": float((true > 0.5).mean()), "nats": math.log(2) + float(np.log(true).mean())}
