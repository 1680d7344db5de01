from __future__ import annotations

import fcntl
import json
import os

import pytest
import yaml

from vidssl.errors import VidsslError
from vidssl.training.listing import differences, draw_curves, find_runs, select


def run_folder(place, steps=20, last=20, stopped=False, **recipe):
    place.mkdir(parents=True)
    keys = {"output": str(place), "train": {"steps": steps, "lr": 0.1}, "views": [{"size": 32}], **recipe}
    (place / "config.yaml").write_text(yaml.safe_dump(keys))
    rows = [json.dumps({"step": step, "loss": 1 / step}) for step in range(1, last + 1)]
    (place / "log.jsonl").write_text("\n".join([*rows, '{"step": Infinity, "loss": 1}', '{"step": 99, "lo']))
    latest = {"checkpoint": f"checkpoints/step_{last:08d}", "stopped": stopped}
    (place / "latest.json").write_text(json.dumps(latest))
    return place


def test_runs_are_found_with_their_state_and_curves(tmp_path) -> None:
    done = run_folder(tmp_path / "a" / "done")
    run_folder(tmp_path / "a" / "killed", last=7)
    run_folder(tmp_path / "a" / "stopped", last=5, stopped=True)
    run_folder(done / "checkpoints" / "inside")  # inside a run nothing is looked for
    (done / "run.lock").write_text("")
    found = {run.folder.name: run for run in find_runs([tmp_path, tmp_path / "a"])}
    assert {name: run.state for name, run in found.items()} == {
        "done": "done", "killed": "ended early", "stopped": "stopped"
    }  # fmt: skip
    assert found["killed"].step == 7
    assert found["killed"].logs["loss"][-1] == (7, pytest.approx(1 / 7))
    held = os.open(done / "run.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert find_runs([done])[0].state == "running"
    os.close(held)


def test_epochs_are_counted_in_steps(tmp_path) -> None:
    run = run_folder(tmp_path / "run", last=6, data={"repeats": 2}, train={"epochs": 1.5, "batch_size": 8})
    assert find_runs([run])[0].steps is None
    (run / "environment.json").write_text(json.dumps({"data": {"videos": 50}}))
    assert find_runs([run])[0][1:4] == (
        "ended early",
        6,
        18,
    )  # of 12 whole batches of 8 in an epoch of 100 clips
    for broken in ("{", "[]", '{"data": {"videos": "x"}}'):
        (run / "environment.json").write_text(broken)
        assert find_runs([run])[0].steps is None


def test_scores_are_read_and_other_files_are_not(tmp_path) -> None:
    folder = run_folder(tmp_path / "run")
    (folder / "results").mkdir()
    scores = {"trained": {"top1": 0.5}, "untrained": {"top1": 0.25}, "chance": {"top1": 0.1}}
    result = {"task": "zero-shot", "data": {"path": "videos/val"}, "scores": scores}
    probe = {"trained, k = 1": {"top1": 0.75}, "untrained, k = 1": {"top1": 0.5}}
    other = {"task": "knn", "train": {"path": "videos/train"}, "val": {"path": "videos/val"}, "scores": probe}
    (folder / "results" / "probe.json").write_text(json.dumps(other))
    (folder / "results" / "gone.json").symlink_to("nowhere")
    (folder / "results" / "one.json").write_text(json.dumps(result))
    (folder / "results" / "broken.json").write_text("{")
    (folder / "results" / "other.json").write_text('{"task": "track"}')
    assert find_runs([folder])[0].scores == {
        "zero-shot videos/val": {"trained": 0.5, "untrained": 0.25},
        "knn, k = 1 videos/val": {"trained": 0.75, "untrained": 0.5},
    }


def test_runs_are_chosen_and_compared_by_their_recipes(tmp_path) -> None:
    run_folder(tmp_path / "one", seed=1)
    run_folder(tmp_path / "two", seed=2)
    runs = find_runs([tmp_path])
    assert [run.folder.name for run in select(runs, ["seed=2", "views.0.size=32", "state=done"])] == ["two"]
    assert differences(runs) == {"seed": [1, 2]}
    with pytest.raises(VidsslError, match=r"train\.lrr.*did you mean 'train.lr'"):
        select(runs, ["train.lrr=1"])
    for wrong, said in (
        ("seed", "expected key=value"),
        ("seed=[", "not a YAML value"),
        ("state=dnoe", "did you mean 'done'"),
    ):
        with pytest.raises(VidsslError, match=said):
            select(runs, [wrong])


def test_curves_are_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    runs = find_runs([run_folder(tmp_path / "one")])
    draw_curves(runs, ["loss"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(VidsslError, match=r"'los'.*did you mean 'loss'"):
        draw_curves(runs, ["los"], tmp_path / "other.png")


def test_a_folder_without_runs_is_named(tmp_path) -> None:
    with pytest.raises(VidsslError, match="no run"):
        find_runs([tmp_path])
    with pytest.raises(VidsslError, match="no such folder"):
        find_runs([tmp_path / "not there"])


def test_a_damaged_run_does_not_hide_the_others(tmp_path) -> None:
    run_folder(tmp_path / "a")
    (run_folder(tmp_path / "b") / "config.yaml").write_text("[")
    (run_folder(tmp_path / "c") / "latest.json").write_text("{")
    states = {run.folder.name: run.state for run in find_runs([tmp_path])}
    assert states == {"a": "done", "b": "config.yaml cannot be read", "c": "latest.json cannot be read"}


def test_a_picture_is_a_png(vidssl, tmp_path) -> None:
    run_folder(tmp_path / "one")
    code, out, said = vidssl("runs", tmp_path / "one", "--plot", tmp_path / "curves.svg")
    assert (code, out) == (2, "")
    assert said.strip() == f"vidssl: --plot: {tmp_path / 'curves.svg'}: must end in .png"
    assert not (tmp_path / "curves.svg").exists()
