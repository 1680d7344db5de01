from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tests.concepts.examples import example
from vidssl.concepts.formats.read import read_concepts
from vidssl.concepts.prompts import (
    Concept,
    ProblemsError,
    concepts_from_names,
    dump_concepts,
    parse_concepts,
    write_concepts,
)
from vidssl.errors import VidsslError


def test_files_are_stable_sorted_utf8(tmp_path):
    file = example("juggling", "tai chi")
    path = write_concepts(file, tmp_path / "new folder" / "file.json")
    raw = path.read_bytes()
    assert b"\r" not in raw and raw.endswith(b"}\n")
    assert read_concepts(path) == file
    write_concepts(read_concepts(path), path)
    assert path.read_bytes() == raw
    keys = list(json.loads(raw))
    assert keys == sorted(keys)
    assert [item.name for item in path.parent.iterdir()] == ["file.json"]  # no temporary file is left


def test_short_values_take_one_line():
    lines = dump_concepts(concepts_from_names(["YoYo"], "list")).splitlines()
    assert (
        ' "concepts": [{"aliases": [], "descriptions": [], "id": "yo-yo", "name": "yo yo", "sources": []}],'
        in lines
    )


def test_files_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        example().concepts[0].name = "other"  # type: ignore[misc]
    assert hash(example()) == hash(example())


def test_the_fingerprint_is_of_everything():
    file = example()
    assert file.fingerprint == example().fingerprint
    for change in ({"license": "MIT"}, {"name": "other"}, {"concepts": file.concepts[::-1]}):
        assert file.model_copy(update=change).fingerprint != file.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concept": []}, "concept: unknown key; did you mean 'concepts'"),
        ({"format": "vidssl.concepts/9"}, "format: 'vidssl.concepts/9'"),
        ({"name": 3}, "name: 3: must be a word"),
        ({"templates": {"categories": []}}, "templates.categories: unknown key; did you mean 'category'"),
        ({"provenance": {"generator": "hand", "created": "yesterday"}}, "provenance.created: 'yesterday'"),
        ({"provenance": {}}, "provenance.generator: missing"),
        ({"concepts": [{"id": "a"}]}, "concepts.0.name: missing"),
        ({"concepts": [{"id": "a", "name": "a", "attributes": {"objekts": []}}]}, "did you mean 'objects'"),
    ],
)
def test_unknown_keys_and_wrong_types_are_named(change, message):
    data = json.loads(dump_concepts(example())) | change
    with pytest.raises(VidsslError, match=message):
        parse_concepts(data, "file")


def test_all_schema_problems_are_listed():
    data = json.loads(dump_concepts(example())) | {"licence": "x", "name": None}
    with pytest.raises(ProblemsError, match=r"\(and 1 more\)") as error:
        parse_concepts(data, "file")
    assert len(error.value.problems) == 2
    assert parse_concepts(json.loads(dump_concepts(example())), "file") == example()


def test_names_make_a_file_of_their_own():
    file = concepts_from_names(["HandstandPushups", "massaging person's head"], "mine", source="mine")
    assert file.names == ("handstand pushups", "massaging person's head")
    assert file.ids == ("handstand-pushups", "massaging-persons-head")
    assert file.concepts[0] == Concept(id="handstand-pushups", name="handstand pushups", sources=("mine",))
    for names, message in (
        ([], "no class names"),
        (["a", "A"], "'a' and 'A' are the same class"),
        (["?"], "is no class"),
    ):
        with pytest.raises(VidsslError, match=message):
            concepts_from_names(names, "mine")
