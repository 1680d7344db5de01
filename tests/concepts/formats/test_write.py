from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.concepts.examples import example
from vidssl import files as files_module
from vidssl.concepts.datasets import class_list_of, class_names
from vidssl.concepts.formats.read import read_concepts, read_with_format
from vidssl.concepts.formats.write import WRITERS, camel_case, losses, write_as
from vidssl.concepts.names import display_name, slug
from vidssl.concepts.prompts import (
    Attributes,
    Concept,
    ConceptFile,
    Provenance,
    Sampling,
    Templates,
    concepts_from_names,
)
from vidssl.errors import VidsslError

PLACEHOLDER = re.compile(r"\{(c|name)?\}")
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8)
NAMES = st.lists(WORDS, min_size=1, max_size=4).map(lambda words: display_name(" ".join(words)))
NAMES = NAMES.filter(lambda name: not slug(name).isdigit() and slug(name) and not PLACEHOLDER.search(name))
SENTENCES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join).filter(lambda text: "{" not in text)


@st.composite
def files(draw: st.DrawFn, described: bool) -> ConceptFile:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=slug))
    concepts = tuple(
        Concept(
            id=slug(name),
            name=name,
            descriptions=tuple(draw(st.lists(SENTENCES, min_size=1, max_size=3))) if described else (),
        )
        for name in names
    )
    return ConceptFile(
        name="space", concepts=concepts, templates=Templates(category=("see {name}, {{so}}.", "{c}!"))
    )


ROUND_TRIPS = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("format", ["cupl", "indexed", "csv", "clip-benchmark"])
@ROUND_TRIPS
@given(data=st.data())
def test_names_and_sentences_survive(format, tmp_path, data):
    file = data.draw(files(described=True))
    paths = write_as(file, tmp_path / "file.any", format)
    classes = paths[1] if format == "indexed" else None
    read = read_concepts(paths[0], format=format, classes=classes)
    assert {c.name: c.descriptions for c in read.concepts} == {c.name: c.descriptions for c in file.concepts}
    assert read.names == file.names


@pytest.mark.parametrize("format", ["csv", "classind", "clip-prompts", "clip-benchmark"])
@ROUND_TRIPS
@given(data=st.data())
def test_names_alone_survive(format, tmp_path, data):
    file = data.draw(files(described=False))
    paths = write_as(file, tmp_path / "file.any", format)
    read = read_concepts(paths[0], format=format, section="space" if format == "clip-benchmark" else None)
    assert read.names == file.names
    if format == "clip-prompts":
        assert read.templates.category == ("see {}, {{so}}.", "{}!")
    if format == "clip-benchmark":
        assert json.loads(paths[1].read_text()) == {"space": ["see {c}, {{so}}.", "{c}!"]}


@pytest.mark.parametrize("dataset", ["k400", "k700", "ucf101", "hmdb51", "ssv2", "mit"])
@pytest.mark.parametrize("format", sorted(set(WRITERS) - {"cupl", "indexed"}))
def test_real_class_lists_survive_every_format_unasked(dataset, format, tmp_path):
    """Without being told the format, and with everything else in place."""
    file = concepts_from_names(class_names(dataset), "kinetics400", source=dataset)
    paths = write_as(file, tmp_path / "list", format)
    read = read_concepts(paths[0])
    assert read.names == tuple(row.display for row in class_list_of(dataset))


def test_class_index_is_spelt_as_the_official_one():
    assert [camel_case(row.display) for row in class_list_of("ucf101")] == list(class_names("ucf101"))
    assert camel_case("petting animal (not cat)") == "petting animal (not cat)"


@ROUND_TRIPS
@given(data=st.data())
def test_own_format_keeps_everything(tmp_path, data):
    file = data.draw(files(described=True))
    first = file.concepts[0].model_copy(
        update={
            "aliases": ("ä'b",),
            "sources": ("k400",),
            "attributes": Attributes(objects=("rope",), phases=("one", "two")),
        }
    )
    file = file.model_copy(
        update={
            "concepts": (first, *file.concepts[1:]),
            "license": "Apache-2.0",
            "provenance": Provenance(generator="hand", sampling=Sampling(seed=0), created="2026-01-31"),
        }
    )
    (path,) = write_as(file, tmp_path / "own.json", "vidssl")
    assert read_concepts(path) == file
    first_bytes = path.read_bytes()
    write_as(read_concepts(path), path, "vidssl")
    assert path.read_bytes() == first_bytes


def test_what_is_lost_is_said():
    file = example()
    assert losses(file, "vidssl") == []
    assert losses(file, "names") == ["ids", "descriptions", "templates", "license", "provenance"]
    assert losses(file, "clip-benchmark") == ["ids", "license", "provenance"]


def test_phrases_keep_their_template(tmp_path):
    source = tmp_path / "menon.json"
    source.write_text(json.dumps({"hen": ["two legs"], "fox": ["a bushy tail"]}))
    file = read_concepts(source)
    (written,) = write_as(file, tmp_path / "again.json", "cupl")
    assert json.loads(written.read_text()) == json.loads(source.read_text())
    wrapped = file.model_copy(update={"templates": Templates(description=("a clip: {description}",))})
    (written,) = write_as(wrapped, tmp_path / "wrapped.json", "cupl")
    assert json.loads(written.read_text())["hen"] == ["a clip: two legs"]


def test_impossible_conversions_are_refused(tmp_path):
    names = concepts_from_names(["a"], "list")
    with pytest.raises(VidsslError, match="has no descriptions to write as cupl"):
        write_as(names, tmp_path / "x", "cupl")
    with pytest.raises(VidsslError, match="format 'cul': cannot be written; did you mean 'cupl'"):
        write_as(names, tmp_path / "x", "cul")
    assert not list(tmp_path.iterdir())


def test_convert_says_what_is_lost(tmp_path):
    file = example()
    written = write_as(file, tmp_path / "ost.json", "indexed")
    assert written == [tmp_path / "ost.json", tmp_path / "ost_classes.csv"]
    assert "provenance" in losses(file, "indexed") and "descriptions" not in losses(file, "indexed")
    read, format = read_with_format(written[0], classes=written[1])
    assert format == "indexed"
    assert [c.descriptions for c in read.concepts] == [c.descriptions for c in file.concepts]
    assert read.provenance is not None and read.provenance.note == "from ost.json"
    with pytest.raises(VidsslError, match="cannot be written"):
        write_as(file, tmp_path / "x", "yaml")


def test_a_file_and_its_class_list_are_replaced_together(tmp_path, monkeypatch):
    write_as(example(), tmp_path / "words.json", "indexed")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    flush = files_module._flush

    def full(path):
        if "classes.csv" in path.name:
            raise OSError(28, "No space left on device")
        flush(path)

    monkeypatch.setattr(files_module, "_flush", full)
    fewer = example().model_copy(update={"concepts": example().concepts[:1]})
    with pytest.raises(VidsslError, match=r"/words_classes.csv: cannot be written: No space left"):
        write_as(fewer, tmp_path / "words.json", "indexed")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(before) == 2
