"""Models of transformers where users name them: in commands and as the start of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.command_line import Run
from tests.models.towers.huggingface import test_checkpoints
from tests.models.towers.huggingface.tiny import noise, tiny
from vidssl.config import validate_config
from vidssl.exporting import export
from vidssl.models.load import load_encoder
from vidssl.models.towers.huggingface import checkpoints
from vidssl.training import pretrain


def test_a_folder_is_evaluated_as_it_is(vidssl: Run, sprites: Path, tmp_path: Path) -> None:
    """Without a word on frames a VideoMAE is shown as many as it was made for."""
    tiny("VideoMAEModel", tmp_path / "mae", image_size=32, num_frames=4)
    name = f"transformers/{tmp_path}/mae"
    data = (sprites / "train", sprites / "val")
    code, _, said = vidssl("knn", name, *data, "--workers", "0", "--output", tmp_path / "knn.json")
    assert code == 0, said
    assert json.loads((tmp_path / "knn.json").read_text())["sampling"]["frames"] == 4


def test_a_training_starts_from_a_folder(sprites: Path, tmp_path: Path) -> None:
    tiny("VJEPA2Model", tmp_path / "jepa", crop_size=32)
    recipe = {
        "output": str(tmp_path / "run"),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 4, "seconds": 1.0, "size": 32}],
        "model": {"name": f"transformers/{tmp_path}/jepa"},
        "objective": {"hsic": {"gamma": 1.0, "projector": [32, 16]}},
        "train": {"batch_size": 8, "steps": 2, "precision": "fp32"},
    }
    pretrain(validate_config(recipe, "test"))
    trained, start = load_encoder(tmp_path / "run").state_dict(), load_encoder(tmp_path / "jepa").state_dict()
    moved = [key for key, value in start.items() if not torch.equal(value, trained[key])]
    assert len(moved) == len(start)


def test_a_checkpoint_leaves_as_safetensors_and_says_what_became_of_it(
    vidssl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        checkpoints.ARCHITECTURES, "svt-tiny", test_checkpoints.TINY | {"model_type": "timesformer"}
    )
    _, wrapped, weights = test_checkpoints.CHECKPOINTS["SVT"]
    torch.save(wrapped(weights), tmp_path / "svt.pth")
    code, out, said = vidssl("export", f"transformers/svt-tiny:{tmp_path}/svt.pth", tmp_path / "out")
    assert code == 0, said
    assert out.startswith("weights read from teacher: backbone.")
    assert "blocks.*.attn.qkv.weight -> encoder.layer.*.attention.attention.qkv.weight" in out
    assert "left out: head.last_layer.weight_g, head.mlp.*.weight" in out
    assert (tmp_path / "out/model.safetensors").is_file()
    clips = noise(1, 3, 4, 16, 16)
    found = load_encoder(tmp_path / "out")(clips).clip
    torch.testing.assert_close(found, test_checkpoints.run_timesformer(weights, clips), atol=1e-5, rtol=0)


SLOW = ("VideoMAEModel", "TimesformerModel", "VJEPA2Model", "XCLIPModel", "Dinov2Model")


@pytest.mark.parametrize(
    "name", ["VivitModel", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_programs_of_models_of_transformers(name: str, tmp_path: Path) -> None:
    """Exported for PyTorch alone, checked by the export itself; their folder is not named in it."""
    tiny(name, tmp_path / "theirs")
    record = export(f"transformers/{tmp_path}/theirs", tmp_path / "out", "torch-export", frames=4)
    assert record["model"] == "transformers/theirs"
    assert str(tmp_path) not in (tmp_path / "out/export.json").read_text()
