from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.concepts.generate.chat_server import good_sentences
from vidssl.concepts.generate.asking import Answer
from vidssl.concepts.generate.judging import (
    MAX_ANSWER,
    as_sentence,
    clean_text,
    find_json,
    find_table,
    find_texts,
    judge_attributes,
    judge_descriptions,
    sentence_key,
)
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
BULLETS = "- One foot lifts.\n- The other follows."


@pytest.mark.parametrize(
    "answer",
    [
        '{"descriptions": ["One foot lifts.", "The other follows."]}',
        '```json\n{"descriptions": ["One foot lifts.", "The other follows."]}\n```',
        'Sure {of course}! Here it is:\n```\n{"descriptions": ["One foot lifts.",\n"The other follows."]}\n```\nEnjoy.',
        'Here are [2] of them: {"descriptions": ["One foot lifts.", "The other follows."]} and {"more": ["no"]}',
        '{"descriptions": ["One foot lifts.", "The other follows.",],}',
        '{"descriptions": ["One foot lifts.", "The other follows.", "A third is cut o',
        '```json\n{"descriptions": ["One foot lifts.", "The other follows."',
        '["One foot lifts.", "The other follows."]',
        '{"Descriptions": {"1": "One foot lifts.", "2": "The other follows."}}',
        '{"1": "One foot lifts.", "2": "The other follows."}',
        '{"result": {"descriptions": ["One foot lifts.", "The other follows."]}}',
        '{"descriptions": [{"type": "x", "sentence": "One foot lifts."}, {"type": "y", "sentence": "The other follows."}]}',
        '{"note": ["ignored"], "descriptions": ["1. One foot lifts.", "2) The other follows."]}',
        '<think>["a draft"] or {"descriptions": ["draft"]}</think>{"descriptions": ["One foot lifts.", "The other follows."]}',
        BULLETS,
        "Sentences:\n1. One foot\n   lifts.\n2. The other follows.\n\nI hope this helps!",
        "* **Movement:** One foot lifts.\n• “The other follows.”",
        "(1) One foot lifts.\n(2) The other follows.",
        '{\n"descriptions": [\n "One foot lifts.",\n "The other follows."\n "a" broken one\n',
    ],
)
def test_two_sentences_in_many_dresses(answer):
    assert find_texts(answer, "descriptions") == WANTED


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
    ],
)
def test_nothing_where_there_is_nothing(answer):
    assert find_texts(answer, "descriptions") == []


def test_a_bullet_that_was_cut_off_is_left_out():
    assert find_texts(BULLETS + "\n- A third is cut", "descriptions", complete=False) == WANTED
    assert len(find_texts(BULLETS + "\n- A third is cut", "descriptions")) == 3
    assert find_texts(BULLETS, "descriptions", complete=False) == WANTED


def test_every_beginning_of_an_answer_gives_the_sentences_that_are_whole():
    sentences = [*good_sentences("juggling"), 'Quotes " and \\ and {braces} and [lists] stay.']
    answer = json.dumps({"descriptions": sentences})
    ends = [answer.index(json.dumps(sentence)) + len(json.dumps(sentence)) for sentence in sentences]
    for cut in range(len(answer)):
        whole = sum(end <= cut for end in ends)
        assert find_texts(answer[:cut], "descriptions") == sentences[:whole], answer[:cut]


@settings(deadline=None)  # of long examples on a busy machine
@given(st.text(alphabet='{}[]",:\\ \n-1.ab`<think>/é\ud800\x00', max_size=200) | st.text(max_size=200))
@example('{"a":' * 400)
@example("[" * 5000)
@example('{"a": ' + "1" * 5000 + "}")
@example('{"a": ["x", NaN, 1e999]}')
def test_no_answer_is_too_strange(text):
    clean = clean_text(text)
    clean.encode()
    for texts in (find_texts(clean, "descriptions"), *find_table(clean).values()):
        assert all(isinstance(item, str) and item == " ".join(item.split()) and item for item in texts)
        json.dumps(texts).encode()
    find_json(text)


@pytest.mark.parametrize(
    "piece", ["[", '{"a":', '"', "\\", "- ", "```\n", '["x",', "<think>", "a: ", "{[", "((1) "]
)
def test_long_answers_take_a_bounded_time(piece):
    answer = clean_text(piece * MAX_ANSWER)
    assert len(answer) == MAX_ANSWER
    start = time.process_time()
    find_texts(answer, "descriptions")
    find_table(answer)
    assert time.process_time() - start < 5


def test_control_characters_and_halves_of_characters_go():
    assert clean_text("a\x00b\x1b[31m\ud800c\td\r\ne\u200b") == "ab[31m?c d\ne"


def test_tables():
    wanted = {"objects": ["rope", "harness"], "body_parts": ["hands"], "phases": []}
    assert find_table('x {"objects": ["rope", "harness"], "Body parts": "hands", "phases": []} y') == wanted
    assert (
        find_table('{"attributes": {"objects": ["rope", "harness"], "body_parts": ["hands"], "phases": []}}')
        == wanted
    )
    assert find_table("- Objects: rope, harness\n- body parts: hands\n- phases: ") == {
        "objects": ["rope", "harness"],
        "body_parts": ["hands"],
        "phases": [],
    }
    assert find_table("no table here") == {}


def test_sentences_are_dressed():
    assert as_sentence("two feet leave the floor") == "Two feet leave the floor."
    assert as_sentence("Two feet leave the floor!") == "Two feet leave the floor!"


def faults_of(sentences: list[str], taken: dict[str, str] | None = None, count: int = 4) -> str:
    answer = Answer(json.dumps({"descriptions": sentences}))
    return "; ".join(judge_descriptions(answer, JUGGLING, count, taken or {})[1])


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
    assert judge_descriptions(answer, JUGGLING, 4, {})[0]["descriptions"] == (
        "Two feet leave the floor.",
        "B c.",
        "D.",
        "E.",
    )


def read(data: object) -> list[str]:
    return judge_attributes(Answer(json.dumps(data)), JUGGLING, set())[1]


def test_attributes():
    found, faults = judge_attributes(Answer(json.dumps(ATTRIBUTES)), JUGGLING, {"juggling"})
    assert found["attributes"].objects == ("three balls",)
    assert found["attributes"].phases == ("throwing", "catching")
    assert (found["aliases"], faults) == (("ball tossing",), [])
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
    answer = Answer(json.dumps({**ATTRIBUTES, "synonyms": given}))
    assert judge_attributes(answer, concept, names)[0]["aliases"] == (
        "toss juggling",
        "ball tossing",
        "club tossing",
    )
