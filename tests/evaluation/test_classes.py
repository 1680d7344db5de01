from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.concepts.datasets import class_names
from vidssl.concepts.names import display_name
from vidssl.concepts.templates import template_presets
from vidssl.concepts.vocabulary import PRESETS
from vidssl.errors import VidsslError
from vidssl.evaluation.classes import (
    class_list,
    concept_classes,
    find_classes,
    join_labels,
    read_classes,
    resolve_templates,
    templates_record,
)

LABELS = Path(__file__).parents[2] / "../shared/data/labels"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abcXYZ", min_size=1), min_size=1, max_size=5))
def test_names_join_whatever_their_spelling(words):
    name = " ".join(words)
    classes = class_list([name, f"not {name} but another"], "list")
    for spelling in (name.upper(), "_".join(words), "-".join(words), display_name(name), "".join(words)):
        assert join_labels([spelling], classes, "data").ids.tolist() == [0]


def test_labels_join_by_name_not_by_order():
    classes = class_list(["HandstandPushups", "biking"], "list")
    assert join_labels(["Biking", "handstand_pushups", "biking"], classes, "data").ids.tolist() == [1, 0, 1]


def test_classes_that_differ_by_a_blank_only_stay_apart():
    """Kinetics-400 has "push up", HMDB51 "pushup": in one list they are two, alone each is found by either spelling."""
    both = class_list(["push up", "pushup"], "list")
    assert join_labels(["Pushup", "Push_Up"], both, "data").ids.tolist() == [1, 0]
    assert join_labels(["pushup"], class_list(["push up", "run"], "list"), "data").ids.tolist() == [0]


@pytest.mark.parametrize("dataset", PRESETS)
def test_a_vocabulary_is_a_class_list_for_the_data_set_it_is_named_after(dataset):
    """Every class in the data set's own spelling finds a concept of its own, with descriptions."""
    classes = concept_classes(dataset)
    found = join_labels(class_names(dataset), classes, dataset).ids
    assert sorted(found.tolist()) == list(range(len(classes.names)))
    assert len(classes.descriptions) == len(classes.names) and all(classes.descriptions)
    assert classes.texts == classes.names
    assert classes.default_templates == "clip_k700"


def test_a_vocabulary_or_a_concept_file_can_be_named_as_classes(tmp_path):
    assert len(find_classes(tmp_path, ["YoYo"], "ucf101+hmdb51").names) == 150  # two are in both
    file = tmp_path / "mine.json"
    file.write_text('{"run": ["Legs move fast."], "jump": ["Both feet leave the ground."]}')
    mine = find_classes(tmp_path, ["run"], str(file))
    assert mine.descriptions == (("Legs move fast.",), ("Both feet leave the ground.",))
    assert mine.fingerprint != class_list(mine.names, "list").fingerprint
    with pytest.raises(VidsslError, match="did you mean 'ucf101'"):
        find_classes(tmp_path, ["run"], "ufc101")


def test_differences_are_named_and_counted():
    classes = class_list(["biking", "running", "rowing"], "my list")
    found = join_labels(["flying", "running", "bikng", "flying"], classes, "data")
    assert found.ids.tolist() == [4, 1, 3, 4]  # 3 and 4 are classes of their own that no answer gives
    assert found.record() == {"unknown": {"bikng": 1, "flying": 2}, "unused": ["biking", "rowing"]}


