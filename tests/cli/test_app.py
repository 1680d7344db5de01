"""What every command does with a mistake, and what the application shows of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.command_line import FAST, one_line
from vidssl import demo
from vidssl.errors import Stopped


def test_doctor(vidssl, tmp_path):
    code, out, _ = vidssl("doctor", "--output", tmp_path / "doctor.json")
    assert code == 0
    report = json.loads((tmp_path / "doctor.json").read_text())
    assert report["decoders"]["pyav"] == "works"
    assert "hsic.yaml" in report["configs"]
    assert "PyAV" in out or "pyav" in out


def test_mistakes_exit_with_2_and_one_line(vidssl, checkpoint, recipe, sprites, tiny_clip, tmp_path):
    empty, unreadable, other = tmp_path / "empty", tmp_path / "unreadable", tmp_path / "other"
    empty.mkdir()
    shutil.copytree(sprites / "val", unreadable)
    for file in (unreadable / "growing").iterdir():
        file.write_bytes(b"not a video")
    (other / "class").mkdir(parents=True)
    (other / "class" / "notes.txt").write_text("no video")
    val = sprites / "val"
    for arguments, said in (
        (("zero-shot", tmp_path / "nowhere", val), "nowhere"),
        (("zero-shot", checkpoint, tmp_path / "nowhere"), "nowhere"),
        (("zero-shot", checkpoint, empty), "empty"),
        (("zero-shot", checkpoint, other), "no video"),
        (("zero-shot", checkpoint, unreadable), "growing"),
        (("zero-shot", checkpoint, val, "--templates", "acton"), "did you mean 'action'"),
        (("zero-shot", checkpoint, val, "--crops", 2), "crops"),
        (("zero-shot", sprites, val), "encoder"),
        (("linear-probe", checkpoint, val, unreadable), "growing"),
        (
            ("classify", checkpoint, unreadable / "growing" / "growing_0000.mp4", "--labels", "a,b"),
            "growing_0000.mp4",
        ),
        (("classify", checkpoint, tmp_path / "x.mp4", "--labels", "a,b"), "x.mp4"),
        (("pretrain", recipe, "train.lr=fast"), "train.lr"),
        (("pretrain", recipe, "train.stepz=3"), "did you mean 'steps'"),
        (("pretrain", tmp_path / "no.yaml"), "no such recipe"),
        (("pretrain", recipe, f"data.train={empty}"), "empty"),
        (("pretrain", recipe, f"data.train={unreadable}"), "growing"),
        (("pretrain", recipe, "model.name=ViT-B-16", f"model.pretrained=local-dir:{tiny_clip}"), "ViT-B-16"),
    ):
        assert said in one_line(
            *vidssl(*arguments, *(FAST if arguments[0] in ("zero-shot", "linear-probe") else ()))
        ), arguments
    assert not (tmp_path / "run").exists()


def test_usage_errors_are_clicks_own(vidssl):
    assert vidssl("zero-shot")[0] == 2
    assert vidssl("no-such-command")[0] == 2
    assert vidssl("--help")[0] == 0


def test_a_demo_that_is_told_to_stop_does_not_evaluate(vidssl, tmp_path, monkeypatch):
    def stopped(config):
        raise Stopped("stopped after step 3")

    for part in ("write_sprite_dataset", "_train_clip", "zero_shot", "linear_probe"):
        monkeypatch.setattr(demo, part, lambda *_, part=part, **__: print(f"{part} was called"))
    monkeypatch.setattr(demo, "pretrain", stopped)
    code, out, err = vidssl("demo", "--output", tmp_path / "demo")
    assert code == 75
    assert err == "vidssl: stopped after step 3\n"
    assert "_train_clip was called" in out and "zero_shot" not in out and "linear_probe" not in out


@pytest.fixture
def small_demo(monkeypatch):
    """A demo that only writes words, and fails where it is told to."""
    words = {"word": "first", "fails": None}

    def part(name: str, *parts: str):
        def write(*arguments, **options):
            folder = arguments[0] if isinstance(arguments[0], Path) else Path(arguments[0].output)
            if parts:
                (folder / "file").parent.mkdir(parents=True, exist_ok=True)
                (folder / "file").write_text(words["word"])
            if words["fails"] == name:
                raise OSError(28, "No space left on device")
            return {"word": words["word"]}

        return write

    for name, *parts in (
        ("write_sprite_dataset", "videos"),
        ("_train_clip", "clip"),
        ("pretrain", "run"),
        ("zero_shot",),
        ("linear_probe",),
    ):
        monkeypatch.setattr(demo, name, part(name, *parts))
    monkeypatch.setattr(demo, "show_result", lambda *_: None)
    return words


def demo_words(folder: Path) -> list[str]:
    words = [(folder / part / "file").read_text() for part in ("videos", "clip", "run")]
    return [*words, json.loads((folder / "result.json").read_text())["zero-shot"]["word"]]


@pytest.mark.parametrize("fails", ["write_sprite_dataset", "pretrain", "linear_probe"])
def test_a_demo_replaces_an_earlier_one_only_when_it_is_complete(small_demo, tmp_path, capsys, fails):
    demo.run_demo(tmp_path)
    for word, failing in (("second", fails), ("third", None)):
        small_demo.update(word=word, fails=failing)
        if failing:
            with pytest.raises(OSError, match="No space"):
                demo.run_demo(tmp_path)
        else:
            demo.run_demo(tmp_path)
        assert demo_words(tmp_path) == ["first" if failing else "third"] * 4
        assert not list(tmp_path.glob(".*"))
        assert ("the earlier one is back" in capsys.readouterr().out) == bool(failing)


def test_a_demo_that_was_killed_gives_the_earlier_one_back(small_demo, tmp_path):
    demo.run_demo(tmp_path)
    (tmp_path / ".earlier").mkdir()
    for part in ("videos", "clip", "run", "result.json"):
        (tmp_path / part).rename(tmp_path / ".earlier" / part)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "file").write_text("half")
    small_demo.update(word="third", fails="_train_clip")
    with pytest.raises(OSError, match="No space"):
        demo.run_demo(tmp_path)
    assert demo_words(tmp_path) == ["first"] * 4
