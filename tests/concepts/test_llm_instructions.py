from __future__ import annotations

import hashlib
import json

import pytest

from vidssl.concepts.llm_instructions import ATTRIBUTES, DESCRIBE, NAMES, RETRY, read_instruction
from vidssl.concepts.llm_request import Message, Request, answer_schema, check_sampling
from vidssl.concepts.prompts import Attributes, Sampling
from vidssl.errors import VidsslError
from vidssl.resources import resource_folder

FIELDS = {"name": "juggling", "context": "none", "sources": "k400", "n": "4", "confusions": " (a, b)", "topic": "x",
          "existing": "y"}  # fmt: skip


@pytest.mark.parametrize("name", [DESCRIBE, ATTRIBUTES, NAMES, "describe-v1"])
def test_shipped_instructions_fill_without_rest(name):
    instruction = read_instruction(name)
    file = resource_folder("prompts") / "instructions" / f"{name}.txt"
    assert instruction.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    messages = instruction.messages(FIELDS)
    assert messages[-1].role == "user"
    assert FIELDS["topic" if name == NAMES else "name"] in messages[-1].content
    assert "too long" in instruction.reply(FIELDS, "too long").content


def test_the_schema_asks_for_what_the_instructions_ask_for():
    for name, task in ((DESCRIBE, "descriptions"), (ATTRIBUTES, "attributes"), (NAMES, "names")):
        for key in answer_schema(task)["required"]:
            assert f'"{key}"' in read_instruction(name).user
    assert set(answer_schema("attributes")["required"]) == {*Attributes.model_fields, "synonyms"}


def test_ones_own_instruction(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text('Say {n} things on "{name}" as {"descriptions": [...]}.')
    mine = read_instruction(file)
    assert (mine.id, mine.system, mine.retry) == ("mine", "", RETRY)
    assert mine.messages({"n": "4", "name": "{n}"}) == (
        Message("user", 'Say 4 things on "{n}" as {"descriptions": [...]}.'),
    )
    file.write_text(
        "system: You write.\nuser:\nWrite of {nmae}.\nNot a part: retry: here\nretry: Again: {faults}!\n"
    )
    mine = read_instruction(file)
    assert (mine.system, mine.retry) == ("You write.", "Again: {faults}!")
    assert mine.user.endswith("retry: here")
    with pytest.raises(VidsslError, match=r"\{nmae\}; did you mean 'name'"):
        mine.messages(FIELDS)
    file.write_text("system: only\n")
    with pytest.raises(VidsslError, match="user:"):
        read_instruction(file)
    with pytest.raises(VidsslError, match=f"did you mean '{DESCRIBE}'"):
        read_instruction("describe_v2")


def request(**changes: object) -> Request:
    base = {
        "subject": "Über-käse é 太極拳 " + "long " * 20,
        "task": "descriptions",
        "count": 4,
        "model": "m",
        "revision": None,
        "messages": (Message("user", "hello"),),
        "sampling": Sampling(temperature=0.7, seed=0),
    }
    return Request(**{**base, **changes})  # type: ignore[arg-type]


def test_keys_depend_on_all_that_an_answer_depends_on_and_on_nothing_else():
    keys = [
        request().key,
        request(model="n").key,
        request(revision="abc").key,
        request(messages=(Message("user", "hello "),)).key,
        request(messages=(Message("system", "hello"),)).key,
        request(sampling=Sampling(temperature=0.7, seed=1)).key,
        request(sampling=Sampling(temperature=0.8, seed=0)).key,
    ]
    assert len(set(keys)) == len(keys)
    assert request(subject="other", count=5).key == keys[0]
    # A key that changed between versions would have everybody pay twice.
    expected = json.dumps(
        {
            "messages": [{"content": "hello", "role": "user"}],
            "model": "m",
            "parameters": {"seed": 0, "temperature": 0.7},
            "revision": None,
        },
        separators=(",", ":"),
    )
    assert keys[0] == hashlib.sha256(expected.encode()).hexdigest()


def test_custom_ids_suit_batch_interfaces():
    for subject in ("juggling", request().subject, "太極拳", ""):
        custom_id = request(subject=subject).custom_id
        assert 33 <= len(custom_id) <= 64
        assert custom_id.isascii() and custom_id.replace("-", "").isalnum()
        assert custom_id.endswith(request().key[:32])


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": 0}, {"max_new_tokens": 0}, {"seed": -1}],
)
def test_impossible_sampling(bad):
    with pytest.raises(VidsslError, match=next(iter(bad))):
        check_sampling(Sampling(**bad))
