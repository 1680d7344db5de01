from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.concepts.generate.chat_server import good_sentences
from vidssl.concepts.generate.asking import MAX_ANSWER, clean_text
from vidssl.concepts.generate.judging import Judge, as_sentence, read_texts
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
WANTED = ["One foot lifts.", "The other follows."]


@pytest.mark.parametrize(
    "answer",
    [
        '{"descriptions": ["One foot lifts.", "The other follows."]}',
        '```json\n{"descriptions": ["One foot lifts.", "The other follows."]}\n```',
        'Sure {of course}! Here it is:\n```\n{"descriptions": ["One foot lifts.",\n"The other follows."]}\n```\nEnjoy.',
        'Here are [2] of them: {"descriptions": ["One foot lifts.", "The other follows."]} and {"more": ["no"]}',
        '{"descriptions": ["One foot lifts.", "The other follows.", "A third is cut o',
        '```json\n{"descriptions": ["One foot lifts.", "The other follows."',
        '{"note": "ignored", "descriptions": ["One  foot lifts.", "The other follows."]}',
        '<think>["a draft"] or {"descriptions": ["draft"]}</think>{"descriptions": ["One foot lifts.", "The other follows."]}',
    ],
)
def test_two_sentences_in_many_dresses(answer):
    assert read_texts(answer)["descriptions"] == WANTED


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot help with that.",
        "{}",
        "[]",
        "null",
        "[1, 2]",
        "{{{{",
        '{"a": 1}',
        "<think>- One foot lifts.",
        "```",
        "- One foot lifts.",
    ],
)
def test_nothing_where_there_is_nothing(answer):
    assert read_texts(answer) == {}


def test_every_beginning_of_an_answer_gives_the_sentences_that_are_whole():
    sentences = [*good_sentences("juggling"), 'Quotes " and \\ and {braces} and [lists] stay.']
    answer = json.dumps({"descriptions": sentences})
    ends = [answer.index(json.dumps(sentence)) + len(json.dumps(sentence)) for sentence in sentences]
    for cut in range(len(answer)):
        whole = sum(end <= cut for end in ends)
        assert read_texts(answer[:cut]).get("descriptions", []) == sentences[:whole], answer[:cut]


@settings(deadline=None)  # of long examples on a busy machine
@given(st.text(alphabet='{}[]",:\\ \n-1.ab`<think>/é\ud800\x00', max_size=200) | st.text(max_size=200))
@example('{"a":' * 400)
@example("[" * 5000)
@example('{"a": ' + "1" * 5000 + "}")
@example('{"a": ["x", NaN, 1e999]}')
def test_no_answer_is_too_strange(text):
    clean = clean_text(text)
    clean.encode()
    for texts in read_texts(clean).values():
        assert all(item == " ".join(item.split()) for item in texts)
        json.dumps(texts).encode()
    read_texts(text)


@pytest.mark.parametrize(
    "piece", ["[", "{", '{"x', '{"a":', '"', "\\", "- ", "```\n", '["x",', "<think>", "a: ", "{[", "((1) "]
)
def test_long_answers_take_a_bounded_time(piece):
    answer = clean_text(piece * MAX_ANSWER)
    assert len(answer) == MAX_ANSWER
    start = time.process_time()
    read_texts(answer)
    assert time.process_time() - start < 5


def test_sentences_are_dressed():
    assert as_sentence("two feet leave the floor") == "Two feet leave the floor."
    assert as_sentence("Two feet leave the floor!") == "Two feet leave the floor!"
    assert as_sentence("1) Movement: Two feet leave the floor") == "Two feet leave the floor."
    assert as_sentence("- Two feet leave the floor.") == "Two feet leave the floor."


def faults_of(
    sentences: list[str], count: int = 4, judge: Judge | None = None, about: Concept = JUGGLING
) -> str:
    judge = judge or Judge([], count)
    return "; ".join(judge.judge(about, "descriptions", json.dumps({"descriptions": sentences}))[1])


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
        ("Two hands hold {three} small clubs there.", "no full sentence"),
        ("Two hands hold **three** small clubs there.", "no full sentence"),
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
    judge = Judge([], 4)
    assert faults_of(sentences, judge=judge, about=Concept(id="archery", name="archery")) == ""
    mine = [*good_sentences("knitting")[:3], sentences[2].lower()]
    assert "description 4 describes 'archery' already" in faults_of(mine, judge=judge)


def test_reading_takes_as_many_as_asked_for_and_writes_them_as_sentences():
    given = ["two palms rest upon grass", *good_sentences("juggling")[1:], "e", "f", "g"]
    found, faults = Judge([], 4).judge(JUGGLING, "descriptions", json.dumps({"descriptions": given}))
    assert faults == []
    assert found["descriptions"] == ("Two palms rest upon grass.", *good_sentences("juggling")[1:])


def read(data: object) -> list[str]:
    return Judge([], 4).judge(JUGGLING, "attributes", json.dumps(data))[1]


def test_attributes():
    found, faults = Judge(["juggling"], 4).judge(JUGGLING, "attributes", json.dumps(ATTRIBUTES))
    assert found["attributes"].objects == ("three balls",)
    assert found["attributes"].phases == ("throwing", "catching")
    assert (found["aliases"], faults) == (("ball tossing",), [])
    assert read(ATTRIBUTES) == []
    assert read({**ATTRIBUTES, "objects": []}) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"scene": []}, "scene is empty"),
        ({"motion": None}, "the keys motion"),
        ({"motion": [None]}, "motion holds an empty phrase"),
        ({"phases": ["throwing"]}, "1 step"),
        ({"scene": ["a " * 9]}, "more than 8 words"),
    ],
)
def test_attribute_faults(change, fault):
    assert fault in "; ".join(read({**ATTRIBUTES, **change}))


def test_missing_keys():
    assert read({key: value for key, value in ATTRIBUTES.items() if key != "scene"}) == [
        "it holds no JSON object with the keys scene"
    ]
    assert "no JSON object" in read({"x": ["y"]})[0]


def test_synonyms_become_aliases_only_where_they_name_nothing_else():
    concept = Concept(id="juggling", name="juggling", aliases=("toss juggling",))
    given = ["Juggling", "archery", "toss-juggling", "ball tossing", "club tossing", "ring tossing", "", "?"]
    answer = json.dumps({**ATTRIBUTES, "synonyms": given})
    found, _ = Judge(["juggling", "archery"], 4).judge(concept, "attributes", answer)
    assert found["aliases"] == ("toss juggling", "ball tossing", "club tossing")
