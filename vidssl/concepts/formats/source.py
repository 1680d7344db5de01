"""What a reader of a foreign file is given, how it makes concepts of it, and how it says that it is of another kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vidssl.concepts.names import compact_key
from vidssl.concepts.prompts import ConceptFile, Provenance, Templates, concepts_from_names
from vidssl.concepts.templates import CATEGORY_TEMPLATES
from vidssl.errors import VidsslError, check_choice

PHRASE_TEMPLATE = "{name}, which has {description}"


class NotThisFormat(Exception):
    """The file is of another format; the text says why."""


def expect(fits: bool, otherwise: str) -> None:
    """The file is of this format only if it fits.

    Raises:
        NotThisFormat: saying the other thing.
    """
    if not fits:
        raise NotThisFormat(otherwise)


@dataclass(frozen=True)
class Source:
    """A file to be read.

    Attributes:
        path: where it is.
        text: its content, as `vidssl.data.manifest.classes.read_text` gives it.
        classes: names in the order of the file's indices, for files keyed by index.
        section: the data set to take from a file of several.
    """

    path: Path
    text: str
    classes: Sequence[str] | None = None
    section: str | None = None

    @cached_property
    def json(self) -> Any:
        """The JSON value.

        Raises:
            NotThisFormat: when the text is no JSON.
        """
        expect(self.text.lstrip().startswith(("{", "[")), "no JSON")
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise NotThisFormat(f"no JSON ({error})") from None

    @property
    def table(self) -> dict[str, Any]:
        """The JSON object.

        Raises:
            NotThisFormat: when it is none, or an empty one.
        """
        table: dict[str, Any] = self.json
        expect(isinstance(table, dict) and bool(table), "no JSON object")
        return table

    def require(self, fits: bool, otherwise: str) -> None:
        """The file is of this format, and broken unless it fits.

        Raises:
            VidsslError: naming the file and the other thing.
        """
        if not fits:
            raise VidsslError(f"{self.path}: {otherwise}")

    def at_section(self, sections: Sequence[str]) -> tuple[str, Source]:
        """The section asked for, or the only one; and the source with exactly that one.

        Raises:
            VidsslError: naming the sections there are.
        """
        several = f"holds {len(sections)} data sets, choose one: {', '.join(sections)}"
        self.require(self.section is not None or len(sections) == 1, several)
        wanted = sections[0] if self.section is None else self.section
        same = [section for section in sections if compact_key(section) == compact_key(wanted)]
        if not same:
            check_choice(str(self.path), wanted, sections, "{name}: no data set {value!r}{guess} ({allowed})")
        return same[0], replace(self, section=same[0])

    def named(
        self,
        names: Sequence[str],
        templates: Sequence[str] = CATEGORY_TEMPLATES,
        **words: Iterable[Sequence[str]],
    ) -> ConceptFile:
        """A concept file named after the section or else the file.

        Args:
            names: of the concepts, in any spelling.
            templates: of the category space.
            words: `aliases` or `descriptions` of each concept.
        """
        file = concepts_from_names(names, str(self.path))
        concepts = file.concepts
        for field, listed in words.items():
            pairs = zip(concepts, listed, strict=True)
            concepts = tuple(concept.model_copy(update={field: tuple(texts)}) for concept, texts in pairs)
        category = Templates(category=tuple(templates))
        name = self.section or self.path.stem
        return file.model_copy(update={"name": name, "concepts": concepts, "templates": category})

    def described(self, sentences: Mapping[str, Sequence[str]]) -> ConceptFile:
        """A concept file of somebody else's sentences, which its provenance says.

        Phrases that are no sentences (lower-case, no full stop, as Menon & Vondrick's) are put after the name.
        """
        tidied = [[" ".join(text.split()) for text in listed] for listed in sentences.values()]
        file = self.named(list(sentences), descriptions=tidied)
        texts = [text for listed in sentences.values() for text in listed]
        phrases = sum(text[:1].islower() and not text.rstrip().endswith((".", "!", "?")) for text in texts)
        template = PHRASE_TEMPLATE if phrases > len(texts) / 2 else "{description}"
        provenance = Provenance(generator="converted", note=f"from {self.path.name}")
        templates = Templates(description=(template,))
        return file.model_copy(update={"templates": templates, "provenance": provenance})
