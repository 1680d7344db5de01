from __future__ import annotations

import pytest

from tests.concepts.labels import LABELS, needs_labels
from vidssl.concepts.datasets import class_list_of, class_names, datasets
from vidssl.concepts.names import display_name, join_key, match_names, slug
from vidssl.errors import VidsslError

SIZES = {
    "k400": 400, "k600": 600, "k700": 700, "ucf101": 101, "hmdb51": 51, "ssv2": 174, "activitynet": 200, "diving48": 48,
    "mit": 339, "k600-zero-shot-1": 160, "k600-zero-shot-2": 160, "k600-zero-shot-3": 160,
}  # fmt: skip


def test_every_list_has_its_number_of_classes():
    assert set(datasets()) == set(SIZES)
    for dataset, size in SIZES.items():
        rows = class_list_of(dataset)
        assert len(rows) == size == len({join_key(row.name) for row in rows}) == len({row.id for row in rows})
        assert all(row.id == slug(row.name) and row.display == display_name(row.name) for row in rows)


def test_known_spellings():
    assert "HandstandPushups" in class_names("ucf101")
    assert class_names("ucf101")[34:36] == ("Hammering", "HammerThrow")  # official order, not the alphabet's
    assert class_names("hmdb51")[0] == "brush_hair"
    assert "Approaching something with your camera" in class_names("ssv2")


def test_zero_shot_splits_of_kinetics_600():
    splits = [set(map(join_key, class_names(f"k600-zero-shot-{number}"))) for number in (1, 2, 3)]
    assert len(set.union(*splits)) == 217
    assert set.union(*splits) <= set(map(join_key, class_names("k600")))
    assert not set.union(*splits) & set(map(join_key, class_names("k400")))


def test_unknown_names_are_refused():
    with pytest.raises(VidsslError, match="'k40': not shipped; did you mean 'k400'"):
        class_names("k40")


@needs_labels
def test_lists_are_those_of_the_public_projects():
    ours = class_names("k700")
    theirs = [line for line in (LABELS / "mmaction2/label_map_k700.txt").read_text().splitlines() if line]
    assert None not in match_names(theirs, ours) and len(theirs) == len(ours)
