from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.concepts.labels import LABELS, needs_labels
from vidssl.concepts.datasets import class_names
from vidssl.concepts.formats.read import read_concepts, read_with_format
from vidssl.concepts.names import display_name, join_key
from vidssl.concepts.templates import template_presets
from vidssl.errors import VidsslError


def put(folder: Path, name: str, content: object) -> Path:
    file = folder / name
    file.write_text(
        content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline=""
    )
    return file


SENTENCES = {
    "ApplyEyeMakeup": ["A brush moves along the lid.", "A mirror."],
    "YoYo": ["A disc on a string spins."],
}


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("cupl", SENTENCES),
        ("clip-benchmark", {"ucf101": SENTENCES}),
        ("csv", "SNo,Class Name,GPT3 discription\r\n1,ApplyEyeMakeup,\"A brush moves along the lid.\r\nA mirror.\""
                "\r\n2,YoYo,\"A disc on a string spins.\r\nIt then goes ba\"\r\n"),
        ("csv", "id,name,description\n0,ApplyEyeMakeup,A brush moves along the lid.\n0,ApplyEyeMakeup,A mirror.\n"
                "1,YoYo,A disc on a string spins.\n"),
    ],
)  # fmt: skip
def test_names_with_sentences(format, content, tmp_path):
    file, found = read_with_format(put(tmp_path, "file.any", content))
    assert found == format
    assert file.names == ("apply eye makeup", "yo yo")
    assert [concept.descriptions for concept in file.concepts] == [tuple(v) for v in SENTENCES.values()]
    assert file.provenance is not None and file.provenance.generator == "converted"
    assert file.templates.description == ("{description}",)


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("csv", "\ufeffid,name\r\n0,brush hair\r\n1,YoYo\r\n2,\"moving, slowly\"\r\n"),
        ("csv", "# a comment\nid\tname\tdisplay\nbrush-hair\tbrush_hair\tbrush hair\nyo-yo\tYoYo\tyo yo\n"
                "m\tmoving, slowly\tmoving, slowly\n"),
        ("names", "\ufeffbrush_hair\r\nYoYo\r\n\r\n\"moving, slowly\"\r\n"),
        ("names", "# label map\nbrush_hair\nYoYo\nmoving, slowly"),
        ("classind", "1 BrushHair\n2 YoYo\n3 moving, slowly\n"),
        ("classind", "0: brush_hair\n1: YoYo\n2: moving, slowly\n"),
        ("index-to-name", {"1": "YoYo", "0": "brush_hair", "2": "moving, slowly"}),
        ("index-to-name", {"YoYo": "1", "brush hair": "0", "moving, slowly": 2}),
        ("clip-benchmark", {"kinetics400": ["brush_hair", "YoYo", "moving, slowly"]}),
        ("classes-templates", {"classes": ["brush_hair", "YoYo", "moving, slowly"], "templates": ["see {}"]}),
        ("definitions", [{"label": "brush_hair"}, {"label": "YoYo"}, {"label": "moving, slowly"}]),
        ("clip-prompts", "# Prompts\n\n## Mine\n\n```bash\nclasses = [\n    ['brush hair', 'combing'],\n    'YoYo',\n"
                         "    \"moving, slowly\",\n]\n\ntemplates = [\n    'see {}.',\n]\n```\n"),
    ],
)  # fmt: skip
def test_names_alone(format, content, tmp_path):
    file, found = read_with_format(put(tmp_path, "file.any", content))
    assert found == format
    assert file.names == ("brush hair", "yo yo", "moving, slowly")
    assert file.ids == ("brush-hair", "yo-yo", "moving-slowly")
    assert not any(concept.descriptions for concept in file.concepts)
    if format == "clip-prompts":
        assert file.templates.category == ("see {}.",)
        assert file.concepts[0].aliases == ("combing",)