def test_labels_of_which_none_is_a_class_are_an_error():
    classes = class_list(["biking", "running"], "my list")
    with pytest.raises(
        VidsslError, match=r"none of its classes \(bikng\) are in my list; did you mean 'biking'"
    ):
        join_labels(["bikng", "bikng"], classes, "data")
    with pytest.raises(VidsslError, match="bare numbers are no names"):
        join_labels(["0", "1"], classes, "data")
    with pytest.raises(VidsslError, match="1 of 2 videos has no label"):
        join_labels([None, "running"], classes, "data")
    with pytest.raises(VidsslError, match="same class"):
        class_list(["Push_Up", "push up"], "list")
    with pytest.raises(
        VidsslError, match=r"'caf\\xe9' and 'cafe\\u0301' are the same class"
    ):  # which look alike
        class_list(["caf\xe9", "cafe\u0301"], "list")


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n"),
        ("list.txt", "id\tname\tdisplay\na\tApplyEyeMakeup\tx\nb\tYoYo\ty\n"),
        ("ids.csv", "0,ApplyEyeMakeup\n1,YoYo\n"),
        (
            "rows.csv",
            "id,name,description\n0,ApplyEyeMakeup,A brush.\n0,ApplyEyeMakeup,A lid.\n1,YoYo,A disc.\n",
        ),
        ("ez.csv", "SNo,Class Name,GPT3 discription\n1,ApplyEyeMakeup,A brush.\n2,YoYo,A disc.\n"),
        ("json.txt", '{"classes": ["ApplyEyeMakeup", "YoYo"], "templates": ["see {}"]}'),
        (
            "clip.txt",
            "## M\n\n```bash\nclasses = [['ApplyEyeMakeup', 'lipstick'], 'YoYo']\ntemplates = ['see {}']\n```\n",
        ),
    ],
)
def test_what_concepts_read_is_a_class_list(name, text, tmp_path):
    file = tmp_path / name
    file.write_text(text)
    classes = find_classes(tmp_path, ["YoYo"], str(file))
    assert classes == read_classes(file)
    assert join_labels(["yo_yo", "ApplyEyeMakeup"], classes, "data").ids.tolist() == [1, 0]
    assert classes.texts == ("apply eye makeup", "yo yo")
    assert resolve_templates(None, classes) == template_presets()["clip_k700"]
    assert bool(classes.descriptions) == ("discription" in text or "description" in text)
    if name == "clip.txt":
        assert join_labels(["Lipstick"], classes, "data").ids.tolist() == [0]
    if "templates" in text:
        assert resolve_templates("own", classes) == ("see {}",)
    if name == "classInd.txt":
        with pytest.raises(VidsslError, match=r"templates 'own': .* brings none"):
            resolve_templates("own", classes)


def test_class_list_beside_the_data_is_found_only_when_it_covers_it(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "classes.csv").write_text("id,name,text\n0,jump,a person jumping\n")
    assert find_classes(tmp_path / "val", ["Jump"], None).texts == ("a person jumping",)
    assert find_classes(tmp_path / "val", ["Jump", "run"], None).names == ("Jump", "run")


def test_bare_numbers_are_no_class_names(tmp_path):
    with pytest.raises(VidsslError, match=r"bare numbers \(0, 10\) name no class.*--classes"):
        find_classes(tmp_path, ["0", "10", "run"], None)
    (tmp_path / "classes.csv").write_text("id,name,text\n0,0,a zero\n1,10,a ten\n")
    assert find_classes(tmp_path, ["0", "10"], None).texts == ("a zero", "a ten")


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
    with pytest.raises(VidsslError, match="category template"):
        resolve_templates("{description}", classes)
    with pytest.raises(VidsslError, match="placeholder"):
        resolve_templates("{classe}", classes)


@pytest.mark.skipif(
    not LABELS.is_dir(), reason="the label files of the public data sets are not beside the checkout"
)
def test_the_28_templates_are_clips_own():
    import json

    published = json.loads((LABELS / "openai_clip/kinetics700.json").read_text())["templates"]
    assert sorted(published) == sorted(template_presets()["clip_k700"])


@pytest.mark.skipif(
    not LABELS.is_dir(), reason="the label files of the public data sets are not beside the checkout"
)
def test_the_templates_of_ucf101_are_clips_and_those_of_pe():
    import json

    shipped = set(template_presets()["clip_ucf101"])
    assert shipped == set(json.loads((LABELS / "openai_clip/ucf101.json").read_text())["templates"])
    theirs = json.loads((LABELS / "pe/video_templates.json").read_text())
    for name in ("ucf101_val", "hmdb_test"):
        assert {template.replace("{c}", "{}") for template in theirs[name]} == shipped
    assert {template.replace("{c}", "{}") for template in theirs["k400_val"]} == set(
        template_presets()["clip_k700"]
    )


def test_a_result_names_the_preset_and_its_source():
    record = templates_record(template_presets()["clip_ucf101"])
    assert record["preset"] == "clip_ucf101" and "arXiv 2103.00020" in record["source"]
    assert len(record["list"]) == 48
    assert templates_record(("{}",))["preset"] == "name"  # however it was given
    own = templates_record(("look: {}",))
    assert own["preset"] is None and own["source"] is None
