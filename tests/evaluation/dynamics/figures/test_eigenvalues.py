"""Labels do not overlap."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.dynamics.simulation import ANGLE, STEP, rotating_model
from vidssl.evaluation.dynamics.eigenvalues import step_eigenvalues
from vidssl.evaluation.dynamics.figures.eigenvalues import LABEL_GAP, _spread


def test_labels_of_eigenvalues_keep_their_distance():
    modes = [step_eigenvalues(rotating_model(), STEP)[0]] * 3
    angles = [at for _, at in _spread(modes)]
    assert angles[0] == pytest.approx(ANGLE) and min(np.diff(angles)) >= LABEL_GAP - 1e-12
