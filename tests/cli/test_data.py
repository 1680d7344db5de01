"""`vidssl data` as a user types it."""

from __future__ import annotations

import json
import shutil


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
