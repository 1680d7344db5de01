from __future__ import annotations

from typing import Any

import pytest

from tests.concepts.examples import SENTENCES, example
from vidssl.concepts.names import label_stems, names_label, slug, stem, word_runs
from vidssl.concepts.prompts import (
    Attributes,
    Concept,
    ConceptFile,
    Provenance,
    Templates,
    concepts_from_names,
)
from vidssl.concepts.rules import check_concepts
from vidssl.models.towers.text import clip_num_tokens


def change_first(**update: Any) -> ConceptFile:
    file = example()
    return file.model_copy(
        update={"concepts": (file.concepts[0].model_copy(update=update), *file.concepts[1:])}
    )


def rules(file: ConceptFile, **options: Any) -> set[tuple[str, str | None, str]]:
    return {(problem.severity, problem.concept, problem.rule) for problem in check_concepts(file, **options)}


def test_a_good_file_has_no_problems():
    assert check_concepts(example(), clip_num_tokens) == []


JUGGLING = SENTENCES["juggling"]


@pytest.mark.parametrize(
    ("update", "severity", "rule"),
    [
        ({"id": "7"}, "error", "id-index"),
        ({"id": "Juggling Balls"}, "error", "id-slug"),
        ({"id": ""}, "error", "id-slug"),
        ({"name": "?!"}, "error", "name-empty"),
        ({"aliases": ("?",)}, "error", "alias-empty"),
        ({"aliases": ("JUGGLING",)}, "warning", "alias-own-name"),
        ({"aliases": ("Swimming",)}, "error", "alias-clash"),
        ({"descriptions": ()}, "error", "description-missing"),
        ({"descriptions": JUGGLING[:3]}, "warning", "description-few"),
        ({"descriptions": (*JUGGLING, "  ")}, "error", "description-empty"),
        ({"descriptions": (*JUGGLING, JUGGLING[0].upper())}, "error", "description-repeated"),
        ({"descriptions": (*JUGGLING, "word " * 21)}, "warning", "description-long"),
        (
            {"descriptions": (*JUGGLING, "Somebody juggles by the lake.")},
            "warning",
            "description-names-label",
        ),
        ({"descriptions": (*JUGGLING, "Clubs fly without a stop.")}, "warning", "description-negation"),
        ({"descriptions": (*JUGGLING, "Clubs don't fall.")}, "warning", "description-negation"),
        (
            {"attributes": Attributes(scene=("a",), body_parts=("b",), motion=("c",))},
            "warning",
            "attributes-empty",
        ),
        (
            {"attributes": Attributes(scene=(" ",), body_parts=("b",), motion=("c",), phases=("d",))},
            "error",
            "attributes-blank",
        ),
    ],
)
def test_every_rule_of_a_concept(update, severity, rule):
    found = rules(change_first(**update))
    assert (severity, update.get("id", "juggling"), rule) in found


@pytest.mark.parametrize(
    ("update", "severity", "rule"),
    [
        ({"concepts": ()}, "error", "concepts-empty"),
        ({"templates": Templates(category=())}, "error", "template-missing"),
        ({"templates": Templates(category=("a video",))}, "error", "template-placeholder"),
        ({"templates": Templates(description=("a {name}",))}, "error", "template-placeholder"),
        ({"provenance": None}, "error", "provenance-missing"),
        ({"provenance": Provenance(generator=" ")}, "error", "provenance-generator"),
        ({"provenance": Provenance(generator="openai")}, "warning", "provenance-model"),
        ({"license": None}, "warning", "license-missing"),
    ],
)
def test_every_rule_of_a_file(update, severity, rule):
    assert (severity, None, rule) in rules(example().model_copy(update=update))


def test_names_ids_and_sentences_are_unique():
    file = example()
    twice = file.model_copy(update={"concepts": (*file.concepts, file.concepts[0])})
    found = rules(twice)
    assert {
        ("error", "juggling", rule) for rule in ("id-repeated", "name-repeated", "description-repeated")
    } <= found
    other = file.concepts[1].model_copy(update={"aliases": ("crawl",)})
    shared = change_first(aliases=("Crawl",))
    shared = shared.model_copy(update={"concepts": (shared.concepts[0], other)})
    assert rules(shared) == {("warning", "swimming", "alias-shared")}


def test_all_problems_are_reported_errors_first():
    file = change_first(id="3", aliases=("swimming",), descriptions=("", "word " * 30))
    problems = check_concepts(file)
    assert len(problems) >= 5
    severities = [problem.severity for problem in problems]
    assert severities == sorted(severities)


def test_names_alone_are_no_error():
    assert rules(concepts_from_names(["a b", "c"], "list")) == {("warning", None, "names-only")}


