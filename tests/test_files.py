"""Whole or not at all, whatever happens in between."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from vidssl.errors import VidsslError
from vidssl.files import (
    newest_checkpoint,
    point_at_checkpoint,
    read_json,
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


def test_tensors_that_share_storage_are_written_apart(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    file = write_tensors(tmp_path / "w.safetensors", {"a": tied, "b": tied.T})
    read = read_tensors(file)
    assert torch.equal(read["a"], tied)
    assert torch.equal(read["b"], tied.T)


def test_json_is_an_object_or_an_error_that_names_the_file(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", {"b": [1, None, "ä"]})
    assert read_json(file) == {"b": [1, None, "ä"]}
    for text, said in (("{", "cannot be read as JSON"), ("[1]", "expected a JSON object, found list")):
        write_text(file, text)
        with pytest.raises(VidsslError, match=said):
            read_json(file)
    with pytest.raises(VidsslError, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_the_pointer_names_the_newest_checkpoint_or_says_what_is_wrong(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    folder = tmp_path / "checkpoints" / "step_00000002"
    folder.mkdir(parents=True)
    point_at_checkpoint(tmp_path, folder)
    assert read_json(tmp_path / "latest.json") == {"checkpoint": "checkpoints/step_00000002"}
    assert newest_checkpoint(tmp_path) == folder
    folder.rmdir()
    with pytest.raises(VidsslError, match="names 'checkpoints/step_00000002', which is not there"):
        newest_checkpoint(tmp_path)
    write_json(tmp_path / "latest.json", {"checkpoint": 3})
    with pytest.raises(VidsslError, match="names no checkpoint"):
        newest_checkpoint(tmp_path)
