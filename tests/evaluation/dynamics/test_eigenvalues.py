"""Eigenvalues turn as far as the system."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.evaluation.dynamics.simulation import ANGLE, RADIUS, STEP, rotating_model
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.evaluation.dynamics.eigenvalues import LABEL_GAP, _spread, step_eigenvalues


def test_eigenvalues_turn_as_far_as_the_system():
    first, second = step_eigenvalues(rotating_model(), STEP)
    assert first.angle == pytest.approx(ANGLE) and second.angle == pytest.approx(-ANGLE)
    assert first.modulus == pytest.approx(RADIUS)
    assert first.angle_per_second == pytest.approx(ANGLE / STEP)
    assert first.period_seconds == pytest.approx(2 * math.pi / ANGLE * STEP)
    assert first.half_life_seconds == pytest.approx(math.log(0.5) / math.log(RADIUS) * STEP)
    assert step_eigenvalues(rotating_model(), math.nan)[0].record()["angle_per_second"] is None


def test_eigenvalues_of_a_continuous_model_are_those_of_the_step_that_was_taken():
    model = LinearGaussianSSM(2, 2, transition="continuous", time_unit=0.5)
    with torch.no_grad():
        model.transition.F.copy_(torch.tensor([[-0.1, -2.0], [2.0, -0.1]]))
    found = step_eigenvalues(model.double(), 0.25)[0]
    assert found.angle == pytest.approx(1.0) and found.angle_per_second == pytest.approx(4.0)
    assert found.modulus == pytest.approx(math.exp(-0.05))


def test_labels_of_eigenvalues_keep_their_distance():
    modes = [step_eigenvalues(rotating_model(), STEP)[0]] * 3
    angles = [at for _, at in _spread(modes)]
    assert angles[0] == pytest.approx(ANGLE) and min(np.diff(angles)) >= LABEL_GAP - 1e-12
