"""``vidssl track`` as a user types it: what it prints, writes and exits with."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.command_line import one_line
from tests.evaluation.tracking.drawn import square_box, square_frame, write_boxes, write_frames, write_masks
from vidssl.data.encode import write_video


@pytest.fixture
def data(tmp_path):
    for name in ("a", "b"):
        write_frames(tmp_path / "data" / name / "frames", 4)
        write_boxes(tmp_path / "data" / name / "groundtruth.txt", 4)
        write_masks(tmp_path / "data" / name / "masks", [0, 1, 2, 3])
    return tmp_path / "data"


def test_a_table_beside_its_baselines_and_a_result_where_results_are(vidssl, checkpoint, data):
    arguments = ("track", checkpoint, data, "--task", "vos", "--device", "cpu")
    code, out, _ = vidssl(*arguments, "--plot", data / "strip.png")
    assert code == 0
    for row in ("encoder", "untrained", "random weights", "raw pixels", "first label copied"):
        assert row in out
    assert "2 of 2 sequences scored" in out and "preset dino" in out
    [file] = (checkpoint / "results").glob("track-vos-*.json")
    result = json.loads(file.read_text())
    assert str(file) in out and (data / "strip.png").is_file()
    assert result["settings"]["stride"] == 8 and result["protocol"]["hash"] in out
    assert result["scores"]["first label copied"]["objects"] == 2
    assert {"packages", "git_commit", "python"} <= result["environment"].keys()
    vidssl(*arguments, "--preset", "crw")
    assert len([*(checkpoint / "results").glob("track-vos-*.json")]) == 2


def test_ones_own_video_with_a_box_drawn_by_hand(vidssl, tiny_clip, tmp_path):
    write_video(tmp_path / "mine.mp4", [square_frame(t) for t in range(4)], fps=10)
    box = ",".join(map(str, square_box(0)))
    for task, size in (("sot", 80), ("vos", 64)):
        file = tmp_path / f"{task}.mp4"
        code, out, err = vidssl(
            *("track", f"local-dir:{tiny_clip}", tmp_path / "mine.mp4", "--task", task, "--box", box),
            *("--video", file, "--size", size, "--device", "cpu", "--output", tmp_path / "result.json"),
        )
        assert code == 0, err
        assert file.is_file() and str(file) in out
        assert "nothing to score: mine: " in out and "; it is drawn" in out
        assert "raw pixels" not in out and "sequences scored" not in out  # no table of nothing
        assert json.loads((tmp_path / "result.json").read_text())["data"]["scored"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "sot", "--box", "1,2,3"), "box=1,2,3: must be x,y,w,h in pixels"),
        (("--task", "vos", "--preset", "dinoo"), "preset='dinoo': unknown; did you mean 'dino'?"),
        (("--task", "sot", "--sequences", "a", "--box", "400,300,9,9"), "outside of its 80 x 64 pixels"),
        (("--task", "mot"), "no sequence for task mot: a: no"),
        (("--task", "vos", "--layer", 77), "layer=77: must be"),
        (("--task", "vos", "--video", "x.avi"), "--video x.avi: must end in .mp4"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(vidssl, tiny_clip, data, tmp_path, arguments, said):
    output = tmp_path / "result.json"
    assert said in one_line(
        *vidssl("track", f"local-dir:{tiny_clip}", data, "--device", "cpu", "--output", output, *arguments)
    )
    assert not output.exists()


def test_a_folder_that_is_no_layout_is_said_with_what_is_expected(vidssl, tiny_clip, tmp_path):
    (tmp_path / "data" / "notes").mkdir(parents=True)
    np.savetxt(tmp_path / "data" / "x.txt", np.zeros(3))
    line = one_line(*vidssl("track", f"local-dir:{tiny_clip}", tmp_path / "data", "--task", "sot"))
    assert "no sequence found, only 1 folders (notes), 1 files .txt; expected a video file;" in line
