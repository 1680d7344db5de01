"""What a good concept file obeys: every breach as a record, not just the first.

Errors are what makes a space wrong or unusable (two rows of one name, a template that gives every concept the same
text, a sentence that the text encoder would cut); warnings are what makes it worse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from vidssl.concepts.names import join_key, names_label, slug, word_runs
from vidssl.concepts.prompts import Concept, ConceptFile, Problem
from vidssl.concepts.templates import render, template_fault

MIN_DESCRIPTIONS = 4
MAX_WORDS = 20
CLIP_CONTEXT = 77
RUN_LENGTH = 5  # words in a row that make a phrase recognisable as filler
HUMAN_GENERATORS = ("hand", "converted")


def check_concepts(
    file: ConceptFile, num_tokens: Callable[[str], int] | None = None, context_length: int = CLIP_CONTEXT
) -> list[Problem]:
    """All problems of a concept file, errors first.

    Args:
        file: what to check.
        num_tokens: length of a text in tokens with start and end, such as `TextEncoder.num_tokens` or
            `clip_num_tokens`; without it lengths in tokens are not checked.
        context_length: tokens that the text encoder reads.
    """
    problems = [*_file_problems(file), *_name_problems(file), *_sentence_problems(file), *_filler(file)]
    if num_tokens is not None:
        problems += _token_problems(file, num_tokens, context_length)
    return sorted(problems, key=lambda problem: problem.severity)


def clip_num_tokens(text: str) -> int:
    """Length of a text for CLIP's text tower, start and end included."""
    return len(_clip_tokenizer().encode(text)) + 2


@cache
def _clip_tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _file_problems(file: ConceptFile) -> Iterator[Problem]:
    if not file.concepts:
        yield _error(None, "concepts-empty", "the file has no concepts")
    for kind, templates in file.templates:
        if not templates:
            yield _error(None, "template-missing", f"there is no {kind} template")
        for template in templates:
            if fault := template_fault(template, kind):
                yield _error(None, "template-placeholder", fault)
    if not file.described:
        message = "no concept has descriptions (`vidssl concepts generate` writes them)"
        yield _warning(None, "names-only", message)
        return
    if file.license is None:
        yield _warning(None, "license-missing", "license: missing; say under which the sentences are")
    provenance = file.provenance
    if provenance is None:
        yield _error(None, "provenance-missing", "provenance: missing; say who wrote the sentences")
    elif not provenance.generator.strip():
        yield _error(None, "provenance-generator", "provenance.generator: empty")
    elif provenance.generator not in HUMAN_GENERATORS:
        for key in ("model", "prompt_id", "prompt_sha256", "created"):
            if not getattr(provenance, key):
                yield _warning(None, f"provenance-{key}", f"provenance.{key}: missing")


def _name_problems(file: ConceptFile) -> Iterator[Problem]:
    by_id: dict[str, str] = {}
    by_key: dict[str, Concept] = {}
    for concept in file.concepts:
        name, key = concept.name, join_key(concept.name)
        if concept.id.isdigit():
            yield _error(concept, "id-index", f"id {concept.id!r} is an index; write {slug(name)!r}")
        elif not concept.id or slug(concept.id) != concept.id:
            yield _error(concept, "id-slug", f"id {concept.id!r} is no slug; write {slug(name)!r}")
        if concept.id in by_id:
            yield _error(concept, "id-repeated", f"id of both {by_id[concept.id]!r} and {name!r}")
        by_id[concept.id] = name
        if not key:
            yield _error(concept, "name-empty", f"name {name!r} has no letters")
        elif key in by_key:
            yield _error(concept, "name-repeated", f"{by_key[key].name!r} and {name!r} are the same class")
        else:
            by_key[key] = concept
    aliases: dict[str, Concept] = {}
    for concept in file.concepts:
        for alias in concept.aliases:
            key = join_key(alias)
            owner = by_key.get(key)
            if not key:
                yield _error(concept, "alias-empty", f"alias {alias!r} has no letters")
            elif owner is concept:
                yield _warning(concept, "alias-own-name", f"alias {alias!r} is the concept's own name")
            elif owner is not None:
                yield _error(concept, "alias-clash", f"alias {alias!r} is the name of {owner.id!r}")
            elif key in aliases:
                message = f"alias {alias!r} is an alias of {aliases[key].id!r} too"
                yield _warning(concept, "alias-shared", message)
            aliases.setdefault(key, concept)


