"""The report of a run, from videos to files."""

from __future__ import annotations

import builtins
import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from tests.evaluation.dynamics.simulation import assert_picture
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.dynamics import report
from vidssl.evaluation.dynamics.report import dynamics, dynamics_lines
from vidssl.evaluation.results.schema import mistake
from vidssl.runs import load_run


def test_the_report_is_written_and_says_what_it_is(run, sprites, tmp_path):
    data = tmp_path / "videos"
    shutil.copytree(sprites / "val", data)
    broken = data / "growing" / "broken.mp4"
    broken.write_bytes(b"no video")
    options = EvalOptions(workers=0, device="cpu")
    result = dynamics(run, data, output=tmp_path / "report", horizon=2, options=options)
    for name in result["figures"]:
        assert_picture(tmp_path / "report" / name)
    assert sorted(result["figures"]) == [
        f"dynamics_{x}.png" for x in ("calibration", "eigenvalues", "forecast", "trajectories")
    ]
    assert json.loads((tmp_path / "report" / "dynamics.json").read_text()) == json.loads(json.dumps(result))
    assert mistake(result) is None and result["protocol"]["data.content"] == result["data"]["content"]
    assert result["data"]["videos"] == 10
    assert [Path(x["path"]).name for x in result["data"]["failed"]] == ["broken.mp4"]
    assert len(result["eigenvalues"]) == 2 and result["calibration"]["expected_nis"] == 2
    assert result["forecast"]["horizons"] == [1, 2] == result["untrained"]["forecast"]["horizons"]
    lines = dynamics_lines(result)
    assert any("broken.mp4" in line for line in lines)
    scale = result["calibration"]["covariance_scale"]["value"]
    assert any(f"right on average at {scale:.2f} [" in line for line in lines)
    correlation = result["whiteness"]["autocorrelation"][0]["value"]
    assert any(f"errors one step apart correlate by {correlation:.2f} [" in line for line in lines)
    assert result["consistency"] is None
    again = dynamics(run, data, horizon=2, against=run, options=options)
    same = again["consistency"]
    assert same["cka"] == pytest.approx(1) and same["to_first"] == pytest.approx(1, abs=1e-4)
    assert any("an affine map of these latents explains 100.0 %" in line for line in dynamics_lines(again))
    assert again["forecast"] == result["forecast"] and again["figures"] == []


def test_whole_videos_have_no_rate(run):
    from vidssl.evaluation.dynamics.report import step_spec

    encoder = load_run(run).student.encoder
    assert step_spec(encoder, EvalOptions()).seconds == pytest.approx(1 / 6)
    assert step_spec(encoder, EvalOptions(frames=30)).frames == 30
    assert step_spec(encoder, EvalOptions(seconds=2.0)) == step_spec(encoder, EvalOptions(frames=12))
    assert step_spec(encoder, EvalOptions(frames=4, seconds=2.0)).seconds == 0.5
    assert step_spec(encoder, EvalOptions(stride=3)).stride == 3
    with pytest.raises(VidsslError, match="whole videos have no fixed rate"):
        step_spec(encoder, EvalOptions(seconds=math.inf))
    encoder.spec["sampling"] = {"frames": 6, "seconds": None, "stride": None, "size": 32}
    with pytest.raises(VidsslError, match="no fixed rate"):
        step_spec(encoder, EvalOptions(seconds=2.0))


def test_a_missing_matplotlib_is_one_line(run, sprites, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VidsslError, match=r"vidssl\[plots\]"):
        dynamics(run, sprites / "val", output=tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_horizon_is_as_long_as_clips_with_repeated_frames_allow(run, sprites, monkeypatch):
    encode, asked = report.encode_sequences, []

    def short(*given):
        found, failures = encode(*given)
        for key, one in found.items():
            found[key] = one._replace(valid=one.valid & (torch.arange(one.z.shape[1]) < report.CONTEXT + 2))
        return found, failures

    def measure(_model, _sequences, horizon, **_):
        asked.append(horizon)
        raise VidsslError("seen enough")

    monkeypatch.setattr(report, "encode_sequences", short)
    monkeypatch.setattr(report, "measure_dynamics", measure)
    with pytest.raises(VidsslError, match="seen enough"):
        dynamics(run, sprites / "val", options=EvalOptions(workers=0, device="cpu"))
    assert asked == [2]
