from __future__ import annotations

import pytest

from vidssl.errors import VidsslError
from vidssl.evaluation.everything import PROTOCOLS, evaluate_all, rows, splits_of


def test_a_protocol_that_cannot_be_run_does_not_keep_the_others_from_it(monkeypatch, tmp_path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()

    def fails(*_):
        raise VidsslError("no text tower")

    def works(checkpoint, train, val, options):
        assert (train, val) == (tmp_path / "train", tmp_path / "test")
        top = {"top1": 0.5}
        return {
            "protocol": {"hash": "h"},
            "scores": {"untrained, k = 1": top, "trained, k = 1": top, "chance": top},
        }

    monkeypatch.setitem(PROTOCOLS, "zero-shot", fails)
    monkeypatch.setitem(PROTOCOLS, "knn", works)
    outcomes = list(evaluate_all("x", [tmp_path], protocols=["zero-shot", "knn"]))
    assert outcomes[0].result is None
    assert outcomes[0].why_not == "no text tower"
    [row] = rows(outcomes)
    assert row["protocol"] == "knn, k = 1" and row["protocol_hash"] == "h"
    assert row["untrained"] == {"top1": 0.5}


def test_what_is_no_data_set_is_named_before_anything_is_loaded(tmp_path) -> None:
    with pytest.raises(VidsslError, match="expected folders train and val"):
        evaluate_all("x", [tmp_path])
    with pytest.raises(VidsslError, match="no such folder"):
        splits_of(tmp_path / "nowhere")
    with pytest.raises(VidsslError, match="did you mean 'knn'"):
        evaluate_all("x", [], protocols=["kn"])
