"""Options that the evaluations share."""

from __future__ import annotations

import pytest

from vidssl.cli.options import eval_options


@pytest.mark.parametrize(("variable", "device"), [("", None), ("false", None), ("true", "cpu")])
def test_evaluations_started_for_the_cpu_stay_on_it(monkeypatch, variable, device):
    monkeypatch.setenv("ACCELERATE_USE_CPU", variable)
    assert eval_options().device == device
    assert eval_options(device="cuda:1").device == "cuda:1"


def test_protocols_of_evaluate_all_are_no_published_ones(vidssl, tmp_path) -> None:
    """The option has the name of another one that other commands have."""
    for words in ([], ["--protocol", "knn"]):
        code, _, err = vidssl("evaluate-all", "conv3d/small", str(tmp_path / "nowhere"), *words)
        assert code == 2
        assert err.endswith(f"{tmp_path / 'nowhere'}: no such folder\n") and "Traceback" not in err
    code, _, err = vidssl("knn", "conv3d/small", "train", "val", "--protocol", "din")
    assert code == 2 and "did you mean 'dino'" in err
