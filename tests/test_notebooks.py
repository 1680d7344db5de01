"""The notebooks: stored without outputs, and they run offline, on a small CLIP and small videos."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# What a test puts in place of the cell that is tagged "parameters".
SMALL = {
    "first_light": "CLIPS, STEPS, BATCH = 6, 4, 8",
    "adapt_clip": 'CLIP, VIDEOS = "local-dir:clip", "videos"\nSTEPS, BATCH, SIZE = 2, 4, 32',
    "kalman_head": 'CLIP, VIDEOS = "local-dir:clip", "videos"\nSTEPS, SIZE, FRAMES, SECONDS = 2, 32, 8, 1.0',
    "own_objective": 'VIDEOS, STEPS = "videos", 3',
}


def code_of(file: Path, parameters: str | None = None) -> list[str]:
    cells = [
        cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
    ]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1 and cells[0] is tagged[0]
    return ["".join(cell["source"]) for cell in cells[1:]] if parameters is None else [
        parameters, *("".join(cell["source"]) for cell in cells[1:])
    ]  # fmt: skip


def test_every_notebook_is_tried():
    assert {file.stem for file in FILES} == set(SMALL)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_is_stored_without_outputs(file):
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    for source in code_of(file):
        ast.parse(source)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_runs_offline(file, sprites, tiny_clip, tmp_path, monkeypatch):
    from vidssl.objectives.composite import OBJECTIVES

    monkeypatch.chdir(tmp_path)
    if file.stem != "first_light":  # which renders its own
        (tmp_path / "videos").symlink_to(sprites)
    (tmp_path / "clip").symlink_to(tiny_clip)
    try:
        exec("\n".join(code_of(file, SMALL[file.stem])), {})
    finally:
        OBJECTIVES.pop("alignment_uniformity", None)
