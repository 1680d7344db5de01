"""Whether an answer is good enough to stand in a concept file; what is wrong with it, in words for its author."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from vidssl.concepts.llm_answers import as_sentence, find_table, find_texts
from vidssl.concepts.llm_request import Answer
from vidssl.concepts.names import display_name, join_key
from vidssl.concepts.prompts import Attributes, Concept, ConceptFile, Provenance
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.words import stems

MIN_WORDS = 5  # of a sentence; shorter ones are headings and remarks
MIN_LETTERS = 0.7  # share of a sentence's characters
ALIKE = 0.8  # share of common stems from which two sentences say the same
MAX_PHRASES, MAX_PHRASE_WORDS, MIN_PHASES = 5, 8, 2
MAX_ALIASES = 3


def read_descriptions(answer: Answer, count: int) -> tuple[str, ...]:
    """The first `count` sentences of an answer."""
    texts = find_texts(answer.text, "descriptions", complete=answer.finish != "length")
    return tuple(as_sentence(text) for text in texts[:count])


def description_faults(
    sentences: Sequence[str], concept: Concept, count: int, taken: Mapping[str, str]
) -> list[str]:
    """What keeps sentences from describing a concept: the rules of the concept file and a few for language models.

    Args:
        sentences: as read from the answer.
        concept: whose name the second and later sentences must not hold.
        count: how many sentences were asked for.
        taken: `sentence_key` of sentences of other concepts -> name of the concept.
    """
    if not sentences:
        return ["it holds no JSON list of sentences under the key descriptions"]
    faults = []
    if len(sentences) < count:
        faults.append(f"it has {len(sentences)} sentences instead of {count}")
    for problem in check_concepts(_alone(concept.model_copy(update={"descriptions": tuple(sentences)}))):
        if problem.rule == "description-names-label":
            faults.append(f"{problem.message} (leave out the words of {concept.name!r} in any form)")
        elif problem.rule.startswith("description-") and problem.rule != "description-few":
            faults.append(problem.message)
    for position, sentence in enumerate(sentences, start=1):
        if (other := taken.get(sentence_key(sentence))) is not None:
            faults.append(f"description {position} describes {other!r} already")
        letters = sum(character.isalpha() or character.isspace() for character in sentence)
        if len(sentence.split()) < MIN_WORDS or letters < MIN_LETTERS * len(sentence):
            faults.append(f"description {position} is no full sentence: {_short(sentence)}")
        elif set(sentence) & set("{}[]<>|\\"):
            faults.append(f"description {position} holds markup: {_short(sentence)}")
    for (first, these), (second, those) in combinations(enumerate(map(stems, sentences), start=1), 2):
        if these | those and len(these & those) >= ALIKE * len(these | those):
            faults.append(f"descriptions {first} and {second} say the same")
    return list(dict.fromkeys(faults))


def sentence_key(sentence: str) -> str:
    """What two spellings of one sentence have in common."""
    return " ".join(sentence.casefold().split()).rstrip(".")


def read_attributes(answer: Answer) -> tuple[Attributes, tuple[str, ...], list[str]]:
    """Attributes, synonyms, and the keys that the answer lacks."""
    table = find_table(answer.text)
    phrases = {
        key: tuple(dict.fromkeys(text.lower().rstrip(".") for text in table.get(key, ())))[:MAX_PHRASES]
        for key in Attributes.model_fields
    }
    missing = [key for key in Attributes.model_fields if key not in table]
    return Attributes(**phrases), tuple(map(display_name, table.get("synonyms", ()))), missing


def attribute_faults(attributes: Attributes, missing: Sequence[str], concept: Concept) -> list[str]:
    """What keeps attributes from standing in a concept file."""
    if len(missing) == len(Attributes.model_fields):
        return [f"it holds no JSON object with the keys {', '.join(missing)}"]
    faults = [f"the key {key} is missing" for key in missing]
    for problem in check_concepts(_alone(concept.model_copy(update={"attributes": attributes}))):
        if problem.rule.startswith("attributes-") and not any(key in problem.message for key in missing):
            faults.append(problem.message)
    for key, phrases in attributes:
        for phrase in phrases:
            if len(phrase.split()) > MAX_PHRASE_WORDS:
                faults.append(f"attributes.{key} holds more than {MAX_PHRASE_WORDS} words: {_short(phrase)}")
            if not any(character.isalpha() for character in phrase):
                faults.append(f"attributes.{key} holds no words: {_short(phrase)}")
    if 0 < len(attributes.phases) < MIN_PHASES:
        faults.append(f"attributes.phases has 1 step; write {MIN_PHASES} to 4")
    return faults


def new_aliases(synonyms: Sequence[str], concept: Concept, names: Collection[str]) -> tuple[str, ...]:
    """The aliases of a concept with those synonyms that name nothing else; `names` are `join_key`s of all concepts."""
    kept = {join_key(alias): alias for alias in concept.aliases}
    for synonym in synonyms:
        key = join_key(synonym)
        if key and key not in names and key not in kept and len(kept) < MAX_ALIASES and len(key.split()) <= 5:
            kept[key] = synonym
    return tuple(kept.values())


def _alone(concept: Concept) -> ConceptFile:
    return ConceptFile(
        name="answer", license="none", concepts=(concept,), provenance=Provenance(generator="hand")
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