def test_indexed_files_need_a_class_list_that_fits(tmp_path):
    ost = put(tmp_path, "ost.json", {"1": ["b1", "b2"], "0": ["a1", "a2"]})
    names = put(tmp_path, "names.txt", "alpha\nbeta\n")
    file, format = read_with_format(ost, classes=names)
    assert format == "indexed"
    assert {concept.name: concept.descriptions for concept in file.concepts} == {
        "alpha": ("a1", "a2"),
        "beta": ("b1", "b2"),
    }
    assert read_concepts(ost, classes=["alpha", "beta"]) == file
    with pytest.raises(VidsslError, match="give the class list"):
        read_concepts(ost)
    with pytest.raises(VidsslError, match="2 rows, but the class list has 1 names"):
        read_concepts(ost, classes=["alpha"])


def test_indexed_files_with_titles_bring_their_names(tmp_path):
    froster = put(
        tmp_path, "f.json", {"0": "Abseiling: This video shows a rope.", "1": "YoYo: A disc spins."}
    )
    file, format = read_with_format(froster)
    assert format == "indexed" and file.names == ("abseiling", "yo yo")
    assert read_concepts(froster, classes=["abseiling", "yo_yo"]).names == file.names
    with pytest.raises(VidsslError, match="index 0 is about 'Abseiling', but the class list has 'yo yo'"):
        read_concepts(froster, classes=["yo yo", "abseiling"])


def test_phrases_are_put_after_the_name(tmp_path):
    menon = put(
        tmp_path, "m.json", {"hen": ["two legs", "red, brown, or white feathers"], "fox": ["a bushy tail"]}
    )
    assert read_concepts(menon).templates.description == ("{name}, which has {description}",)


def test_definitions_and_folders(tmp_path):
    file = put(tmp_path, "d.json", [{"word": "YoYo", "defn": "raw", "cleaned_defn": "A toy that spins."}])
    assert read_concepts(file).concepts[0].descriptions == ("A toy that spins.",)
    folder = tmp_path / "verbs"
    folder.mkdir()
    put(folder, "air_drumming.txt", "beating the air\nmoving sticks\n")
    file, format = read_with_format(folder)
    assert format == "folder" and file.concepts[0].descriptions == ("beating the air", "moving sticks")
    with pytest.raises(VidsslError, match="holds no <class>"):
        read_concepts(tmp_path / "verbs/..")


def test_sections_are_chosen_by_name(tmp_path):
    file = put(tmp_path, "b.json", {"k400": ["abseiling"], "UCF101": ["YoYo"]})
    assert read_concepts(file, section="ucf-101").names == ("yo yo",)
    with pytest.raises(VidsslError, match="holds 2 data sets, choose one: k400, UCF101"):
        read_concepts(file)
    with pytest.raises(VidsslError, match="no data set 'ucf11'"):
        read_concepts(file, section="ucf11")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        (
            "# Title\n\nSome prose here, with sentences.\n",
            "not recognised; tried vidssl, .*names .'# Title'|prose",
        ),
        ("path/to/video.mp4 0\npath/to/other.mp4 1\n", "no class name"),
        ('{"a": 3}', "gaps|not recognised"),
        ('{"k400": ["a photo of {c}."]}', "these are templates"),
        ('{"a": ["x"],', "no JSON .Expecting"),
        ("id,name\n0,a\n1,a\n", "row 3: 'a' is listed twice"),
        ("id,name\n0,a,b\n", "row 2 has 3 cells"),
        ("brush hair\nBrush_Hair\n", "same class"),
        (
            '{"format": "vidssl.concepts/2"}',
            "format 'vidssl.concepts/2'; this version reads 'vidssl.concepts/1'",
        ),
        ('{"0": ["a"], "2": ["b"]}', "indices have gaps"),
        ("## Mine\n```bash\nclasses = [open('x')]\n```\n", "no heading with"),
    ],
)
def test_bad_files_are_refused(content, message, tmp_path):
    with pytest.raises(VidsslError, match=message):
        read_concepts(put(tmp_path, "file", content))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(VidsslError, match=r"nowhere.txt: cannot be read: No such file"):
        read_concepts(tmp_path / "nowhere.txt")
    (tmp_path / "latin").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(VidsslError, match=r"no UTF-8 text .* at byte 3"):
        read_concepts(tmp_path / "latin")
    (tmp_path / "binary").write_bytes(b"a\0b")
    with pytest.raises(VidsslError, match="zero bytes"):
        read_concepts(tmp_path / "binary")
    with pytest.raises(VidsslError, match="format 'cvs': unknown; did you mean 'csv'"):
        read_concepts(tmp_path / "latin", format="cvs")


