"""Weights that do not fit, or that are no weights at all."""

from __future__ import annotations

import argparse
import pickle
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vidssl
from tests.models.tiny_weights import assert_carries, one_line, tensors_of
from tests.tiny_clip import tiny_config, write_tiny_clip
from vidssl.errors import VidsslError
from vidssl.models.weights import read_tensors


@pytest.mark.parametrize("kind", ["missing", "unexpected", "shape", "foreign", "text"])
def test_weights_that_do_not_fit_list_their_keys(
    kind: str, tiny_name: str, tiny_clip: Path, tmp_path: Path
) -> None:
    tensors = tensors_of(tiny_clip)
    if kind == "missing":
        del tensors["visual.ln_post.weight"]
    elif kind == "unexpected":
        tensors["visual.extra"] = torch.zeros(1)
    elif kind == "shape":
        tensors["visual.proj"] = torch.zeros(64, 16)
    elif kind == "text":
        tensors = {key: value for key, value in tensors.items() if key.startswith("visual.")}
    else:
        tensors = {f"backbone.{key}": value for key, value in tensors.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(VidsslError) as error:
        vidssl.create_model(tiny_name, str(tmp_path / "x.safetensors"))
    words = {
        "missing": "1 missing (visual.ln_post.weight)",
        "unexpected": "1 unexpected (visual.extra)",
        "shape": "1 of another shape (visual.proj (64, 16) instead of (64, 32))",
        "text": "load_text=False loads the image tower only",
        "foreign": "not one of the",
    }
    assert words[kind] in one_line(error)
    assert len(one_line(error)) < 900
    if kind == "text":
        vidssl.create_model(tiny_name, str(tmp_path / "x.safetensors"), load_text=False)


def test_another_image_size_has_to_be_asked_for(tiny_name: str, tiny_clip: Path, tmp_path: Path) -> None:
    larger = write_tiny_clip(tmp_path, tiny_config(image_size=48))
    file = str(larger / "open_clip_model.safetensors")
    with pytest.raises(VidsslError, match="image_size= interpolates"):
        vidssl.create_model(tiny_name, file)
    with pytest.raises(VidsslError, match=r"vision_cfg\.image_size 48 instead of 32"):
        vidssl.create_model(tiny_name, f"local-dir:{larger}")
    for pretrained in (file, f"local-dir:{larger}"):
        assert vidssl.create_model(tiny_name, pretrained, image_size=32).image_size == 32


def test_openai_weights_need_quick_gelu(tiny_name: str, tiny_clip: Path, tmp_path: Path) -> None:
    tensors = tensors_of(tiny_clip) | {
        "input_resolution": torch.tensor(32),
        "vocab_size": torch.tensor(49408),
    }
    torch.save(tensors, tmp_path / "openai.pt")
    with pytest.raises(VidsslError, match="QuickGELU"):
        vidssl.create_model(tiny_name, str(tmp_path / "openai.pt"))
    assert_carries(vidssl.create_model(f"{tiny_name}-quickgelu", str(tmp_path / "openai.pt")), tiny_clip)


class Payload:
    """Pickles to a call that would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def test_nothing_in_a_checkpoint_is_executed(tiny_name: str, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "args": Payload(target)}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Payload(target)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "script.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00")
    (tmp_path / "torn.pt").write_bytes(b"")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    said = {
        "evil.pt": "holds getattr beside its tensors",
        "raw.pt": "is damaged, or no file of tensors",
        "script.pt": "is a TorchScript archive",
        "torn.safetensors": "cannot be read",
        "torn.pt": "is damaged, or no file of tensors",
        "list.pt": "holds no dictionary of tensors",
    }
    for name, words in said.items():
        with pytest.raises(VidsslError, match=rf"{name}: {words}") as error:
            vidssl.create_model(tiny_name, str(tmp_path / name))
        assert "\x1b" not in one_line(error)
    assert not target.exists()


def test_what_training_programs_write_around_the_weights_is_taken_off(
    tiny_clip: Path, tmp_path: Path
) -> None:
    tensors = tensors_of(tiny_clip)
    compiled = {f"module._orig_mod.{key}": value for key, value in tensors.items()}
    around: dict[str, dict[str, Any]] = {
        "numpy": {"epoch": np.int64(3), "best": np.float32(0.5), "seen": np.arange(3), "state_dict": tensors},
        "model": {"model": compiled, "optimizer": {"state": {}, "param_groups": []}},
        "teacher": {"student": tensors, "teacher": compiled},
        "inner": {"model": {"state_dict": tensors, "step": 3}},
        "inside": {key.replace("visual.", "visual._orig_mod."): value for key, value in tensors.items()},
    }
    for name, content in around.items():
        torch.save(content, tmp_path / f"{name}.pt")
        read = read_tensors(tmp_path / f"{name}.pt")
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[key], tensors[key]) for key in tensors)


def test_a_file_that_cannot_be_used_says_why_in_a_whole_sentence(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(1)}
    contents: dict[str, Any] = {
        "holds types.SimpleNamespace beside its tensors; such objects are refused": {
            "args": types.SimpleNamespace(lr=1.0),
            "state_dict": tensors,
        },
        "holds several models (model, teacher)": {"teacher": tensors, "model": tensors},
        "(found: only epoch)": {"epoch": 3},
    }
    for words, content in contents.items():
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(VidsslError) as error:
            read_tensors(tmp_path / "x.pt")
        assert words in one_line(error)
        assert "\x1b" not in str(error.value)
    torch.save({"args": argparse.Namespace(lr=1.0), "state_dict": tensors}, tmp_path / "x.pt")
    assert torch.equal(read_tensors(tmp_path / "x.pt")["weight"], tensors["weight"])  # a command line is data
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VidsslError, match=r"is damaged, or no file of tensors \(reading zip archive.*\)$"):
        read_tensors(tmp_path / "half.pt")
