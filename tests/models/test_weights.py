"""Weights that do not fit, or that are no weights at all."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import vidssl
from tests.models.tiny_weights import assert_carries, one_line, tensors_of
from tests.tiny_clip import tiny_config, write_tiny_clip
from vidssl.errors import VidsslError


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
    for name in ("evil.pt", "raw.pt", "script.pt", "torn.safetensors", "torn.pt", "list.pt"):
        with pytest.raises(VidsslError, match=name) as error:
            vidssl.create_model(tiny_name, str(tmp_path / name))
        one_line(error)
    assert not target.exists()
