"""What a reader of a foreign file is given, and how it says that the file is not of its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vidssl.concepts.names import compact_key, display_name
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
        text: its content, without a byte order mark and with plain line ends.
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

    @cached_property
    def table(self) -> dict[str, Any]:
        """The JSON object.

        Raises:
            NotThisFormat: when it is none, or an empty one.
        """
        if not isinstance(self.json, dict) or not self.json:
            raise NotThisFormat("no JSON object")
        return self.json

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are neither blank nor comments (``# `` at the start), stripped."""
        stripped = [line.strip() for line in self.text.split("\n")]
        return [line for line in stripped if line and not line.startswith("# ")]


def read_source(path: Path, classes: Sequence[str] | None = None, section: str | None = None) -> Source:
    """Read a text file; byte order marks and CRLF are harmless.

    Raises:
        VidsslError: when it is missing, no UTF-8 text, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VidsslError(f"{path}: no UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise VidsslError(f"{path}: cannot be read: {error.strerror}") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise VidsslError(f"{path}: no text file (it holds zero bytes)")
    if not text.strip():
        raise VidsslError(f"{path}: empty")
    return Source(path, text, classes, section)


def named(source: Source, names: Sequence[str], templates: Sequence[str] = CATEGORY_TEMPLATES) -> ConceptFile:
    """A concept file of names only."""
    file = concepts_from_names(names, str(source.path))
    return file.model_copy(
        update={"name": source.section or source.path.stem, "templates": Templates(category=tuple(templates))}
    )


def described(source: Source, sentences: Mapping[str, Sequence[str]]) -> ConceptFile:
    """A concept file of somebody else's sentences, which its provenance says.

    Phrases that are no sentences (lower-case, no full stop, as Menon & Vondrick's) are put after the name.
    """
    file = concepts_from_names(list(sentences), str(source.path))
    texts = [text for listed in sentences.values() for text in listed]
    concepts = [
        concept.model_copy(update={"descriptions": tuple(" ".join(text.split()) for text in listed)})
        for concept, listed in zip(file.concepts, sentences.values(), strict=True)
    ]
    phrases = sum(text[:1].islower() and not text.rstrip().endswith((".", "!", "?")) for text in texts)
    template = PHRASE_TEMPLATE if phrases > len(texts) / 2 else "{description}"
    return file.model_copy(
        update={
            "name": source.section or source.path.stem,
            "concepts": tuple(concepts),
            "templates": Templates(description=(template,)),
            "provenance": Provenance(generator="converted", note=f"from {source.path.name}"),
        }
    )


def pick_section(source: Source, sections: Sequence[str]) -> str:
    """The section asked for, or the only one.

    Raises:
        VidsslError: naming the sections there are.
    """
    wanted = source.section
    if wanted is None:
        if len(sections) == 1:
            return sections[0]
        raise VidsslError(
            f"{source.path}: holds {len(sections)} data sets, choose one: {', '.join(sections)}"
        )
    for section in sections:
        if compact_key(section) == compact_key(wanted):
            return section
    raise VidsslError(
        f"{source.path}: no data set {wanted!r}{did_you_mean(wanted, sections)} ({', '.join(sections)})"
    )


def split_sentences(text: str) -> list[str]:
    """Sentences of a longer text; a last one that was cut off is left out unless it is all there is."""
    pieces = [" ".join(piece.split()) for piece in re.split(r"\n+|(?<=[.!?])\s+(?=[A-Z0-9])", text)]
    pieces = [piece for piece in pieces if piece]
    if len(pieces) > 1 and not pieces[-1].endswith((".", "!", "?")):
        pieces.pop()
    return pieces


def looks_like_name(line: str) -> bool:
    """Whether a line may be a class name: short, and not a sentence, a path or markup."""
    return (
        bool(display_name(line))
        and len(line.split()) <= 25
        and len(line) <= 150
        and not line.endswith((".", ":", ";", "{", "[", ","))
        and not re.match(r"(#|```|\||//|<|\{|\[|- |\* )", line)
        and not re.search(r"\.(avi|mp4|mkv|webm|mov|jpg|npy)\b", line)
    )
