from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.evaluation.classes import (
    class_list,
    find_classes,
    join_labels,
    name_key,
    read_classes,
    readable_name,
    resolve_templates,
    template_presets,
)

LABELS = Path(__file__).parents[2] / "../shared/data/labels"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("apply_eye_makeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("playing TVGame", "playing tv game"),
        ("push up", "push up"),
    ],
)
def test_readable_names(name, text):
    assert readable_name(name) == text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abcXYZ_ -", min_size=1), min_size=1, max_size=6))
def test_names_join_whatever_their_spelling(words):
    name = "".join(words)
    assert (
        name_key(name)
        == name_key(name.upper())
        == name_key(name.replace("_", " "))
        == name_key(readable_name(name))
    )


def test_labels_join_by_name_not_by_order():
    classes = class_list(["HandstandPushups", "biking"], "list")
    assert join_labels(["Biking", "handstand_pushups", "biking"], classes, "data").tolist() == [1, 0, 1]


def test_differences_are_named():
    classes = class_list(["biking", "running"], "my list")
    with pytest.raises(VidsslError, match="1 classes are not in my list: bikng; did you mean 'biking'"):
        join_labels(["bikng", "running"], classes, "data")
    with pytest.raises(VidsslError, match="1 of 2 videos have no label"):
        join_labels([None, "running"], classes, "data")
    with pytest.raises(VidsslError, match="same class"):
        class_list(["Push_Up", "push up"], "list")


def test_class_files(tmp_path):
    file = tmp_path / "classes.csv"
    file.write_text(
        "\ufeffid,name,text\r\n0,hand_shaking,two people shaking hands\r\n1,YoYo,\r\n", encoding="utf-8"
    )
    classes = read_classes(file)
    assert classes.names == ("hand_shaking", "YoYo")
    assert classes.texts == ("two people shaking hands", "yo yo")
    assert classes.default_templates == "caption"
    plain = tmp_path / "plain.txt"
    plain.write_text("one\ntwo words\n")
    assert read_classes(plain).names == ("one", "two words")
    assert read_classes(plain).default_templates == "clip_k700"
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    with pytest.raises(VidsslError, match="no `name`"):
        read_classes(bad)


def test_class_list_beside_the_data_is_found_only_when_it_covers_it(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "classes.csv").write_text("id,name,text\n0,jump,a person jumping\n")
    assert find_classes(tmp_path / "val", ["Jump"], None).texts == ("a person jumping",)
    assert find_classes(tmp_path / "val", ["Jump", "run"], None).names == ("Jump", "run")


def test_templates(tmp_path):
    classes = class_list(["run"], "list")
    assert len(template_presets()["clip_k700"]) == 28 == len(set(template_presets()["clip_k700"]))
    assert resolve_templates(None, classes) == template_presets()["clip_k700"]
    assert resolve_templates("look, {}!", classes) == ("look, {}!",)
    file = tmp_path / "t.txt"
    file.write_text("a {}\nb {}\n")
    assert resolve_templates(str(file), classes) == ("a {}", "b {}")
    with pytest.raises(VidsslError, match="did you mean 'action'"):
        resolve_templates("acton", classes)
    with pytest.raises(VidsslError, match="once"):
        resolve_templates("{} and {}", classes)


@pytest.mark.skipif(
    not LABELS.is_dir(), reason="the label files of the public data sets are not beside the checkout"
)
def test_the_28_templates_are_clips_own():
    import json

    published = json.loads((LABELS / "openai_clip/kinetics700.json").read_text())["templates"]
    assert sorted(published) == sorted(template_presets()["clip_k700"])
