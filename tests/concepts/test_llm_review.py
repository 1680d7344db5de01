from __future__ import annotations

import json

import pytest

from tests.concepts.llm_server import good_sentences
from vidssl.concepts.datasets import class_list_of
from vidssl.concepts.llm_notes import SENSES, SOURCE_NOTES, context_of, similar_names
from vidssl.concepts.llm_request import Answer
from vidssl.concepts.llm_review import (
    attribute_faults,
    description_faults,
    new_aliases,
    read_attributes,
    read_descriptions,
    sentence_key,
)
from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import Concept

JUGGLING = Concept(id="juggling", name="juggling")
ATTRIBUTES = {
    "objects": ["three balls"],
    "scene": ["street"],
    "body_parts": ["hands"],
    "motion": ["throwing upwards"],
    "phases": ["throwing", "catching"],
    "synonyms": ["ball tossing"],
}


def faults_of(sentences: list[str], taken: dict[str, str] | None = None, count: int = 4) -> str:
    return "; ".join(description_faults(sentences, JUGGLING, count, taken or {}))


def with_second(sentence: str) -> list[str]:
    first, _, third, fourth = good_sentences("juggling")
    return [first, sentence, third, fourth]


def test_good_sentences_have_no_faults():
    assert faults_of(good_sentences("juggling")) == ""
    assert faults_of(["A man goes on juggling with clubs.", *good_sentences("juggling")[1:]]) == ""


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("A man juggles three clubs at once.", "names its label"),
        (" ".join(["long"] * 21) + ".", "21 words, more than 20"),
        (good_sentences("juggling")[0], "already"),
        (good_sentences("juggling")[0].upper(), "already"),
        ("Hands only.", "no full sentence"),
        ("1234 5678 9012 3456 7890 12.", "no full sentence"),
        ("Two hands hold {three} small clubs there.", "markup"),
        (
            "Somebody moves his arms along path " + good_sentences("juggling")[0].split()[6] + " and back.",
            "say the same",
        ),
    ],
)
def test_faults_are_named(sentence, fault):
    assert fault in faults_of(with_second(sentence))


def test_too_few_and_none():
    assert "3 sentences instead of 4" in faults_of(good_sentences("juggling")[:3])
    assert "5" in faults_of(good_sentences("juggling"), count=5)
    assert "no JSON list" in faults_of([])


def test_sentences_of_other_concepts_are_refused():
    sentences = good_sentences("juggling")
    assert "'archery' already" in faults_of(sentences, {sentence_key(sentences[2].lower()): "archery"})


def test_reading_takes_as_many_as_asked_for_and_writes_them_as_sentences():
    answer = Answer(json.dumps({"descriptions": ["two feet leave the floor", "b c.", "d", "e", "f", "g"]}))
    assert read_descriptions(answer, 4) == ("Two feet leave the floor.", "B c.", "D.", "E.")


def read(data: object) -> list[str]:
    attributes, _, missing = read_attributes(Answer(json.dumps(data)))
    return attribute_faults(attributes, missing, JUGGLING)


def test_attributes():
    attributes, synonyms, missing = read_attributes(Answer(json.dumps(ATTRIBUTES)))
    assert attributes.objects == ("three balls",)
    assert attributes.phases == ("throwing", "catching")
    assert (synonyms, missing) == (("ball tossing",), [])
    assert read(ATTRIBUTES) == []
    assert read({**ATTRIBUTES, "objects": []}) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"scene": []}, "scene is empty"),
        ({"motion": None}, "motion is empty"),
        ({"phases": ["throwing"]}, "1 step"),
        ({"scene": ["a " * 9]}, "more than 8 words"),
        ({"scene": ["1234"]}, "no words"),
    ],
)
def test_attribute_faults(change, fault):
    assert fault in "; ".join(read({**ATTRIBUTES, **change}))


def test_missing_keys():
    assert read({key: value for key, value in ATTRIBUTES.items() if key != "scene"}) == [
        "the key scene is missing"
    ]
    assert "no JSON object" in read({"x": ["y"]})[0]


def test_synonyms_become_aliases_only_where_they_name_nothing_else():
    concept = Concept(id="juggling", name="juggling", aliases=("toss juggling",))
    names = {"juggling", "archery"}
    given = ["Juggling", "archery", "toss-juggling", "ball tossing", "club tossing", "ring tossing", "", "?"]
    assert new_aliases(given, concept, names) == ("toss juggling", "ball tossing", "club tossing")


def test_senses_belong_to_classes_that_exist():
    for source, name in SENSES:
        assert name in {join_key(row.display) for row in class_list_of(source)}, (source, name)
        assert source in SOURCE_NOTES


def test_contexts():
    assert context_of(JUGGLING) == "none"
    pick = Concept(id="pick", name="pick", sources=("hmdb51",))
    assert context_of(pick) == f"{SENSES['hmdb51', 'pick']}; {SOURCE_NOTES['hmdb51']}"


def test_similar_names_share_the_rarest_words():
    names = [
        "playing guitar",
        "playing piano",
        "playing drums",
        "strumming guitar",
        "archery",
        "tuning a piano",
    ]
    assert similar_names(names, 2) == [
        ("strumming guitar", "playing piano"),
        ("tuning a piano", "playing guitar"),
        ("playing guitar", "playing piano"),
        ("playing guitar",),
        (),
        ("playing piano",),
    ]
    assert similar_names(names, 0) == [()] * 6
    assert similar_names(["juggling"], 3) == [()]
