from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidssl.data.decode import choice, measure
from vidssl.data.decode.choice import decoder_order, order_of, remember
from vidssl.data.decode.measure import measure_decoders
from vidssl.data.decode.open import open_video
from vidssl.errors import VidsslError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    decoder_order.cache_clear()
    yield tmp_path / "vidssl"
    decoder_order.cache_clear()


def test_pyav_is_last_and_only_what_is_clearly_faster_goes_before_it() -> None:
    assert order_of({"pyav": 10.0}) == ("pyav",)
    assert order_of({"pyav": 10.0, "decord": 12.0, "torchcodec": 9.6}) == ("pyav",)
    assert order_of({"pyav": 10.0, "decord": 9.0, "torchcodec": 8.0}) == ("torchcodec", "decord", "pyav")


def test_what_was_measured_is_remembered_for_these_versions(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decoder_order() == ("pyav",)
    file = remember({"pyav": 10.0, "decord": 5.0})
    assert file.parent == cache
    assert decoder_order() == ("decord", "pyav")
    for damaged in ("", "[]", json.dumps({**json.loads(file.read_text()), "milliseconds": {"decord": 1}})):
        decoder_order.cache_clear()
        kept = file.read_text()
        file.write_text(damaged)
        assert decoder_order() == ("pyav",)
        file.write_text(kept)
    decoder_order.cache_clear()
    monkeypatch.setattr(choice, "version", lambda name: "0.1")
    assert decoder_order() == ("pyav",)


def test_auto_follows_what_was_measured(numbered: Path) -> None:
    with open_video(numbered) as video:
        assert video.backend == "pyav"
    remember({"pyav": 10.0, "decord": 5.0})
    with open_video(numbered) as video:
        assert video.backend == "decord"


def test_decoders_are_measured_on_files_that_all_read(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "loadable_decoders", lambda: ("pyav", "decord"))
    (tmp_path / "text.mp4").write_text("hello")
    found = measure_decoders([tmp_path / "text.mp4", numbered], clips=1)
    assert found.keys() == {"pyav", "decord"}
    assert all(0 < value < 1000 for value in found.values())
    with pytest.raises(VidsslError, match="none of 1 files is read by all of pyav, decord"):
        measure_decoders([tmp_path / "text.mp4"])
