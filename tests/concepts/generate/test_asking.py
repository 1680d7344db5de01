from __future__ import annotations

import hashlib
import json

import pytest

from tests.concepts.generate.asked import request as ask
from vidssl.concepts.datasets import class_list_of
from vidssl.concepts.generate.asking import (
    INSTRUCTIONS,
    Message,
    Request,
    Task,
    clean_text,
    context_of,
    first_requests,
    notes,
    read_instruction,
    similar_names,
)
from vidssl.concepts.generate.server import answer_schema
from vidssl.concepts.generate.storing import FileBackend
from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import Attributes, Concept, ConceptFile, Sampling
from vidssl.resources import resource_folder


def request(subject: str = "Über-käse é 太極拳 " + "long " * 20, **changes: object) -> Request:
    base = {"messages": (Message("user", "hello"),), "sampling": Sampling(temperature=0.7, seed=0)}
    return ask(subject, **{**base, **changes})  # type: ignore[arg-type]


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
    assert request(subject="other", retry="Again: {faults}.").key == keys[0]
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
    for subject in ("juggling", request().concept.name, "太極拳", ""):
        custom_id = request(subject=subject).custom_id
        assert 33 <= len(custom_id) <= 64
        assert custom_id.isascii() and custom_id.replace("-", "").isalnum()
        assert custom_id.endswith(request().key[:32])


def test_control_characters_and_halves_of_characters_go():
    assert clean_text("a\x00b\x1b[31m\ud800c\td\r\ne\u200b") == "ab[31m?c d\ne"


@pytest.mark.parametrize("task", INSTRUCTIONS)
def test_shipped_instructions_fill_without_rest(task: Task, tmp_path):
    instruction = read_instruction(task)
    file = resource_folder("prompts") / "instructions" / f"{instruction.id}.txt"
    assert instruction.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert instruction.parts.keys() == {"system", "user", "retry"}
    concepts = ConceptFile(name="f", concepts=(Concept(id="x", name="{n} {juggling}"),))
    backend = FileBackend(tmp_path / "todo.jsonl", model="m")
    [filled] = first_requests(concepts, backend, (task,), 4, Sampling())
    assert [message.role for message in filled.messages] == ["system", "user"]
    assert 'Action: "{n} {juggling}" (context: none)' in filled.messages[1].content
    assert "{faults}" in filled.retry  # filled in when there are any
    assert "{n}" not in filled.retry


def test_the_schema_asks_for_what_the_instructions_ask_for():
    for task in INSTRUCTIONS:
        for key in answer_schema(task)["required"]:
            assert f'"{key}"' in read_instruction(task).parts["user"]
    assert set(answer_schema("attributes")["required"]) == {*Attributes.model_fields, "synonyms"}


def test_senses_belong_to_classes_that_exist():
    for source, senses in notes()["senses"].items():
        assert senses.keys() <= {join_key(row.display) for row in class_list_of(source)}, source
        assert source in notes()["sources"]


def test_contexts():
    assert context_of(Concept(id="juggling", name="juggling")) == "none"
    pick = Concept(id="pick", name="pick", sources=("hmdb51",))
    assert context_of(pick) == f"{notes()['senses']['hmdb51']['pick']}; {notes()['sources']['hmdb51']}"


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
