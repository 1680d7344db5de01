"""Whole or not at all, whatever happens in between."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from vidssl import files
from vidssl.errors import VidsslError
from vidssl.files import (
    clear_left_overs,
    damage,
    newest_checkpoint,
    point_at_checkpoint,
    read_json,
    require_whole,
    seal,
    whole_file,
    whole_folder,
    write_json,
    write_tensors,
    write_text,
)
from vidssl.models.weights import read_tensors


def test_a_file_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "list.csv"
    write_text(file, "first")
    with whole_file(file) as partial:
        partial.write_text("second")
        assert file.read_text() == "first"
    assert file.read_text() == "second"
    assert [path.name for path in file.parent.iterdir()] == ["list.csv"]


def test_a_failure_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    file = write_text(tmp_path / "a.txt", "good")
    with suppress(RuntimeError), whole_file(file) as partial:
        partial.write_text("ha")
        raise RuntimeError
    assert file.read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_whole_replaces_the_one_before_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "step"
    for text in ("first", "second"):
        with whole_folder(folder) as partial:
            write_text(partial / "inner" / "file", text)
            write_text(partial / text, "")
        assert (folder / "inner" / "file").read_text() == text
    assert sorted(path.name for path in folder.iterdir()) == ["inner", "second"]
    with suppress(RuntimeError), whole_folder(folder) as partial:
        write_text(partial / "third", "")
        raise RuntimeError
    assert sorted(path.name for path in folder.iterdir()) == ["inner", "second"]
    assert [path.name for path in folder.parent.iterdir()] == ["step"]


def test_a_folder_whose_replacement_never_came_is_not_lost(tmp_path: Path, monkeypatch) -> None:
    write_text(tmp_path / ".step.old" / "file", "good")  # its writer was killed between the two renames
    with suppress(RuntimeError), whole_folder(tmp_path / "step"):
        raise RuntimeError
    assert (tmp_path / "step" / "file").read_text() == "good"
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    refused = pytest.raises(VidsslError, match="step: cannot be written: Input/output error")
    with refused, whole_folder(tmp_path / "step"):
        pass
    assert (tmp_path / "step" / "file").read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_tensors_that_share_storage_are_written_apart(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    wanted = {"a": tied, "b": tied.T, "c": tied[1:], "d": tied, "e": tied[:0], "f": tied[:, 1]}
    read = read_tensors(write_tensors(tmp_path / "w.safetensors", wanted))
    assert read.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(read[name], tensor), name


def test_json_is_an_object_or_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", {"b": [1, None, "ä"]})
    assert read_json(file) == {"b": [1, None, "ä"]}
    for text, said in (("{", "cannot be read as JSON"), ("[1]", "expected a JSON object, found list")):
        write_text(file, text)
        with pytest.raises(VidsslError, match=said):
            read_json(file)
    with pytest.raises(VidsslError, match="no such file"):
        read_json(tmp_path / "absent.json")


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        written = [
            write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(2)}),
            write_json(tmp_path / "a.json", {}),
        ]
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in written} == {oct(0o666 & ~umask)}


def test_what_the_system_refuses_is_one_line_and_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    file = write_text(tmp_path / "run" / "a.txt", "good")
    write_text(tmp_path / "run" / "folder" / "a.txt", "good")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(VidsslError, match=r"a\.txt: cannot be written: No space left on device"):
        write_text(file, "new")
    with (
        pytest.raises(VidsslError, match="folder: cannot be written: No space"),
        whole_folder(tmp_path / "run" / "folder"),
    ):
        pass
    assert file.read_text() == (tmp_path / "run" / "folder" / "a.txt").read_text() == "good"
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.txt", "folder"]
    with pytest.raises(VidsslError, match=r"w\.safetensors: cannot be written: "):
        write_tensors(file / "w.safetensors", {"a": torch.zeros(2)})


def test_what_killed_writers_left_is_cleared(tmp_path: Path) -> None:
    for name in (".step_6.partial", ".step_6.old", ".step_3.old", "step_6"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".log.12.partial").touch()
    (tmp_path / ".hidden").touch()
    clear_left_overs(tmp_path)
    # The one that was to be replaced by one that never came is back.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "step_3", "step_6"]


def write_checkpoint(run: Path, step: int) -> Path:
    folder = run / "checkpoints" / f"step_{step:08d}"
    for name in ("encoder/model.bin", "state.json"):
        write_text(folder / name, f"content at {step}")
    seal(folder)
    return folder


def test_damage_is_recognised_and_the_one_before_named(tmp_path: Path) -> None:
    before, newest = (write_checkpoint(tmp_path, step) for step in (3, 12))
    file = newest / "encoder" / "model.bin"
    assert damage(newest) is None
    for content, said in (
        (b"content at 1", "has 12 bytes instead of 13"),
        (b"content at 13", "the content of encoder/model.bin is not what was written"),
    ):
        file.write_bytes(content)
        with pytest.raises(
            VidsslError, match=rf"step_00000012: the checkpoint is damaged: .*{said}.*whole: {before}"
        ):
            require_whole(newest)
        assert damage(newest, below="state") is None
    file.unlink()
    assert damage(newest) == "encoder/model.bin is missing"
    for text in ("", "{", "[]", '{"state.json": 3}'):
        (newest / "checksums.json").write_text(text)
        assert "checksums.json" in (damage(newest) or "")
    (newest / "checksums.json").unlink()
    assert damage(newest) == "checksums.json: no such file"


def test_the_newest_checkpoint_does_not_need_its_pointer(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    folders = [write_checkpoint(tmp_path, step) for step in (9, 10)]
    assert newest_checkpoint(tmp_path) == folders[1]
    point_at_checkpoint(tmp_path, folders[1])
    assert read_json(tmp_path / "latest.json") == {
        "checkpoint": "checkpoints/step_00000010",
        "stopped": False,
    }
    assert newest_checkpoint(tmp_path) == folders[1]
    (tmp_path / "checkpoints").rename(tmp_path / "away")
    with pytest.raises(
        VidsslError, match=r"latest\.json names a checkpoint, but checkpoints/ holds none any more"
    ):
        newest_checkpoint(tmp_path)
