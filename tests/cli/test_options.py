"""Options that the evaluations share."""

from __future__ import annotations

import pytest

from vidssl.cli.options import eval_options


@pytest.mark.parametrize(("variable", "device"), [("", None), ("false", None), ("true", "cpu")])
def test_evaluations_started_for_the_cpu_stay_on_it(monkeypatch, variable, device):
    monkeypatch.setenv("ACCELERATE_USE_CPU", variable)
    assert eval_options().device == device
    assert eval_options(device="cuda:1").device == "cuda:1"
