"""Exports compute what their original does, or are not there."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from einops import rearrange
from torch import Tensor

import vidssl
from tests.command_line import Run, one_line
from tests.models.towers.huggingface import test_checkpoints as checkpoints
from tests.tiny_towers import OTHERS, TRANSFORMERS, write_tower
from vidssl.errors import VidsslError
from vidssl.exporting import export
from vidssl.exporting.export import FORMATS
from vidssl.exporting.formats.form import Loaded
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder

PROGRAMS = ("torch-export", "onnx")


def moved(encoder: VideoEncoder, seed: int = 0) -> VideoEncoder:
    """Every parameter away from its initial value, what is learned of time too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return encoder.eval()


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> VideoEncoder:
    return moved(vidssl.create_model(f"local-dir:{tiny_clip}"))


@pytest.fixture(scope="module")
def source(encoder: VideoEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(encoder, tmp_path_factory.mktemp("source") / "encoder")


def some_clips(count: int = 5, frames: int = 4, size: int = 32) -> Tensor:
    return torch.randn(count, 3, frames, size, size, generator=torch.Generator().manual_seed(1))


def run_program(folder: Path, clips: Tensor) -> tuple[Tensor, Tensor]:
    """What someone without vidssl does with the file."""
    if (folder / "encoder.pt2").is_file():
        clip, frames = torch.export.load(folder / "encoder.pt2").module()(clips)
        return clip, frames
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", *clips.shape[1:]]
    clip, frames = session.run(["clip", "frames"], {"clips": clips.numpy()})
    return torch.from_numpy(clip), torch.from_numpy(frames)


def agree(given: tuple[Tensor, Tensor], encoder: VideoEncoder, clips: Tensor) -> None:
    with torch.no_grad():
        wanted = encoder(clips)
    for name, features in zip(("clip", "frames"), given, strict=True):
        assert (features - getattr(wanted, name)).abs().max() < 1e-5 * wanted.frames.abs().max()


def test_a_program_runs_on_batches_that_it_never_saw(
    encoder: VideoEncoder, source: Path, tmp_path: Path
) -> None:
    record = export(source, tmp_path / "out", "torch-export", frames=4)
    assert record["input"]["frames"] == 4
    assert record["check"]["between"] > 100 * record["check"]["clip"]
    for count in (1, 2, 5):
        agree(run_program(tmp_path / "out", some_clips(count)), encoder, some_clips(count))
    written = json.loads((tmp_path / "out" / "export.json").read_text())
    assert written == record
    assert str(Path(vidssl.__file__).parents[1]).encode() not in (tmp_path / "out/encoder.pt2").read_bytes()


def test_a_graph_of_onnx_runs_on_batches_that_it_never_saw(tmp_path: Path) -> None:
    encoder = moved(vidssl.create_model("conv3d/small"))
    source = save_encoder(encoder, tmp_path / "encoder")
    export(source, tmp_path / "out", "onnx", frames=4, size=32)
    for count in (1, 5):
        agree(run_program(tmp_path / "out", some_clips(count)), encoder, some_clips(count))
    assert str(Path(vidssl.__file__).parents[1]).encode() not in (tmp_path / "out/encoder.onnx").read_bytes()


@pytest.mark.parametrize("format", ["vidssl", "open_clip"])
def test_no_place_of_this_machine_is_written(
    format: str, source: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    export(source, tmp_path / "out", format, frames=2, alone=True)
    for file in (tmp_path / "out").iterdir():
        assert str(tiny_clip.parent).encode() not in file.read_bytes()


def test_open_clip_itself_loads_the_image_tower(encoder: VideoEncoder, source: Path, tmp_path: Path) -> None:
    import open_clip

    record = export(source, tmp_path / "out", "open_clip", alone=True)
    model = open_clip.create_model(f"local-dir:{tmp_path / 'out'}", require_pretrained=True).eval()
    clips = some_clips()
    with torch.no_grad():
        images = model.encode_image(rearrange(clips, "b c t h w -> (b t) c h w"))
        tower: Any = encoder.visual
        torch.testing.assert_close(images, tower(rearrange(clips, "b c t h w -> (b t) c h w")))
        texts = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(["juggling"]))
    assert encoder.text is not None
    torch.testing.assert_close(texts, encoder.text.encode(["juggling"]), rtol=0, atol=1e-4)
    torch.testing.assert_close(model.logit_scale.exp().item(), 1 / encoder.text.temperature)
    assert record["left_out"]["temporal"] == "divided"
    assert record["left_out"]["difference"] > 0.01
    agree_again = vidssl.load_encoder(tmp_path / "out")
    with torch.no_grad():
        frames = rearrange(images, "(b t) d -> b t d", b=len(clips))
        torch.testing.assert_close(agree_again(clips).frames, frames)


def test_an_image_model_goes_to_open_clip_whole(tiny_clip: Path, tmp_path: Path) -> None:
    record = export(f"local-dir:{tiny_clip}", tmp_path / "out", "open_clip", frames=2)
    assert "left_out" not in record
    assert record["check"]["text"] is not None


def test_what_open_clip_cannot_hold(source: Path, tiny_clip: Path, tmp_path: Path) -> None:
    image_only = save_encoder(
        vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none", load_text=False), tmp_path / "image"
    )
    for given, words in (
        (source, "temporal='divided'); --image-tower leaves it out"),
        ("conv3d/small", "is a video network"),
        (image_only, "has no text tower"),
    ):
        with pytest.raises(VidsslError) as error:
            export(given, tmp_path / "new" / "out", "open_clip")
        assert words in str(error.value)
        assert not (tmp_path / "new").exists()
    with pytest.raises(VidsslError, match="without an image tower"):
        export("conv3d/small", tmp_path / "out", alone=True)


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_another_output_than_the_original_s_leaves_nothing(
    change: float, encoder: VideoEncoder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FORMATS["vidssl"]

    def read(folder: Path) -> Loaded:
        assert (folder / "model.safetensors").is_file()
        spoilt = copy.deepcopy(encoder)
        with torch.no_grad():
            spoilt.get_parameter("visual.proj")[0, 0] += change
        return Loaded(lambda clips: spoilt(clips)[:2])

    monkeypatch.setitem(FORMATS, "vidssl", own._replace(read=read))
    with pytest.raises(VidsslError, match=r"features of 3 clips differ from the original's by (0\.|nan)"):
        export(source, tmp_path / "deep" / "er" / "out", frames=2)
    assert list(tmp_path.iterdir()) == []


def test_an_export_for_one_batch_size_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FORMATS["vidssl"]

    def read(folder: Path) -> Any:
        loaded = own.read(folder)
        return loaded._replace(encode=lambda clips: tuple(x[:2] for x in loaded.encode(clips)))

    monkeypatch.setitem(FORMATS, "vidssl", own._replace(read=read))
    with pytest.raises(VidsslError, match=r"clip features are \(2, 32\) instead of the original's \(3, 32\)"):
        export(source, tmp_path / "out", frames=2)


def test_checked_on_videos(source: Path, sprites: Path, tmp_path: Path, vidssl: Run) -> None:
    videos = sorted(sprites.glob("val/*/*.mp4"))[:2]
    named = [argument for video in videos for argument in ("--check", video)]
    code, out, _ = vidssl("export", source, tmp_path / "out", "--frames", 4, *named)
    assert code == 0
    assert f"{videos[0].name}, {videos[1].name}, rendered" in out
    assert "export.json" in out
    assert one_line(*vidssl("export", source, tmp_path / "out")).endswith("choose another folder\n")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos[0].read_bytes()[:300])
    assert "broken.mp4" in one_line(*vidssl("export", source, tmp_path / "new", "--check", broken))
    assert not (tmp_path / "new").exists()


def test_an_export_starts_a_new_run(
    encoder: VideoEncoder, source: Path, tiny_clip: Path, recipe: Path, tmp_path: Path
) -> None:
    from vidssl.config import load_config
    from vidssl.training import pretrain

    export(source, tmp_path / "out", frames=4)
    config = load_config(recipe, [f"model.pretrained={tmp_path / 'out'}", "train.steps=1"])
    run = pretrain(config)
    initial = vidssl.load_encoder(run / "initial").state_dict()
    for key, value in encoder.state_dict().items():
        assert torch.equal(initial[key], value)


def test_without_onnx(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(VidsslError, match=r"needs onnxscript: install vidssl\[onnx\]"):
        export(source, tmp_path / "out", "onnx")


def test_the_command_knows_every_format() -> None:
    from vidssl.cli.exporting import export as command

    [allowed, _] = get_args(get_type_hints(command, include_extras=True)["format"])
    assert set(get_args(allowed)) == set(FORMATS)


def test_a_checkpoint_of_a_training_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vidssl: Run
) -> None:
    tiny = checkpoints.TINY | {"model_type": "timesformer"}
    monkeypatch.setitem(checkpoints.checkpoints.ARCHITECTURES, "svt-tiny", tiny)
    torch.save(checkpoints.CHECKPOINTS["SVT"][1](checkpoints.timesformer()), tmp_path / "theirs.pth")
    source = f"transformers/svt-tiny:{tmp_path / 'theirs.pth'}"
    code, out, err = vidssl("export", source, tmp_path / "out")
    assert code == 0, err
    assert "weights read from teacher: backbone." in out
    assert "  blocks.*.temporal_fc.bias -> encoder.layer.*.temporal_dense.bias" in out
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*TRANSFORMERS, *OTHERS])
@pytest.mark.parametrize("format", PROGRAMS)
def test_programs_of_every_tower(
    kind: str, format: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At another size than the tower's where it is a transformer, so that positions are interpolated."""
    folder = write_tower(tmp_path / "tower", kind)
    in_blocks = ("divided", "joint", "adapter") if kind in TRANSFORMERS else ()
    for temporal in (*in_blocks, "head", "convolutions", "none"):
        encoder = moved(vidssl.create_model(f"local-dir:{folder}", temporal=temporal, load_text=False))
        stored = save_encoder(encoder, tmp_path / f"{temporal}-encoder")
        size = 48 if kind in TRANSFORMERS else 32
        export(stored, tmp_path / temporal, format, frames=4, size=size)
        clips = some_clips(5, 4, size)
        agree(run_program(tmp_path / temporal, clips), encoder, clips)


@pytest.mark.slow
def test_away_from_vidssl(encoder: VideoEncoder, source: Path, tmp_path: Path) -> None:
    """In a process where vidssl cannot be imported; and an encoder where none of its upper floors can."""
    export(source, tmp_path / "program", "torch-export", frames=4)
    export(source, tmp_path / "encoder", frames=4)
    torch.save(some_clips(), tmp_path / "clips.pt")
    upper = ["training", "evaluation", "objectives", "runs", "exporting", "concepts", "synthetic", "data"]
    programs = {
        "program": "import sys, torch; sys.modules['vidssl'] = None; "
        "f = torch.export.load('program/encoder.pt2').module()(torch.load('clips.pt'))",
        "encoder": f"import sys, torch; sys.modules.update({{'vidssl.' + x: None for x in {upper}}}); import vidssl; "
        "f = vidssl.load_encoder('encoder')(torch.load('clips.pt')); f = (f.clip, f.frames)",
    }
    for name, program in programs.items():
        code = f"{program}; torch.save(tuple(x.detach() for x in f), '{name}.pt')"
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
        agree(torch.load(tmp_path / f"{name}.pt"), encoder, some_clips())
