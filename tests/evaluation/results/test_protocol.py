from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from vidssl.data.encode import write_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.report import data_record
from vidssl.evaluation.results.forms import RESULTS
from vidssl.evaluation.results.protocol import ABOUT, differences, protocol_of, sealed

TASKS = {"track": "track-vos"}


def full_result(kind: str) -> dict[str, Any]:
    """A result that has all that its protocol asks for, and some that it does not."""
    result: dict[str, Any] = {
        "task": TASKS.get(kind, kind),
        "checkpoint": "a",
        "environment": {"vidssl": "0"},
        "notes": [],
    }
    for name in ABOUT[kind]:
        *path, last = name.split(".")
        part = result
        for key in path:
            part = part.setdefault(key, {})
        part[last] = {"inner": [1, 2.5]} if last in ("sampling", "settings") else f"{name}"
    return result


@pytest.mark.parametrize("kind", ABOUT)
def test_the_hash_changes_with_all_that_a_number_depends_on_and_with_nothing_else(kind: str) -> None:
    result = full_result(kind)
    protocol = protocol_of(result)
    same = copy.deepcopy(result) | {
        "checkpoint": "b",
        "environment": {"vidssl": "1"},
        "scores": {"trained": {"top1": 1.0}},
    }
    for key in ("data", "val", "train"):
        if key in same:
            same[key] |= {"path": "/elsewhere", "failed": ["x"]}
    assert protocol_of(same) == protocol and differences(protocol, protocol_of(same)) == {}
    assert protocol_of(json.loads(json.dumps(result))) == protocol  # as it is read from a file again
    for name in ABOUT[kind]:
        other = copy.deepcopy(result)
        *path, last = name.split(".")
        part = other
        for key in path:
            part = part[key]
        was, part[last] = part[last], {"inner": [1, 3.5]} if isinstance(part[last], dict) else "changed"
        changed = protocol_of(other)
        assert changed["hash"] != protocol["hash"], name
        full, before, after = (
            (f"{name}.inner", [1, 2.5], [1, 3.5]) if isinstance(was, dict) else (name, was, "changed")
        )
        assert differences(protocol, changed) == {full: (before, after)}


def test_a_key_that_one_lacks_is_a_difference() -> None:
    few, full = {"task": "linear-probe", "shots": [1]}, {"task": "linear-probe"}
    assert differences(protocol_of(few), protocol_of(full)) == {"shots": ([1], None)}


def test_several_splits_are_one_protocol_of_all_of_theirs() -> None:
    splits = [sealed({"task": "knn", "k": [1], "val": {"content": text}}) for text in "abc"]
    whole = sealed({"task": "knn", "splits": splits})
    assert whole["protocol"]["split 2.val.content"] == "b" and whole["schema"] == "knn/1"
    other = sealed(
        {"task": "knn", "splits": [*splits[:2], sealed({"task": "knn", "k": [5], "val": {"content": "c"}})]}
    )
    assert differences(whole["protocol"], other["protocol"]) == {"split 3.k": ([1], [5])}


def test_every_kind_of_result_has_a_form_and_a_protocol() -> None:
    assert ABOUT.keys() == RESULTS.keys() - {"evaluate-all", "compare"}  # tables of results


def test_videos_of_the_same_names_and_other_content_are_other_data_and_a_copy_elsewhere_is_the_same(
    tmp_path,
) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    for folder, clip in (("first", frames), ("copy", frames), ("other", frames[::-1])):
        write_video(tmp_path / folder / "a" / "x.mp4", clip, fps=8)
        write_video(tmp_path / folder / "a" / "y.mp4", frames, fps=8)
    first, copied, other = (
        data_record(tmp_path / name, VideoIndex.read(tmp_path / name), [])
        for name in ("first", "copy", "other")
    )
    assert first["digest"] == other["digest"]  # of names and labels, which is not enough
    assert first["content"] == copied["content"] != other["content"]
    index = VideoIndex.read(tmp_path / "first")
    assert data_record("first", index.subset([1, 0]), [])["content"] == first["content"]  # whatever the order
