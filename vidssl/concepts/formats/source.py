"""What a reader of a foreign file is given, how it makes concepts of it, and how it says that it is of another kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vidssl.concepts.names import compact_key
from vidssl.concepts.prompts import ConceptFile, Provenance, Templates, concepts_from_names
from vidssl.concepts.templates import CATEGORY_TEMPLATES
from vidssl.errors import VidsslError, did_you_mean

PHRASE_TEMPLATE = "{name}, which has {description}"


class NotThisFormat(Exception):
    """The file is of another format; the text says why."""


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
        if not self.text.lstrip().startswith(("{", "[")):
            raise NotThisFormat("no JSON")
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
        if not isinstance(self.json, dict) or not self.json:
            raise NotThisFormat("no JSON object")
        return self.json

    def at_section(self, sections: Sequence[str]) -> tuple[str, Source]:
        """The section asked for, or the only one; and the source with exactly that one.

        Raises:
            VidsslError: naming the sections there are.
        """
        shown = ", ".join(sections)
        if self.section is None:
            if len(sections) > 1:
                raise VidsslError(f"{self.path}: holds {len(sections)} data sets, choose one: {shown}")
            return sections[0], replace(self, section=sections[0])
        for section in sections:
            if compact_key(section) == compact_key(self.section):
                return section, replace(self, section=section)
        guess = did_you_mean(self.section, sections)
        raise VidsslError(f"{self.path}: no data set {self.section!r}{guess} ({shown})")

    def named(self, names: Sequence[str], templates: Sequence[str] = CATEGORY_TEMPLATES) -> ConceptFile:
        """A concept file of names only, named after the section or else the file."""
        file = concepts_from_names(names, str(self.path))
        name = self.section or self.path.stem
        return file.model_copy(update={"name": name, "templates": Templates(category=tuple(templates))})

    def described(self, sentences: Mapping[str, Sequence[str]]) -> ConceptFile:
        """A concept file of somebody else's sentences, which its provenance says.

        Phrases that are no sentences (lower-case, no full stop, as Menon & Vondrick's) are put after the name.
        """
        file = self.named(list(sentences))
        texts = [text for listed in sentences.values() for text in listed]
        concepts = [
            concept.model_copy(update={"descriptions": tuple(" ".join(text.split()) for text in listed)})
            for concept, listed in zip(file.concepts, sentences.values(), strict=True)
        ]
        phrases = sum(text[:1].islower() and not text.rstrip().endswith((".", "!", "?")) for text in texts)
        template = PHRASE_TEMPLATE if phrases > len(texts) / 2 else "{description}"
        return file.model_copy(
            update={
                "concepts": tuple(concepts),
                "templates": Templates(description=(template,)),
                "provenance": Provenance(generator="converted", note=f"from {self.path.name}"),
            }
        )
