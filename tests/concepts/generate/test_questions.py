from __future__ import annotations

import hashlib

import pytest

from vidssl.concepts.datasets import class_list_of
from vidssl.concepts.generate.asking import Task
from vidssl.concepts.generate.questions import (
    INSTRUCTIONS,
    context_of,
    fields_of,
    notes,
    read_instruction,
    similar_names,
)
from vidssl.concepts.generate.server import answer_schema
from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import Attributes, Concept
from vidssl.resources import resource_folder


@pytest.mark.parametrize("task", INSTRUCTIONS)
def test_shipped_instructions_fill_without_rest(task: Task):
    instruction = read_instruction(task)
    file = resource_folder("prompts") / "instructions" / f"{instruction.id}.txt"
    assert instruction.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    [fields] = fields_of([Concept(id="x", name="{n} {juggling}")], 4)
    filled = {part: instruction.fill(part, fields) for part in instruction.parts}
    assert filled.keys() == {"system", "user", "retry"}
    assert 'Action: "{n} {juggling}" (context: none)' in filled["user"]
    assert "{faults}" in filled["retry"]  # filled in when there are any


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