def test_a_format_can_be_insisted_on(tmp_path):
    file = put(tmp_path, "list", "1 a\n2 b\n")
    assert read_concepts(file).names == ("a", "b")
    assert read_concepts(file, format="label-map").names == ("1 a", "2 b")
    with pytest.raises(VidsslError, match="tried csv"):
        read_concepts(file, format="csv")


@needs_labels
@pytest.mark.parametrize(
    ("file", "dataset", "format"),
    [
        ("mmaction2/label_map_k400.txt", "k400", "names"),
        ("mmaction2/label_map_k600.txt", "k600", "names"),
        ("mmaction2/label_map_k700.txt", "k700", "names"),
        ("mmaction2/label_map_hmdb51.txt", "hmdb51", "names"),
        ("mmaction2/label_map_ucf101.txt", "ucf101", "names"),
        ("mmaction2/label_map_sthv2.txt", "ssv2", "names"),
        ("mmaction2/label_map_mit.txt", "mit", "names"),
        ("mmaction2/label_map_diving48.txt", "diving48", "names"),
        ("text4vis/anet1.3_labels.csv", "activitynet", "csv"),
        ("text4vis/hmdb51_labels.csv", "hmdb51", "csv"),
        ("text4vis/ucf_labels.csv", "ucf101", "csv"),
        ("text4vis/k600/k160_labels_split2.csv", "k600-zero-shot-2", "csv"),
        ("vifi_clip/labels/ssv2_labels.csv", "ssv2", "csv"),
        ("xclip/kinetics_600_labels.csv", "k600", "csv"),
        ("ucf101_official_format/classInd.txt", "ucf101", "classind"),
        ("openai_clip/kinetics700.json", "k700", "classes-templates"),
    ],
)
def test_files_of_public_projects(file, dataset, format):
    read, found = read_with_format(LABELS / file)
    assert found == format
    assert set(map(join_key, read.names)) == set(map(join_key, class_names(dataset)))


@needs_labels
def test_clips_prompts_and_benchmark_templates():
    file = LABELS / "openai_clip/prompts.md"
    k700 = read_concepts(file, section="kinetics700")
    assert set(map(join_key, k700.names)) == set(map(join_key, class_names("k700")))
    assert len(k700.templates.category) == 28
    ucf = read_concepts(file, section="UCF101")
    assert set(map(join_key, ucf.names)) == set(map(join_key, class_names("ucf101")))
    assert set(k700.templates.category) == set(template_presets()["clip_k700"])
    faces = read_concepts(file, section="FacialEmotionRecognition2013")
    assert len(faces) == 7 and any(concept.aliases for concept in faces.concepts)


@needs_labels
def test_split_lists_are_no_class_lists():
    for file in (
        "vifi_clip/splits/ucf_splits__val1.txt",
        "vifi_clip/splits/k400_splits__val.txt",
        "README.md",
    ):
        with pytest.raises(VidsslError, match="not recognised"):
            read_concepts(LABELS / file)


def test_display_names_are_what_prompts_use(tmp_path):
    file = read_concepts(put(tmp_path, "l.txt", "Handstand_Pushups\n"))
    assert file.names == (display_name("HandstandPushups"),)
