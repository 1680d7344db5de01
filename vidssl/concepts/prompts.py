"""The concept file, format ``vidssl.concepts/1``: names, descriptions, attributes and where they come from.

One JSON file is one concept space; the order of its list is the order of the rows. Reading is strict about keys and
types; whether the words are any good is for :mod:`vidssl.concepts.rules`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, ValidationError

from vidssl.concepts.names import display_name, slug
from vidssl.concepts.templates import (
    BODY_PART_TEMPLATES,
    CATEGORY_TEMPLATES,
    DESCRIPTION_TEMPLATES,
    MOTION_TEMPLATES,
    OBJECT_TEMPLATES,
    PHASE_TEMPLATES,
    SCENE_TEMPLATES,
    render,
)
from vidssl.errors import VidsslError
from vidssl.files import write_text
from vidssl.schema import Section, in_words, mistakes, unknown_key

FORMAT: Final = "vidssl.concepts/1"


class Problem(NamedTuple):
    """Something a concept file should not have.

    Attributes:
        severity: ``error`` makes a space wrong or unusable, ``warning`` makes it worse.
        concept: id of the concept, None for the file as a whole.
        rule: name of the rule, such as ``description-names-label``.
        message: one line for the person who wrote the file.
    """

    severity: Literal["error", "warning"]
    concept: str | None
    rule: str
    message: str


class ProblemsError(VidsslError):
    """A concept file that cannot be used; the message is about the first of its `problems`."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{source}: {problems[0].message}{more}")
        self.problems = problems


class Attributes(Section):
    """What can be seen of an action, as short phrases; `phases` in the order of time."""

    objects: tuple[str, ...] = ()
    scene: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    motion: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()


class Concept(Section):
    """One action.

    Attributes:
        id: slug, unique in the file, never an index.
        name: as it stands in prompts.
        aliases: other names of the same action.
        sources: data sets that have it as a class.
        descriptions: sentences; the first may name the action, the others do not.
        attributes: None when nobody wrote any.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    attributes: Attributes | None = None


class AttributeTemplates(Section):
    """How attributes become sentences for the text encoder; ``{name}`` is the attribute."""

    objects: tuple[str, ...] = OBJECT_TEMPLATES
    scene: tuple[str, ...] = SCENE_TEMPLATES
    body_parts: tuple[str, ...] = BODY_PART_TEMPLATES
    motion: tuple[str, ...] = MOTION_TEMPLATES
    phases: tuple[str, ...] = PHASE_TEMPLATES


class Templates(Section):
    """How names, descriptions and attributes become sentences for the text encoder.

    Attributes:
        attributes: None for those that `AttributeTemplates` starts with.
    """

    category: tuple[str, ...] = CATEGORY_TEMPLATES
    description: tuple[str, ...] = DESCRIPTION_TEMPLATES
    attributes: AttributeTemplates | None = None

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Templates of each kind: ``category``, ``description`` and, where they are given, those of attributes."""
        given = dict(self.attributes or ())
        return {"category": self.category, "description": self.description, **given}

    def names(self, concept: Concept) -> list[str]:
        """The concept's name in every category template."""
        return [render(template, concept.name) for template in self.category]

    def sentences(self, concept: Concept) -> list[str]:
        """Each of the concept's descriptions in every description template."""
        texts = concept.descriptions
        return [render(template, concept.name, text) for text in texts for template in self.description]

    def words(self, attribute: str, kind: str) -> list[str]:
        """An attribute of this kind in every template of it."""
        return [
            render(template, attribute) for template in getattr(self.attributes or AttributeTemplates(), kind)
        ]