def test_lengths_in_tokens_count_the_filled_templates():
    assert clip_num_tokens("swimming") == 3
    long = change_first(name="word " * 80)
    assert ("error", "juggling", "tokens") in rules(long, num_tokens=clip_num_tokens)
    wrapped = example().model_copy(
        update={"templates": Templates(description=("so " * 10 + "{description}",))}
    )
    counts: list[str] = []

    def count(text: str) -> int:
        counts.append(text)
        return len(text.split())

    assert ("error", "juggling", "tokens") in rules(wrapped, num_tokens=count, context_length=20)
    assert "a video of a person juggling." in counts
    assert not rules(wrapped, num_tokens=count, context_length=40)


def test_filler_is_a_phrase_that_many_concepts_share():
    filler = "In this short clip we see {} there."
    file = example(*(f"action {letter}" for letter in "abcdefg"))

    def with_filler(count: int) -> ConceptFile:
        concepts = [
            concept.model_copy(
                update={"descriptions": (*concept.descriptions, filler.format(f"q{i}r"))} if i < count else {}
            )
            for i, concept in enumerate(file.concepts)
        ]
        return file.model_copy(update={"concepts": tuple(concepts)})

    assert not [p for p in check_concepts(with_filler(4)) if p.rule == "filler" and "short clip" in p.message]
    found = [p for p in check_concepts(with_filler(5)) if p.rule == "filler" and "short clip" in p.message]
    assert len(found) == 1 and "5 concepts share" in found[0].message


@pytest.mark.parametrize("word", ["no", "not", "never", "without", "instead", "rather"])
def test_negations_are_allowed_where_the_name_has_them(word):
    def found(name: str) -> set[str]:
        concept = Concept(id=slug(name), name=name, descriptions=(f"Two hands wait {word} of it.",))
        return {rule for _, _, rule in rules(ConceptFile(name="one", concepts=(concept,)))}

    assert "description-negation" in found("waiting")
    assert "description-negation" not in found(f"waiting {word} long")


@pytest.mark.parametrize(
    ("sentence", "named"),
    [
        ("Somebody plays the guitar by the fire.", {"playing guitar"}),
        ("Loud guitars played by somebody.", {"playing guitar"}),
        ("Friends play cards while a guitar leans there.", set()),  # the words stand apart
        ("A runner climbs up.", set()),  # a single word names no class
        ("The golf club is swung high.", set()),  # all words of "golf" are in its own name
        ("Arms hang over the deep end.", set()),
    ],
)
def test_sentences_that_name_another_class(sentence, named):
    concepts = [
        Concept(id=slug(name), name=name, descriptions=(sentence,) if name == "golf swing" else ())
        for name in ("golf swing", "golf", "playing guitar", "climb", "hanging (not over something)")
    ]
    problems = check_concepts(ConceptFile(name="five", concepts=tuple(concepts)))
    found = {p.message for p in problems if p.rule == "description-names-other" and p.concept == "golf-swing"}
    assert found == {f"description 1 names {name!r}: {sentence}" for name in named}


def test_an_opening_that_many_concepts_share():
    file = example(*(f"action {letter}" for letter in "abcdefg"))

    def openings(count: int) -> list[str]:
        concepts = [
            concept.model_copy(update={"descriptions": (f"On a wide lawn {'xyzuvwq'[i]} waits.",)})
            if i < count
            else concept
            for i, concept in enumerate(file.concepts)
        ]
        problems = check_concepts(file.model_copy(update={"concepts": tuple(concepts)}))
        return [p.message for p in problems if p.rule == "opening"]

    assert openings(4) == []
    (found,) = openings(5)
    assert found.startswith("5 concepts open with 'on a wide lawn': action-a")


@pytest.mark.parametrize(
    ("name", "sentence", "named"),
    [
        ("juggling", "He juggles.", True),
        ("juggling", "Clubs fly.", False),
        ("cutting watermelon", "Watermelons are cut.", True),
        ("cutting watermelon", "A melon is cut.", False),
        ("ApplyEyeMakeup", "Makeup is applied around an eye.", True),
        ("petting animal (not cat)", "An animal is petted.", True),
        ("massaging person's head", "Heads get massaged.", True),
        ("putting something onto something", "A hand puts a cup down.", True),
        ("taking something out of something", "The pen leaves the box.", False),
        ("carrying baby", "A baby is carried.", True),
    ],
)
def test_a_sentence_names_its_label_in_any_inflection(name, sentence, named):
    assert names_label(sentence, name) is named


def test_words():
    assert stem("juggling") == stem("juggles") == stem("juggle") == stem("juggler")
    assert stem("running") == stem("run")
    assert label_stems("holding something") == {stem("hold")}
    assert label_stems("something") == {stem("something")}  # nothing else is there
    assert word_runs("a b c d e f") == {"a b c d e", "b c d e f"}
    assert word_runs("a b") == set()
