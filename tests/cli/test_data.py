"""`vidssl data` as a user types it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.command_line import one_line
from vidssl.data.manifest.manifest import VideoIndex


def test_data_commands(vidssl, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "val", data)
    code, out, _ = vidssl("data", "index", data, "--output", data / "list.csv")
    assert code == 0
    assert "9 videos, 3 classes" in out
    assert vidssl("data", "index", data / "list.csv")[0] == 0
    assert vidssl("data", "check", data)[0] == 0
    next((data / "growing").iterdir()).write_bytes(b"")
    code, out, _ = vidssl("data", "check", data, "--output", tmp_path / "check.json")
    assert code == 1
    assert "8 readable, 1 unreadable" in out
    assert len(json.loads((tmp_path / "check.json").read_text())["unreadable"]) == 1


def test_a_list_is_not_replaced_by_less(vidssl, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "val" / "growing", data / "growing")
    vidssl("data", "index", data, "--output", data / "list.csv")
    before = (data / "list.csv").read_bytes()
    said = one_line(*vidssl("data", "index", data / "list.csv", "--output", data / "list.csv"))
    assert said.endswith("is what is read; write to another place\n")
    vidssl("data", "index", data / "list.csv", "--output", data / "other.csv")
    next((data / "growing").iterdir()).unlink()
    short = ("data", "index", data / "list.csv", "--missing", "skip", "--output")
    assert "left as it is: 1 listed videos do not exist now" in one_line(*vidssl(*short, data / "other.csv"))
    assert (data / "list.csv").read_bytes() == (data / "other.csv").read_bytes() == before
    assert vidssl(*short, data / "new.csv")[0] == 0
    assert (data / "new.csv").read_text().count("\n") == 3


def test_render_writes_what_it_says(vidssl, tmp_path):
    short = ("--clips", 2, "--frames", 3, "--size", 32)
    code, out, _ = vidssl("data", "render", "factors", tmp_path / "factors", *short)
    assert code == 0
    assert "2 clips" in out
    assert "shape 4" in out
    assert "direction* 8" in out
    code, out, _ = vidssl("data", "index", tmp_path / "factors")
    assert "2 videos" in out
    options = ("--fewest", 6, "--most", 6, "--distractors", 5, "--noise", 0)
    code, out, _ = vidssl("data", "render", "objects", tmp_path / "objects", *short, *options)
    assert code == 0
    assert "2 sequences of 3 frames" in out
    record = json.loads((tmp_path / "objects" / "objects.json").read_text())
    assert record["difficulty"]["fewest"] == 6
    assert record["difficulty"]["distractors"] == 5
    assert record["difficulty"]["noise"] == 0
    assert record["difficulty"]["stretch"] == 0.2
    code, out, _ = vidssl("data", "render", "objects", tmp_path / "videos", *short, "--format", "mp4")
    assert "2 videos" in vidssl("data", "index", tmp_path / "videos")[1]


def test_render_refuses_in_one_line(vidssl, tmp_path):
    said = one_line(*vidssl("data", "render", "factors", tmp_path / "a", "--scene", "shapes3"))
    assert "scene 'shapes3': unknown" in said
    assert "zoom=3.0: must be at most 0.5" in one_line(
        *vidssl("data", "render", "objects", tmp_path / "a", "--zoom", 3)
    )
    (tmp_path / "note").touch()
    assert "is not empty" in one_line(*vidssl("data", "render", "objects", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_the_defaults_of_the_command_are_those_of_the_library():
    from dataclasses import asdict
    from inspect import signature

    from vidssl.cli.render import objects
    from vidssl.synthetic.objects.scene import Difficulty

    given = {name: parameter.default for name, parameter in signature(objects).parameters.items()}
    assert {name: given[name] for name in asdict(Difficulty())} == asdict(Difficulty())


@pytest.mark.slow
def test_prepared_videos_have_a_manifest(vidssl, sprites, tmp_path):
    shutil.copytree(sprites / "val" / "growing", tmp_path / "data" / "growing")
    code, out, _ = vidssl("data", "prepare", tmp_path / "data", tmp_path / "new", "--workers", 1)
    assert code == 0
    assert "new/videos.csv: 3 clips" in out
    listed, known = (VideoIndex.read(tmp_path / "new" / name) for name in ("videos.csv", "videos.arrow"))
    assert (known.paths, known.labels, known.digest) == (listed.paths, listed.labels, listed.digest)
    for i in range(3):
        assert listed.timeline(i) is None
        assert np.diff(known.timeline(i).times).min() > 0
