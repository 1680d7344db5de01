"""Shared words: closed examples of the rules, the shipped files, and an independent count."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.concepts.examples import HashTower, example
from vidssl.concepts.attributes import KINDS, head_word, shared_words, singular
from vidssl.concepts.build import build_space, cached_space, space_key
from vidssl.concepts.prompts import Attributes, AttributeTemplates, Concept, ConceptFile, dump_concepts
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.space import load_space, save_space
from vidssl.concepts.vocabulary import load_concepts
from vidssl.errors import VidsslError


def concepts(*phrases: tuple[str, ...], kind: str = "objects") -> list[Concept]:
    return [
        Concept(id=f"c{row}", name=f"c {row}", attributes=Attributes(**{kind: own}))
        for row, own in enumerate(phrases)
    ]


def attributed() -> ConceptFile:
    """Three actions with two shared objects and two shared motions."""
    own = (
        Attributes(objects=("red ball", "club"), motion=("throwing up", "catching")),
        Attributes(objects=("goggles", "clubs"), motion=("pulling", "throwing")),
        Attributes(objects=("a ball",), motion=("pulling a string",)),
    )
    file = example()
    rows = tuple(
        concept.model_copy(update={"attributes": one})
        for concept, one in zip(file.concepts, own, strict=True)
    )
    return file.model_copy(update={"concepts": rows})


def test_spellings_are_one_word_and_phrases_share_their_head():
    found = shared_words(
        concepts(
            ("matches", "small knife"), ("a match", "Knives"), ("small knife", "tin of paint"), ("tins",)
        ),
        "objects",
    )
    # "small knife" is an attribute beside "knife", which a third concept has; "tin of paint" is a tin.
    assert found.words == ("knife", "match", "small knife", "tin") and found.counts == (3, 2, 2, 2)
    assert found.columns == ((0, 1, 2), (0, 1), (0, 2, 3), (3,))
    assert found.dropped == 1  # "tin of paint" as a whole


def test_a_motion_is_what_is_done():
    own = (("descending backward in hops",), ("descends",), ("slow thick strokes",), ("stroking",))
    found = shared_words(concepts(*own, kind="motion"), "motion")
    assert found.counts == (2, 2) and found.columns == ((0,), (0,), (1,), (1,))
    assert found.words[0] in ("descending", "descends")
    assert shared_words(concepts(*own), "objects").words == ()  # the control: as nouns they share nothing


def test_a_phrase_of_the_same_concepts_stands_for_its_head():
    found = shared_words(concepts(("music stand", "desk"), ("music stands", "lamp"), ("desk",)), "objects")
    assert found.words == ("desk", "music stand") and found.dropped == 1


def test_what_all_concepts_have_tells_none_apart():
    assert shared_words(concepts(("hand", "rope"), ("hands", "rope"), ("hand",)), "objects").words == (
        "rope",
    )
    assert shared_words(concepts(("hand",), ("hand",), ()), "objects").words == ("hand",)


@pytest.mark.parametrize(
    ("phrase", "kind", "head"),
    [
        ("leather ball", "objects", "ball"),
        ("crowd in the street", "scene", "crowd"),
        ("inside a car", "scene", "car"),
        ("in", "scene", "in"),
        ("the", "scene", None),
        ("", "motion", None),
        ("side to side swinging", "phases", "swinging"),
        ("string pulled", "motion", "string"),  # the price of a rule without a dictionary
        ("release of the arm", "phases", "release"),
    ],
)
def test_heads(phrase, kind, head):
    assert head_word(phrase, kind) == head


@pytest.mark.parametrize(
    ("word", "one"),
    [
        ("cups", "cup"), ("boxes", "box"), ("dishes", "dish"), ("glasses", "glasses"), ("glass", "glass"), ("cacti", "cacti"),
        ("berries", "berry"), ("tie", "tie"), ("bus", "bus"), ("horses", "horse"), ("feet", "foot"), ("tennis", "tennis"),
        ("houses", "house"), ("sizes", "size"), ("scissors", "scissors"),
    ],
)  # fmt: skip
def test_singular(word, one):
    assert singular(word) == one


WORDS = st.sampled_from(["rope", "ropes", "long rope", "ball", "red ball", "of", "hands", "walking", "walks"])


@given(
    rows=st.lists(st.lists(WORDS, max_size=4), min_size=1, max_size=6),
    kind=st.sampled_from(KINDS),
    least=st.integers(1, 3),
)
def test_vocabulary_and_columns_agree(rows, kind, least):
    found = shared_words(concepts(*map(tuple, rows), kind=kind), kind, least)
    held = Counter(column for own in found.columns for column in own)
    assert [held[column] for column in range(len(found.words))] == list(found.counts)
    assert all(least <= count < len(rows) for count in found.counts)
    assert list(found.counts) == sorted(found.counts, reverse=True)
    assert len(set(found.words)) == len(found.words) and len(found.columns) == len(rows)
    # The same words in another order of phrases are the same vocabulary.
    turned = shared_words(concepts(*(tuple(reversed(own)) for own in rows), kind=kind), kind, least)
    assert turned == found


def test_shipped_attributes_are_shared_by_nearly_all_actions():
    file = load_concepts("k400+ucf101+hmdb51")
    for kind in KINDS:
        found = shared_words(file.concepts, kind)
        assert len(found.words) >= 60
        assert found.columns.count(()) <= (44 if kind in ("motion", "objects") else 5)
        singles = Counter(
            phrase for concept in file.concepts for phrase in set(getattr(concept.attributes, kind))
        )
        whole = sum(count >= 2 for count in singles.values())
        assert len(found.words) > 0.8 * whole  # plurals are one, and phrases stand for their heads
    assert "hands" in shared_words(file.concepts, "body_parts").words[:3]


def test_bad_requests_are_refused():
    with pytest.raises(VidsslError, match="did you mean 'motion'"):
        shared_words([], "motions")
    with pytest.raises(VidsslError, match="attribute_min_count 0"):
        shared_words([], "motion", 0)
    with pytest.raises(VidsslError, match="example: 0 phases that 2 or more concepts have"):
        build_space(attributed(), HashTower(), attributes=["phases"])


def unit(x: Any) -> np.ndarray:
    return x / np.linalg.norm(x)


def test_spaces_of_attributes_are_built_from_their_templates():
    file, tower = attributed(), HashTower()
    templates = AttributeTemplates(objects=("see {name}.", "{} here"))
    file = file.model_copy(update={"templates": file.templates.model_copy(update={"attributes": templates})})
    plain, space = build_space(file, tower), build_space(file, tower, attributes=["motion", "objects"])
    assert list(space.attributes) == ["motion", "objects"] and not plain.attributes
    assert torch.equal(plain.category, space.category) and torch.equal(plain.description, space.description)
    objects, motion = space.attributes["objects"], space.attributes["motion"]
    assert objects.words == ("ball", "club") and motion.words == ("pulling", "throwing")
    assert objects.incidence.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert motion.incidence.tolist() == [[0, 1], [1, 1], [1, 0]]
    for row, word in enumerate(objects.words):
        features = [unit(tower.feature(text).double().numpy()) for text in (f"see {word}.", f"{word} here")]
        np.testing.assert_allclose(objects.vectors[row].numpy(), unit(np.mean(features, axis=0)), atol=1e-6)
    expected = unit(tower.feature("a video of a person pulling.").double().numpy())
    np.testing.assert_allclose(motion.vectors[0].numpy(), expected, atol=1e-6)
    centred = build_space(file, tower, attributes=["objects"], whiten="center").attributes["objects"]
    np.testing.assert_allclose(centred.vectors.sum(dim=0).numpy(), 0, atol=1e-6)


def test_merged_concepts_have_the_attributes_of_both():
    file = attributed()
    same = [
        concept.model_copy(update={"descriptions": file.concepts[0].descriptions})
        for concept in file.concepts
    ]
    first, second, third = same
    second = second.model_copy(update={"name": "juggling ", "id": "juggling-2"})
    file = file.model_copy(
        update={"concepts": (first, second.model_copy(update={"name": "juggling2"}), third)}
    )

    class Alike(HashTower):
        def feature(self, text: str) -> torch.Tensor:
            return super().feature(text.replace("juggling2", "juggling"))

    space = build_space(file, Alike(), merge_threshold=0.99, attributes=["objects"])
    assert len(space) == 2
    assert space.attributes["objects"].incidence.tolist() == [[1, 1], [1, 0]]


def test_what_is_written_is_read_and_old_spaces_keep_their_hash(tmp_path):
    file, tower = attributed(), HashTower()
    plain, space = build_space(file, tower), build_space(file, tower, attributes=["objects"])
    read = load_space(save_space(space, tmp_path / "s.safetensors"))
    assert read.sha256 == space.sha256 != plain.sha256 and read.attributes["objects"].words == (
        "ball",
        "club",
    )
    assert torch.equal(read.attributes["objects"].incidence, space.attributes["objects"].incidence)
    # Without attributes of its own a space is what it was before there were any.
    bare = example().model_copy(
        update={"concepts": tuple(c.model_copy(update={"attributes": None}) for c in file.concepts)}
    )
    assert plain.sha256 == build_space(bare, tower).sha256 and space_key(bare, tower) == plain.info.key
    assert space.record()["attributes"] == {"objects": 2} and plain.record()["attributes"] == {}


def test_the_cache_tells_kinds_words_and_counts_apart(tmp_path):
    file, tower = attributed(), HashTower()
    options: list[dict[str, Any]] = [
        {}, {"attributes": ["objects"]}, {"attributes": ["motion"]}, {"attributes": ["objects", "motion"]},
        {"attributes": ["objects"], "attribute_min_count": 1},
    ]  # fmt: skip
    keys = [cached_space(file, tower, folder=tmp_path, **own).info.key for own in options]
    assert len(set(keys)) == len(options)
    encoded = len(tower.batches)
    assert [cached_space(file, tower, folder=tmp_path, **own).info.key for own in options] == keys
    assert len(tower.batches) == encoded
    other = file.model_copy(
        update={
            "templates": file.templates.model_copy(update={"attributes": AttributeTemplates(objects=("{}",))})
        }
    )
    assert space_key(other, tower, attributes=["objects"]) not in keys
    assert space_key(other, tower) == keys[0]  # names and descriptions do not depend on them


def test_templates_of_attributes_are_checked_and_kept():
    file = attributed()
    assert "attributes" not in dump_concepts(example()).split('"templates"')[1]
    templates = file.templates.model_copy(update={"attributes": AttributeTemplates(scene=("a place",))})
    problems = check_concepts(file.model_copy(update={"templates": templates}))
    assert [p.message for p in problems if p.rule == "template-placeholder"] == [
        "scene template 'a place': must hold {name}"
    ]
    with pytest.raises(VidsslError, match="scene template"):
        build_space(file.model_copy(update={"templates": templates}), HashTower())


def test_an_action_that_shares_nothing_is_named():
    file = attributed()
    problems = [p for p in check_concepts(file) if p.rule == "nothing-shared"]
    assert problems == []
    alone = file.concepts[2].model_copy(update={"attributes": Attributes(objects=("bow",))})
    file = file.model_copy(update={"concepts": (*file.concepts[:2], alone)})
    problems = [p for p in check_concepts(file) if p.rule == "nothing-shared"]
    assert [(p.severity, p.concept) for p in problems] == [("warning", "archery")]
