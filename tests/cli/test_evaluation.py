"""The commands on a checkpoint as a user types them: what they print, write and exit with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.command_line import FAST, one_line


def test_zero_shot(vidssl, checkpoint, sprites):
    code, out, _ = vidssl("zero-shot", checkpoint, sprites / "val", *FAST)
    assert code == 0
    for row in ("trained", "untrained", "debiased (transductive)", "majority class", "chance"):
        assert row in out
    [file] = (checkpoint / "results").glob("zero-shot-*.json")
    result = json.loads(file.read_text())
    assert (
        result["classes"]["texts"][0] == "a shape moving to the right"
    )  # found in classes.csv beside the data
    assert result["templates"]["list"] == ["{}.", "a video of {}.", "a photo of {}."]
    assert result["scores"]["chance"]["top1"] == pytest.approx(1 / 3)
    assert result["scores"]["trained"]["total"] == 9
    assert result["sampling"]["frames"] == 4
    assert {"packages", "git_commit", "python"} <= result["environment"].keys()


def test_linear_probe_and_knn(vidssl, checkpoint, sprites, tmp_path):
    for command in ("linear-probe", "knn"):
        file = tmp_path / f"{command}.json"
        code, out, _ = vidssl(
            command, checkpoint, sprites / "train", sprites / "val", *FAST, "--output", file
        )
        assert code == 0
        assert "untrained" in out
        assert "motion energy" in out
        assert {"trained", "chance"} <= {
            name.split(",")[0] for name in json.loads(file.read_text())["scores"]
        }


def test_every_video_is_its_own_nearest_neighbour(vidssl, checkpoint, sprites, tmp_path):
    """Features, labels and file order would have to be mixed up for this to be below 1."""
    file = tmp_path / "knn.json"
    assert (
        vidssl("knn", checkpoint, sprites / "val", sprites / "val", "--k", 1, *FAST, "--output", file)[0] == 0
    )
    assert json.loads(file.read_text())["scores"]["trained, k = 1"]["top1"] == 1.0


def test_extract_and_classify(vidssl, checkpoint, sprites, tmp_path):
    code, out, _ = vidssl("extract", checkpoint, sprites / "val", tmp_path / "f.safetensors", *FAST)
    assert code == 0
    assert load_file(tmp_path / "f.safetensors")["features"].shape == (9, 32)
    record = json.loads((tmp_path / "f.json").read_text())
    assert record["videos"][0]["path"].endswith(".mp4")
    video = next((sprites / "val").rglob("*.mp4"))
    code, out, _ = vidssl(
        "classify",
        checkpoint,
        video,
        "--labels",
        "moving left, growing",
        *FAST,
        "--output",
        tmp_path / "c.json",
    )
    assert code == 0
    assert "moving left" in out
    probabilities = json.loads((tmp_path / "c.json").read_text())["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1)


def test_a_broken_video_is_reported_and_counts_as_wrong(vidssl, checkpoint, sprites, tmp_path):
    data = tmp_path / "val"
    shutil.copytree(sprites / "val", data)
    broken = next((data / "growing").iterdir())
    broken.write_bytes(b"not a video")
    file = tmp_path / "r.json"
    code, out, _ = vidssl("zero-shot", checkpoint, data, *FAST, "--output", file)
    assert code == 0
    assert f"counted as wrong: {broken}" in out.replace("\n", "")
    result = json.loads(file.read_text())
    assert result["scores"]["trained"]["failed"] == 1
    assert result["scores"]["trained"]["total"] == 9


def test_checkpoint_of_another_architecture(vidssl, checkpoint, sprites, tmp_path):
    broken = tmp_path / "encoder"
    shutil.copytree(next((checkpoint / "checkpoints").iterdir()) / "encoder", broken)
    config = json.loads((broken / "config.json").read_text())
    config["spec"]["model_cfg"]["vision_cfg"]["width"] = 128
    (broken / "config.json").write_text(json.dumps(config))
    message = one_line(*vidssl("zero-shot", broken, sprites / "val", *FAST))
    assert "model.safetensors" in message


def test_two_processes_evaluate_like_one(checkpoint, sprites, tmp_path):
    results = []
    for processes in (1, 2):
        file = tmp_path / f"{processes}.json"
        done = subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes),
             "--main_process_port", "0", "--num_cpu_threads_per_process", "1", "-m", "vidssl", "linear-probe",
             str(checkpoint), str(sprites / "train"), str(sprites / "val"), "--clips", "1", "--workers", "0",
             "--output", str(file)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(file.read_text())
        assert result["environment"]["processes"] == processes
        results.append(result["scores"])
    assert results[0] == results[1]
