"""`vidssl data` as a user types it."""

from __future__ import annotations

import json
import shutil

from tests.command_line import one_line


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
