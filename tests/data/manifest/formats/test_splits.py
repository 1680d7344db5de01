from __future__ import annotations

import gzip
from collections import Counter

import pytest

from tests.concepts.labels import LABELS, needs_labels
from vidssl.concepts.datasets import class_names
from vidssl.data.manifest.formats.splits import assign_split, official_split
from vidssl.errors import VidsslError
from vidssl.resources import resource_folder


@pytest.mark.parametrize(("number", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_ucf101_splits(number, train, test):
    split = official_split("ucf101", number)
    assert Counter(split.values()) == {"train": train, "test": test}
    groups = {
        part: {name.rsplit("_", 1)[0] for name, p in split.items() if p == part} for part in ("train", "test")
    }
    assert not groups["train"] & groups["test"]  # no group of clips straddles the split
    assert {name.split("/")[0] for name in split} == set(class_names("ucf101"))
    assert split["HandstandPushups/v_HandStandPushups_g01_c01"] == ("test" if number == 1 else "train")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_hmdb51_splits(number):
    split = official_split("hmdb51", number)
    counts = Counter((name.split("/")[0], part) for name, part in split.items())
    assert counts == {
        (name, part): n for name in class_names("hmdb51") for part, n in (("train", 70), ("test", 30))
    }


def test_videos_are_assigned_by_name_whatever_the_folder_and_case():
    paths = [
        "/data/ucf/handstand_pushups/v_HandstandPushups_g01_c01.mp4",
        "HandstandPushups/v_HandStandPushups_g08_c02.avi",
        "v_YoYo_g01_c01",
        "YoYo/other.avi",
    ]
    assert assign_split(paths, "ucf101", 1) == ["test", "train", "test", None]
    members = [name for name in official_split("hmdb51", 2) if "/#" in name or name.count(".") > 0]
    assert members
    expected = [official_split("hmdb51", 2)[name] for name in members]
    assert assign_split(members, "hmdb51", 2) == expected
    assert assign_split([name + ".avi" for name in members], "hmdb51", 2) == expected


def test_unknown_names_are_refused():
    with pytest.raises(VidsslError, match="'ucf11': not shipped; did you mean 'ucf101'"):
        official_split("ucf11", 1)
    with pytest.raises(VidsslError, match="there are 1, 2 and 3"):
        official_split("ucf101", 0)


@needs_labels
def test_lists_are_those_of_the_public_projects():
    official = (LABELS / "ucf101_official_format/testlist02.txt").read_text().split()
    split = official_split("ucf101", 2)
    assert {name for name, part in split.items() if part == "test"} == {
        name.removesuffix(".avi") for name in official
    }
    split = official_split("hmdb51", 3)
    for name in class_names("hmdb51"):
        for line in (LABELS / f"hmdb51_official_format/{name}_test_split3.txt").read_text().splitlines():
            if line.strip():
                video, flag = line.strip().rsplit(None, 1)
                expected = {"0": None, "1": "train", "2": "test"}[flag]
                assert split.get(f"{name}/{video.removesuffix('.avi')}") == expected


def test_split_files_carry_no_date():
    """The same facts give the same bytes."""
    data = (resource_folder("prompts") / "splits/ucf101.txt.gz").read_bytes()
    assert data[4:8] == b"\0\0\0\0"
    assert gzip.decompress(data).startswith(b"#")
