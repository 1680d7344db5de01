from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.conftest import write_numbered
from vidssl.data.decode.orientation import Orientation
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.data.manifest.store.facts import _runs, _stamps, examine, fact_columns, timeline_of, timeline_row


def assert_equal(one: Timeline, other: Timeline) -> None:
    for field in fields(Timeline):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"gop_size": 10}),
        ("a.mkv", {"stamps": [i * i // 3 + i for i in range(40)], "gop_size": 10}),
        ("a.avi", {"options": {"bf": "2"}}),  # its stamps do not name its frames
    ],
)
def test_a_time_line_comes_back_as_it_was(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    timeline = read_timeline(write_numbered(tmp_path / name, **options))
    row = dict.fromkeys(fact_columns()) | timeline_row(timeline)
    assert_equal(timeline_of(json.loads(json.dumps(row))), timeline)
    assert (timeline.pts is None) == (name == "a.avi")


@given(st.integers(-(2**40), 2**40), st.lists(st.integers(1, 3) | st.integers(1, 2**40)))
def test_stamps_come_back(first: int, gaps: list[int]) -> None:
    stamps = np.cumsum([first, *gaps])
    runs = _runs(np.diff(stamps))
    assert np.array_equal(_stamps(first, runs), stamps)
    assert (runs[2::2] != 0).all() and (np.diff(runs[1::2]) != 0).all()


def test_a_constant_rate_is_one_run() -> None:
    assert _runs(np.full(10**5, 512)).tolist() == [10**5, 512]


def test_turns_are_those_of_numpy(numbered: Path) -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    timeline = read_timeline(numbered)
    for orientation in (Orientation(*flags) for flags in product([False, True], repeat=3)):
        row = timeline_row(replace(timeline, orientation=orientation))
        turned = np.rot90(picture, -row["rotation"] // 90)
        expected = turned[:, ::-1] if row["mirrored"] else turned
        assert np.array_equal(orientation.apply(picture), expected)


def test_every_decoder_is_asked_for_its_own_word(tmp_path: Path) -> None:
    row = examine(write_numbered(tmp_path / "a.ts", frames=5), ["pyav", "decord"])
    assert (row["error"], row["pyav"], row["torchcodec"]) == (None, "", None)
    assert row["decord"] == "the container is mpegts, which decord gets wrong"
    assert timeline_of(row).refused == ("decord",)
    (tmp_path / "b.mp4").write_bytes(b"")
    bad = examine(tmp_path / "b.mp4", ["pyav"])
    assert (bad["error"], bad["bytes"], bad["num_frames"]) == ("the file is empty", 0, None)
    assert examine(tmp_path / "absent.mp4", ["pyav"])["error"] == "no such file"
