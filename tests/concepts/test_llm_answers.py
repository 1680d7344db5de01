from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.concepts.llm_server import good_sentences
from vidssl.concepts.llm_answers import MAX_ANSWER, as_sentence, clean_text, find_json, find_table, find_texts

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
