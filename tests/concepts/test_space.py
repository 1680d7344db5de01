from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.concepts.examples import HashTower, example
from vidssl.concepts.build import build_space
from vidssl.concepts.space import TENSORS, load_space, save_space
from vidssl.errors import VidsslError


def metadata_of(file: Path) -> dict[str, str]:
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size])["__metadata__"]


@pytest.mark.parametrize("whiten", ["none", "center", "zca"])
def test_what_is_written_is_read(whiten, tmp_path):
    space = build_space(example(), HashTower(), whiten=whiten, merge_threshold=0.99)
    file = save_space(space, tmp_path / "new" / "space.safetensors")
    read = load_space(file)
    assert read.info == space.info and read.sha256 == space.sha256
    for name in TENSORS:
        assert torch.equal(getattr(read, name), getattr(space, name))
    assert [path.name for path in file.parent.iterdir()] == ["space.safetensors"]
    save_space(read, file)  # over itself
    assert load_space(file).sha256 == space.sha256


def test_damage_is_seen(tmp_path):
    file = save_space(build_space(example(), HashTower()), tmp_path / "s.safetensors")
    metadata, tensors = metadata_of(file), load_file(file)

    def write(tensors: dict[str, Any], metadata: dict[str, str]) -> Path:
        save_file(tensors, tmp_path / "bad.safetensors", metadata)
        return tmp_path / "bad.safetensors"

    assert load_space(write(tensors, metadata)).sha256 == metadata["sha256"]  # the control
    changed = {**tensors, "category": tensors["category"].flip(0)}
    with pytest.raises(VidsslError, match="does not have the sha256 it states"):
        load_space(write(changed, metadata))
    words = {**metadata, "info": metadata["info"].replace("juggling", "jugglink")}
    with pytest.raises(VidsslError, match="does not have the sha256"):
        load_space(write(tensors, words))
    with pytest.raises(VidsslError, match="cannot be read as a concept space"):
        load_space(write({**tensors, "counts": tensors["counts"][:2]}, metadata))
    with pytest.raises(VidsslError, match="cannot be read as a concept space"):
        load_space(write({"category": tensors["category"]}, metadata))
    with pytest.raises(VidsslError, match="no concept space: format None"):
        load_space(write(tensors, {}))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(VidsslError, match="cannot be read as a concept space"):
        load_space(file)
    with pytest.raises(VidsslError, match=r"nothing.safetensors: cannot be read .*No such file"):
        load_space(tmp_path / "nothing.safetensors")
