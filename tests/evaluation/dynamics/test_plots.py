"""Every figure is drawn."""

from __future__ import annotations

from dataclasses import replace

from tests.evaluation.dynamics.simulation import assert_picture, rotating_model
from vidssl.evaluation.dynamics.measure import measure_dynamics
from vidssl.evaluation.dynamics.plots import plot_dynamics


def test_figures_are_drawn_but_for_eigenvalues_that_are_not_there(sequences, tmp_path):
    found = replace(measure_dynamics(rotating_model(), sequences), eigenvalues=None)
    files = plot_dynamics(found, tmp_path, found)
    assert [file.name for file in files] == [
        "dynamics_trajectories.png",
        "dynamics_calibration.png",
        "dynamics_forecast.png",
    ]
    for file in files:
        assert_picture(file)
