"""Measuring the decoders, and what is remembered of it."""

from __future__ import annotations

import json

import pytest

from tests.command_line import one_line
from tests.data.conftest import write_numbered
from vidssl.data.decode import measure
from vidssl.data.decode.choice import decoder_order


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr("vidssl.doctor.machine.PARTS", {})
    decoder_order.cache_clear()
    yield tmp_path / "cache/vidssl"
    decoder_order.cache_clear()


def test_the_decoders_are_measured_and_the_fastest_is_remembered(vidssl, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(measure, "loadable_decoders", lambda: ("pyav",))
    (tmp_path / "data").mkdir()
    write_numbered(tmp_path / "data/a.mp4")
    code, out, _ = vidssl(
        "doctor", "--benchmark", "--videos", tmp_path / "data", "--output", tmp_path / "doctor.json"
    )
    assert code == 0
    report = json.loads((tmp_path / "doctor.json").read_text())["benchmark"]
    assert report["order"] == ["pyav"] and report["milliseconds"]["pyav"] > 0
    assert json.loads((cache / "decoders.json").read_text())["milliseconds"] == report["milliseconds"]
    assert "auto tries pyav from now on" in out


def test_videos_are_only_for_measuring(vidssl, tmp_path):
    assert "is for --benchmark" in one_line(*vidssl("doctor", "--videos", tmp_path))
