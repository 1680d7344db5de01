from __future__ import annotations

import hashlib
import json
import re

import pytest

from tests.concepts.examples import example
from vidssl.concepts.datasets import class_list_of, class_names
from vidssl.concepts.formats.write import write_as
from vidssl.concepts.names import join_key, match_names
from vidssl.concepts.prompts import Concept, dump_concepts
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.vocabulary import PRESETS, SHIPPED, load_concepts, merge_by_name, shipped_file
from vidssl.errors import VidsslError
from vidssl.models.towers.text import clip_num_tokens
from vidssl.resources import resource_folder
from vidssl.synthetic.motions import MOTION_CLASSES


@pytest.mark.parametrize(("name", "size"), list(zip(SHIPPED, (530, 324, 174), strict=True)))
def test_shipped_files_obey_every_rule(name, size):
    file = shipped_file(name)
    assert len(file) == size
    assert check_concepts(file, clip_num_tokens) == []
    for concept in file.concepts:
        assert len(concept.descriptions) in (4, 5) and concept.attributes is not None
        assert all(8 <= len(text.split()) <= 20 for text in concept.descriptions), concept.id
    text = (resource_folder("prompts") / f"{name}.json").read_text(encoding="utf-8")
    assert dump_concepts(file) == text  # written by this package


def test_the_shipped_files_are_one_vocabulary():
    """Joined, they have no sentence, name or phrase too many either; and they say who wrote them."""
    files = [shipped_file(name) for name in SHIPPED]
    everything = files[0].model_copy(update={"concepts": tuple(c for file in files for c in file.concepts)})
    assert len(everything) == 1028
    assert check_concepts(everything) == []
    instruction = (resource_folder("prompts") / "instructions/describe-v3.txt").read_bytes()
    for file in files:
        assert file.license == "Apache-2.0" and file.provenance is not None
        assert file.provenance.prompt_sha256 == hashlib.sha256(instruction).hexdigest()
        assert not file.provenance.reviewed_by_hand


@pytest.mark.parametrize("dataset", PRESETS)
def test_presets_are_the_classes_of_the_data_sets(dataset):
    file = load_concepts(dataset)
    assert set(map(join_key, file.names)) == set(map(join_key, class_names(dataset)))
    assert len(file) == len(class_names(dataset)) and file.name == dataset
    assert {row.id for row in class_list_of(dataset)} == set(file.ids)


def test_unions_hold_each_name_once():
    file = load_concepts("k400+ucf101+hmdb51")
    assert len(file) == 530 and file.name == "k400+ucf101+hmdb51"
    assert set(file.ids) == set(shipped_file("k400-ucf101-hmdb51").ids)
    assert file.ids[:400] == load_concepts("k400").ids
    assert file == load_concepts(["k400", "ucf101", "hmdb51"])
    assert next(c.sources for c in file.concepts if c.id == "archery") == ("k400", "ucf101", "k600", "k700")
    assert len(load_concepts("k400+k600+k700")) == 724


def test_zero_shot_splits_have_words_and_others_names():
    split = load_concepts("k600-zero-shot-1")
    assert len(split) == 160 and all(concept.descriptions for concept in split.concepts)
    assert not set(split.ids) & set(load_concepts("k400").ids)
    assert not any(concept.descriptions for concept in load_concepts("activitynet").concepts)


def test_files_of_ones_own(tmp_path):
    (path,) = write_as(example(), tmp_path / "a+b.json", "vidssl")
    assert load_concepts(path) == load_concepts(str(path))
    assert load_concepts(path).concepts == example().concepts
    joined = load_concepts(["hmdb51", path])
    assert len(joined) == 54 and joined.provenance is None  # two authors
    assert (
        load_concepts([path, "ucf101"]).concepts[2].descriptions == example().concepts[2].descriptions
    )  # archery


def test_differing_templates_need_a_choice(tmp_path):
    with pytest.raises(VidsslError, match=r"their templates differ .*choose with templates="):
        load_concepts("k400+ssv2")
    file = load_concepts("k400+ssv2", templates="a video of {name}.")
    assert len(file) == 574 and file.templates.category == ("a video of {name}.",)
    assert len(load_concepts("k400", templates="clip_k700").templates.category) == 28


def test_names_that_are_nothing_are_refused(tmp_path):
    with pytest.raises(VidsslError, match="concepts 'k40': no such file or data set; did you mean 'k400'"):
        load_concepts("k40")
    with pytest.raises(VidsslError, match="'ucf-101': no such file"):
        load_concepts("k400+ucf-101")
    with pytest.raises(VidsslError, match="none given"):
        load_concepts([])
    with pytest.raises(VidsslError, match="shipped concepts 'k400': not there"):
        shipped_file("k400")


def test_merging_keeps_what_either_has():
    one = Concept(id="push-up", name="push up", aliases=("press-up", "jump"), sources=("a",))
    two = Concept(id="other", name="Push_Up", sources=("b",), descriptions=("x",))
    jump = Concept(id="jump", name="jump")
    merged = merge_by_name([one, two, jump])
    assert merged[0] == one.model_copy(
        update={"aliases": ("press-up",), "sources": ("a", "b"), "descriptions": ("x",)}
    )
    assert merged[1] == jump
    with pytest.raises(VidsslError, match="'jump' and 'hop' have the same id 'jump'"):
        merge_by_name([jump, Concept(id="jump", name="hop")])


def test_shipped_files_are_json_without_surprises():
    for name in SHIPPED:
        data = json.loads((resource_folder("prompts") / f"{name}.json").read_text(encoding="utf-8"))
        assert data["format"] == "vidssl.concepts/1"
        assert not any("{" in text for concept in data["concepts"] for text in concept["descriptions"])


def test_the_words_of_the_demo_are_found_by_name_wherever_the_package_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Opposite motions have the same phases, in the other order.
    for name, concepts, known in (("sprites", 56, set()), ("motions", 8, {"description-repeated"})):
        file = load_concepts(name)
        assert len(file) == concepts
        assert {problem.rule for problem in check_concepts(file) if problem.severity == "error"} == known


def test_motions_have_the_names_of_the_rendered_classes_and_phases_that_show_no_motion():
    concepts = load_concepts("motions").concepts
    assert [concept.name for concept in concepts] == [motion.text for motion in MOTION_CLASSES.values()]
    # Known by the names of their folders, so that a zero-shot result says that training knew them.
    assert match_names(list(MOTION_CLASSES), [c.aliases[0] for c in concepts]) == list(range(8))
    for concept in concepts:
        assert len(concept.descriptions) == 2
        assert not re.search(r"mov|spin|grow|becom|turn|then", " ".join(concept.descriptions))
