from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.concepts.examples import HashTower, example
from tests.distributed_runner import run_on_processes
from vidssl.concepts.build import build_space
from vidssl.concepts.space_files import cached_space, load_space, save_space
from vidssl.errors import VidsslError


def metadata_of(file: Path) -> dict[str, str]:
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size])["__metadata__"]


@pytest.mark.parametrize("whiten", ["none", "center", "zca"])
def test_what_is_written_is_read(whiten, tmp_path):
    space = build_space(example(), HashTower(), whiten=whiten, merge_threshold=0.99)
    file = save_space(space, tmp_path / "new" / "space.safetensors")
    read = load_space(file, HashTower())
    assert read.info == space.info and read.sha256 == space.sha256
    for name, buffer in space.named_buffers():
        assert torch.equal(getattr(read, name), buffer)
    assert [path.name for path in file.parent.iterdir()] == ["space.safetensors"]
    save_space(read, file)  # over itself
    assert load_space(file).sha256 == space.sha256


def test_another_text_encoder_is_refused(tmp_path):
    file = save_space(build_space(example(), HashTower(seed=1)), tmp_path / "s.safetensors")
    mine, other = HashTower(seed=1).fingerprint[:12], HashTower(seed=2).fingerprint[:12]
    with pytest.raises(
        VidsslError, match=f"s.safetensors 'example': built with text encoder {mine}, not with {other}"
    ):
        load_space(file, HashTower(seed=2))
    with pytest.raises(VidsslError, match=other):
        load_space(file, HashTower(seed=2).fingerprint)


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
    with pytest.raises(VidsslError, match="no such file"):
        load_space(tmp_path / "nothing.safetensors")
    with pytest.raises(VidsslError, match=r"is written as a .safetensors file"):
        save_space(build_space(example(), HashTower()), tmp_path / "space.pt")


def test_a_space_is_built_once(tmp_path):
    first = HashTower()
    space = cached_space(example(), first, folder=tmp_path)
    again = HashTower()
    assert cached_space(example(), again, folder=tmp_path).sha256 == space.sha256
    assert first.batches and not again.batches
    for options in ({"whiten": "center"}, {"merge_threshold": 0.9}, {"templates": "see {}"}):
        tower = HashTower()
        cached_space(example(), tower, folder=tmp_path, **options)
        assert tower.batches
    other = HashTower(seed=1)
    cached_space(example(), other, folder=tmp_path)
    assert other.batches and len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cache_is_built_anew(tmp_path):
    space = cached_space(example(), HashTower(), folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"nonsense")
    tower = HashTower()
    assert cached_space(example(), tower, folder=tmp_path).sha256 == space.sha256
    assert tower.batches and load_space(file).sha256 == space.sha256


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert len(cached_space(example(), HashTower(), folder=tmp_path / "file")) == 3


def test_the_users_cache_is_the_default():
    tower = HashTower(seed=77)
    cached_space(example(), tower)
    again = HashTower(seed=77)
    cached_space(example(), again)
    assert tower.batches and not again.batches


class LocalTower(HashTower):
    """Differs in the last bits from process to process, as other hardware does."""

    def feature(self, text: str) -> torch.Tensor:
        return (
            super().feature(text) * (1 + 1e-6 * torch.distributed.get_rank())
            + 1e-6 * torch.distributed.get_rank()
        )


class FailingTower(HashTower):
    """Cannot encode on one process."""

    def __init__(self, bad_rank: int) -> None:
        super().__init__()
        self.bad_rank = bad_rank

    def feature(self, text: str) -> torch.Tensor:
        return super().feature(text) * (0.0 if torch.distributed.get_rank() == self.bad_rank else 1.0)


def on_a_process(folder: str, own_disks: bool) -> tuple[str, float, int]:
    tower = LocalTower()
    place = Path(folder) / (str(torch.distributed.get_rank()) if own_disks else "shared")
    space = cached_space(example(), tower, folder=place)
    return space.sha256, float(space.category.sum()), len(tower.batches)


def fails_on_a_process(folder: str, bad_rank: int) -> str:
    try:
        cached_space(
            example(), FailingTower(bad_rank), folder=Path(folder) / str(torch.distributed.get_rank())
        )
    except VidsslError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("own_disks", [False, True])
def test_all_processes_end_with_the_same_numbers(own_disks, tmp_path):
    results = run_on_processes(on_a_process, 2, str(tmp_path), own_disks, time_limit=180)
    assert results[0][:2] == results[1][:2]
    assert [batches for *_, batches in results] == ([1, 1] if own_disks else [1, 0])


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_a_failure_is_raised_on_all_processes(bad_rank, tmp_path):
    for message in run_on_processes(fails_on_a_process, 2, str(tmp_path), bad_rank, time_limit=180):
        assert "not finite or zero" in message
