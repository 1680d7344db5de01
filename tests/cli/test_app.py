"""What every command does with a mistake, and what the application shows of itself."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.command_line import FAST, one_line
from vidssl.demo import naming
from vidssl.demo import run as demo
from vidssl.errors import Stopped


def test_doctor(vidssl, tmp_path):
    code, out, _ = vidssl("doctor", "--output", tmp_path / "doctor.json")
    assert code == 0
    report = json.loads((tmp_path / "doctor.json").read_text())
    assert report["decoders"]["pyav"] == "works"
    assert "hsic.yaml" in report["configs"]
    assert "PyAV" in out or "pyav" in out


def test_doctor_lists_encoders_by_family(vidssl, tmp_path, monkeypatch):
    import open_clip

    names = ["ViT-B-32", "RN50", "PE-Core-T-16-384", "coca_ViT-B-32"]
    monkeypatch.setattr(open_clip, "list_models", lambda: names)
    code, out, _ = vidssl("doctor", "--encoders", "--output", tmp_path / "encoders.json")
    assert code == 0
    found = {row["name"]: row for row in json.loads((tmp_path / "encoders.json").read_text())["encoders"]}
    assert found["open_clip, Eva"]["names"] == ["PE-Core-T-16-384"]
    assert "joint" in found["open_clip, VisionTransformer"]["modes"]
    assert found["open_clip, ModifiedResNet"]["modes"] == ["convolutions", "head", "none"]
    assert not any("coca_ViT-B-32" in row["names"] for row in found.values())
    assert "conv3d/small" in out
    assert "videomae" in found["transformers/FOLDER or ORG/NAME, video models"]["names"]
    assert "dinov3_vit" in found["transformers/FOLDER or ORG/NAME, image models"]["names"]


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zero-shot",), "missing argument 'checkpoint'; `"),
        (("pretran", "x"), "no such command 'pretran'; did you mean 'pretrain'"),
        (("pretrain", "x", "--resum"), "no such option: --resum (Possible options: --resume)"),
        (("export", "a", "b", "--format", "torch_export"), "--format='torch_export': unknown; did you mean 'torch-export'? (allowed: vidssl,"),
        (("attentive-probe", "a", "b", "c", "--tokens", "patchs"), "--tokens='patchs': unknown; did you mean 'patches'? (allowed: frames, patches)"),
        (("attentive-probe", "a", "b", "c", "--blocks", 9), "--blocks=9: must be at most 4"),
        (("finetune", "a", "b", "c", "--train-batch-size", 0), "--train-batch-size=0: must be at least 1"),
        (("knn", "a", "b", "c", "--clips", "few"), "--clips=few: must be a whole number"),
        (("knn", "a", "b", "c", "--clips"), "option '--clips' requires an argument"),
        (("export", "a", "b", "--private"), "--private: is for --push"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line(vidssl, arguments, said):
    assert said in one_line(*vidssl(*arguments))


def test_without_arguments_the_help_is_shown(vidssl):
    assert vidssl("--help")[0] == 0
    code, out, err = vidssl("data")
    assert code == 2
    assert "prepare" in out + err
    assert "vidssl: " not in err


def test_a_demo_that_is_told_to_stop_does_not_evaluate(vidssl, tmp_path, monkeypatch):
    def stopped(config):
        raise Stopped("stopped after step 3")

    class Other:
        def finish(self):
            print("finish was called")

        def end(self):
            print("end was called")

    for part in ("write_sprite_dataset", "linear_probe", "forecast_frames", "draw"):
        monkeypatch.setattr(demo, part, lambda *_, part=part, **__: print(f"{part} was called"))
    monkeypatch.setattr(demo, "pretrain", stopped)
    monkeypatch.setattr(naming, "SecondProcess", lambda *_: Other())
    code, out, err = vidssl("demo", "--output", tmp_path / "demo")
    assert code == 75
    assert err == "vidssl: stopped after step 3\n"
    assert "write_sprite_dataset was called" in out and "end was called" in out
    assert not any(f"{part} was called" in out for part in ("linear_probe", "finish", "draw"))
