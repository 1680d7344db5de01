"""What a good concept file obeys: every breach as a record, not just the first.

Errors are what makes a space wrong or unusable (two rows of one name, a template that gives every concept the same
text, a sentence that the text encoder would cut); warnings are what makes it worse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from vidssl.concepts.attributes import KINDS, shared_words
from vidssl.concepts.names import join_key, label_stems, names_label, slug, stem, word_runs, words
from vidssl.concepts.prompts import Concept, ConceptFile, Problem, Templates
from vidssl.concepts.templates import template_fault

MIN_DESCRIPTIONS = 4
MAX_WORDS = 20
CLIP_CONTEXT = 77
RUN_LENGTH = 5  # words in a row that make a phrase recognisable as filler
OPENING_LENGTH = 4  # words at the beginning of a sentence that make it recognisable as one of a series
ARTICLES = {"a", "an", "the"}
# Words of what is absent, which text encoders take for what is there.
NEGATIONS = {
    "not", "no", "never", "without", "nor", "neither", "none", "nothing", "nobody", "nowhere", "cannot",
    "instead", "rather", "unlike", "lack", "lacks", "lacking", "absent", "absence",
}  # fmt: skip
HUMAN_GENERATORS = ("hand", "converted")
WARNINGS = {
    "names-only", "license-missing", "provenance-model", "provenance-prompt_id", "provenance-prompt_sha256",
    "provenance-created", "alias-own-name", "alias-shared", "description-few", "description-long",
    "description-names-label", "description-names-other", "description-negation", "attributes-missing",
    "attributes-empty", "filler", "opening", "nothing-shared",
}  # fmt: skip

# By which concept (None: by the file as a whole), of which rule, and what is said.
Breach = tuple[str | None, str, str]


def check_concepts(
    file: ConceptFile, num_tokens: Callable[[str], int] | None = None, context_length: int = CLIP_CONTEXT
) -> list[Problem]:
    """All problems of a concept file, errors first.

    Args:
        file: what to check.
        num_tokens: length of a text in tokens with start and end, such as `TextEncoder.num_tokens` or
            `vidssl.models.towers.text.clip_num_tokens`; without it lengths in tokens are not checked.
        context_length: tokens that the text encoder reads.
    """
    breaches = [
        *_of_file(file),
        *_of_names(file),
        *_of_sentences(file),
        *_of_others(file),
        *_of_phrases(file),
        *_of_sharing(file),
    ]
    if num_tokens is not None:
        breaches += _of_lengths(file, num_tokens, context_length)
    problems = [
        Problem("warning" if rule in WARNINGS else "error", id, rule, text) for id, rule, text in breaches
    ]
    return sorted(problems, key=lambda problem: problem.severity)


def _of_file(file: ConceptFile) -> Iterator[Breach]:
    if not file.concepts:
        yield None, "concepts-empty", "the file has no concepts"
    for kind, templates in file.templates.kinds.items():
        if not templates:
            yield None, "template-missing", f"there is no {kind} template"
        for template in templates:
            if fault := template_fault(template, kind):
                yield None, "template-placeholder", fault
    provenance = file.provenance
    if not file.described:
        yield None, "names-only", "no concept has descriptions (`vidssl concepts generate` writes them)"
        return
    if file.license is None:
        yield None, "license-missing", "license: missing; say under which the sentences are"
    if provenance is None:
        yield None, "provenance-missing", "provenance: missing; say who wrote the sentences"
    elif not provenance.generator.strip():
        yield None, "provenance-generator", "provenance.generator: empty"
    elif provenance.generator not in HUMAN_GENERATORS:
        for key in ("model", "prompt_id", "prompt_sha256", "created"):
            if not getattr(provenance, key):
                yield None, f"provenance-{key}", f"provenance.{key}: missing"


def _of_names(file: ConceptFile) -> Iterator[Breach]:
    by_id: dict[str, str] = {}
    by_key: dict[str, Concept] = {}
    for concept in file.concepts:
        name, key = concept.name, join_key(concept.name)
        if concept.id.isdigit():
            yield concept.id, "id-index", f"id {concept.id!r} is an index; write {slug(name)!r}"
        elif not concept.id or slug(concept.id) != concept.id:
            yield concept.id, "id-slug", f"id {concept.id!r} is no slug; write {slug(name)!r}"
        if concept.id in by_id:
            yield concept.id, "id-repeated", f"id of both {by_id[concept.id]!r} and {name!r}"
        by_id[concept.id] = name
        if not key:
            yield concept.id, "name-empty", f"name {name!r} has no letters"
        elif key in by_key:
            yield concept.id, "name-repeated", f"{by_key[key].name!r} and {name!r} are the same class"
        by_key.setdefault(key, concept)
    aliases: dict[str, Concept] = {}
    for concept, alias in [(owner, alias) for owner in file.concepts for alias in owner.aliases]:
        key = join_key(alias)
        if not key:
            yield concept.id, "alias-empty", f"alias {alias!r} has no letters"
        elif by_key.get(key) is concept:
            yield concept.id, "alias-own-name", f"alias {alias!r} is the concept's own name"
        elif key in by_key:
            yield concept.id, "alias-clash", f"alias {alias!r} is the name of {by_key[key].id!r}"
        elif key in aliases:
            yield concept.id, "alias-shared", f"alias {alias!r} is an alias of {aliases[key].id!r} too"
        aliases.setdefault(key, concept)


def _of_sentences(file: ConceptFile) -> Iterator[Breach]:
    attributed = any(concept.attributes for concept in file.concepts)
    seen: dict[str, Concept] = {}
    for concept in file.concepts:
        count = len(concept.descriptions)
        if file.described and not count:
            yield concept.id, "description-missing", "no descriptions, while other concepts have some"
        elif file.described and count < MIN_DESCRIPTIONS:
            yield concept.id, "description-few", f"{count} descriptions; {MIN_DESCRIPTIONS} make a good row"
        for position, sentence in enumerate(concept.descriptions, start=1):
            where, length = f"description {position}", len(sentence.split())
            same = " ".join(sentence.casefold().split()).rstrip(".")
            if not same:
                yield concept.id, "description-empty", f"{where} is empty"
                continue
            if same in seen:
                other = "this concept" if seen[same] is concept else repr(seen[same].id)
                yield concept.id, "description-repeated", f"{where} stands in {other} already: {sentence}"
            seen.setdefault(same, concept)
            if length > MAX_WORDS:
                yield concept.id, "description-long", f"{where} has {length} words, more than {MAX_WORDS}"
            if position > 1 and names_label(sentence, concept.name):
                yield concept.id, "description-names-label", f"{where} names its label: {sentence}"
            if absent := _negations(sentence) - set(words(concept.name)):
                yield (
                    concept.id,
                    "description-negation",
                    f"{where} says what is absent ({', '.join(sorted(absent))}): {sentence}",
                )
        if attributed and concept.attributes is None:
            yield concept.id, "attributes-missing", "no attributes, while other concepts have some"
        for key, phrases in concept.attributes or ():
            if not phrases and key != "objects":  # an action may need none
                yield concept.id, "attributes-empty", f"attributes.{key} is empty"
            if not all(phrase.strip() for phrase in phrases):
                yield concept.id, "attributes-blank", f"attributes.{key} holds an empty phrase"


def _negations(sentence: str) -> set[str]:
    return {word for word in words(sentence) if word in NEGATIONS or word.endswith("n't")}


def _of_others(file: ConceptFile) -> Iterator[Breach]:
    """Sentences that name another class pull its videos towards their own.

    A name counts where its content words, in any inflection and order, stand as close together as in the name, articles
    left out. One of a single content word ("run", "opening something") is too common a word to name a class, and one
    whose words are all in the concept's own name ("golf" in "golf swing") cannot be avoided.
    """
    labels: dict[str, list[tuple[Concept, set[str], int]]] = defaultdict(list)
    for concept in file.concepts:
        label = label_stems(concept.name)
        if len(label) > 1:
            labels[min(label)].append((concept, label, len(words(concept.name.partition("(")[0]))))
    for concept in file.concepts:
        own = label_stems(concept.name)
        for position, sentence in enumerate(concept.descriptions, start=1):
            found = [stem(word) for word in words(sentence) if word not in ARTICLES]
            present = set(found)
            for first in present & labels.keys():
                for other, label, length in labels[first]:
                    if label <= present and not label <= own and _close(found, label, length):
                        yield (
                            concept.id,
                            "description-names-other",
                            f"description {position} names {other.name!r}: {sentence}",
                        )


def _close(found: Sequence[str], label: set[str], length: int) -> bool:
    """Whether some run of `length` words holds the whole label."""
    return any(label <= set(found[start : start + length]) for start in range(len(found)))


def _of_phrases(file: ConceptFile) -> Iterator[Breach]:
    """Phrases that many concepts share tell none of them apart: filler, and openings that make a form of the sentences."""
    fillers: dict[str, set[str]] = defaultdict(set)
    openings: dict[str, set[str]] = defaultdict(set)
    for concept in file.concepts:
        for sentence in concept.descriptions:
            for run in word_runs(sentence, RUN_LENGTH):
                fillers[run].add(concept.id)
            openings[" ".join(words(sentence)[:OPENING_LENGTH])].add(concept.id)
    allowed = max(4, len(file.concepts) // 100)
    for rule, said, holders in (("filler", "share", fillers), ("opening", "open with", openings)):
        reported: set[frozenset[str]] = set()  # neighbouring runs of one long phrase have the same holders
        for run, ids in sorted(holders.items(), key=lambda item: (-len(item[1]), item[0])):
            if len(ids) > allowed and frozenset(ids) not in reported:
                reported.add(frozenset(ids))
                yield None, rule, f"{len(ids)} concepts {said} {run!r}: {', '.join(sorted(ids)[:4])}, …"


def _of_sharing(file: ConceptFile) -> Iterator[Breach]:
    """Attributes are for what concepts have in common."""
    attributed = [concept for concept in file.concepts if concept.attributes]
    if len(attributed) < 2:
        return
    columns = [shared_words(attributed, kind).columns for kind in KINDS]
    for concept, *own in zip(attributed, *columns, strict=True):
        if not any(own):
            yield concept.id, "nothing-shared", "has no attribute that another concept has"


def _of_lengths(file: ConceptFile, num_tokens: Callable[[str], int], context_length: int) -> Iterator[Breach]:
    sound = {
        kind: tuple(text for text in listed if not template_fault(text, kind))
        for kind, listed in file.templates.kinds.items()
    }
    templates = Templates(category=sound["category"], description=sound["description"])
    for concept in file.concepts:
        for text in templates.names(concept) + templates.sentences(concept):
            length = num_tokens(text)
            if length > context_length:
                yield concept.id, "tokens", f"{length} tokens, the encoder reads {context_length}: {text}"