class Sampling(Section):
    """How a language model was sampled."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_new_tokens: int | None = None
    seed: int | None = None


class Provenance(Section):
    """Who wrote the sentences, from which instruction.

    Attributes:
        generator: ``hand``, ``converted``, or the interface of the language model (``transformers``, ``openai``, …).
        model, revision: of the language model.
        prompt_id, prompt_sha256: the instruction and the sha256 of its text.
        created: YYYY-MM-DD.
        reviewed_by_hand: whether a person read every sentence.
    """

    generator: str
    model: str | None = None
    revision: str | None = None
    prompt_id: str | None = None
    prompt_sha256: str | None = None
    sampling: Sampling | None = None
    created: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    reviewed_by_hand: bool = False
    note: str | None = None


class ConceptFile(Section):
    """A concept space in words. `license` is that of the sentences."""

    format: Literal["vidssl.concepts/1"] = FORMAT
    name: str
    license: str | None = None
    concepts: tuple[Concept, ...]
    templates: Templates = Templates()
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.concepts)

    @property
    def names(self) -> tuple[str, ...]:
        """Display names in the order of the rows."""
        return tuple(concept.name for concept in self.concepts)

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers in the order of the rows."""
        return tuple(concept.id for concept in self.concepts)

    @property
    def described(self) -> bool:
        """Whether any concept has descriptions."""
        return any(concept.descriptions for concept in self.concepts)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the whole content."""
        return hashlib.sha256(dump_concepts(self).encode()).hexdigest()


def concepts_from_names(names: Sequence[str], name: str, source: str | None = None) -> ConceptFile:
    """A file of names without descriptions, from any spelling of them.

    Args:
        names: in the order of the rows.
        name: of the space.
        source: data set that has these classes.

    Raises:
        VidsslError: for no names, an empty one, or two spellings of one.
    """
    if not names:
        raise VidsslError(f"{name}: no class names")
    seen: dict[str, str] = {}
    for given in names:
        key = slug(given)
        if not key:
            raise VidsslError(f"{name}: {given!r} is no class name")
        if key in seen:
            raise VidsslError(f"{name}: {seen[key]!r} and {given!r} are the same class")
        seen[key] = given
    sources = () if source is None else (source,)
    concepts = [Concept(id=slug(given), name=display_name(given), sources=sources) for given in names]
    return ConceptFile(name=name, concepts=tuple(concepts))


def parse_concepts(data: Any, source: str) -> ConceptFile:
    """A concept file from its JSON value.

    Raises:
        ProblemsError: naming the first key that is unknown, missing or of the wrong type, and how many more there are.
    """
    try:
        return ConceptFile.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ProblemsError(source, list(_schema_problems(error))) from None


def dump_concepts(file: ConceptFile) -> str:
    """The text of a concept file: sorted keys, short values on one line, the same bytes for the same content."""
    return _lay_out(file.model_dump(mode="json", exclude_none=True)) + "\n"


def write_concepts(file: ConceptFile, path: str | Path) -> Path:
    """Write a concept file, whole or not at all; parent folders are created."""
    return write_text(path, dump_concepts(file))


def _schema_problems(error: ValidationError) -> Iterator[Problem]:
    for detail in mistakes(ConceptFile, error):
        where = ".".join(map(str, detail["loc"]))
        if detail["type"] == "extra_forbidden":
            message = unknown_key(ConceptFile, detail["loc"])
        elif detail["type"] == "missing":
            message = f"{where}: missing"
        else:
            shown = repr(detail["input"])
            message = (
                f"{where or 'file'}: {shown if len(shown) < 80 else shown[:79] + '…'}: {in_words(detail)}"
            )
        yield Problem("error", None, "schema", message)


def _lay_out(value: Any, indent: int = 0, width: int = 110) -> str:
    flat = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not isinstance(value, dict | list) or len(flat) + indent <= width:
        return flat
    if isinstance(value, dict):
        rows = [f"{json.dumps(key)}: {_lay_out(value[key], indent + 1, width)}" for key in sorted(value)]
    else:
        rows = [_lay_out(item, indent + 1, width) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inner, outer = "\n" + " " * (indent + 1), "\n" + " " * indent
    return opening + inner + f",{inner}".join(rows) + outer + closing