def _sentence_problems(file: ConceptFile) -> Iterator[Problem]:
    described = file.described
    attributed = any(concept.attributes for concept in file.concepts)
    seen: dict[str, Concept] = {}
    for concept in file.concepts:
        count = len(concept.descriptions)
        if described and not count:
            yield _error(concept, "description-missing", "no descriptions, while other concepts have some")
        elif described and count < MIN_DESCRIPTIONS:
            message = f"{count} descriptions; {MIN_DESCRIPTIONS} make a good row"
            yield _warning(concept, "description-few", message)
        for position, sentence in enumerate(concept.descriptions, start=1):
            where = f"description {position}"
            same = " ".join(sentence.casefold().split()).rstrip(".")
            if not same:
                yield _error(concept, "description-empty", f"{where} is empty")
                continue
            if same in seen:
                other = "this concept" if seen[same] is concept else repr(seen[same].id)
                message = f"{where} stands in {other} already: {sentence}"
                yield _error(concept, "description-repeated", message)
            seen.setdefault(same, concept)
            length = len(sentence.split())
            if length > MAX_WORDS:
                message = f"{where} has {length} words, more than {MAX_WORDS}"
                yield _warning(concept, "description-long", message)
            if position > 1 and names_label(sentence, concept.name):
                yield _warning(concept, "description-names-label", f"{where} names its label: {sentence}")
        if attributed and concept.attributes is None:
            yield _warning(concept, "attributes-missing", "no attributes, while other concepts have some")
        for key, phrases in concept.attributes or ():
            if not phrases and key != "objects":  # an action may need none
                yield _warning(concept, "attributes-empty", f"attributes.{key} is empty")
            if not all(phrase.strip() for phrase in phrases):
                yield _error(concept, "attributes-blank", f"attributes.{key} holds an empty phrase")


def _filler(file: ConceptFile) -> Iterator[Problem]:
    """Phrases that many concepts share tell none of them apart."""
    holders: dict[str, set[str]] = defaultdict(set)
    for concept in file.concepts:
        for sentence in concept.descriptions:
            for run in word_runs(sentence, RUN_LENGTH):
                holders[run].add(concept.id)
    allowed = max(4, len(file.concepts) // 100)
    reported: set[frozenset[str]] = set()  # neighbouring runs of one long phrase have the same holders
    for run, ids in sorted(holders.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(ids) > allowed and frozenset(ids) not in reported:
            reported.add(frozenset(ids))
            shown = ", ".join(sorted(ids)[:4])
            yield _warning(None, "filler", f"{len(ids)} concepts share {run!r}: {shown}, …")


def _token_problems(
    file: ConceptFile, num_tokens: Callable[[str], int], context_length: int
) -> Iterator[Problem]:
    category, description = (
        [template for template in templates if template_fault(template, kind) is None]
        for kind, templates in file.templates
    )
    for concept in file.concepts:
        texts = [render(template, concept.name) for template in category]
        for sentence in concept.descriptions:
            texts += [render(template, concept.name, sentence) for template in description]
        for text in texts:
            length = num_tokens(text)
            if length > context_length:
                message = f"{length} tokens, the encoder reads {context_length}: {text}"
                yield _error(concept, "tokens", message)


def _error(concept: Concept | None, rule: str, message: str) -> Problem:
    return Problem("error", None if concept is None else concept.id, rule, message)


def _warning(concept: Concept | None, rule: str, message: str) -> Problem:
    return Problem("warning", None if concept is None else concept.id, rule, message)
