"""Class lists for evaluation: names joined by name, never by index, with the sentences that describe them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vidssl.concepts.names import display_name, join_key, match_names
from vidssl.concepts.templates import category_templates
from vidssl.concepts.vocabulary import load_concepts
from vidssl.data.manifest.classes import read_class_list
from vidssl.errors import VidsslError, did_you_mean


@dataclass(frozen=True)
class ClassList:
    """The candidate classes of a zero-shot classifier.

    Attributes:
        names: as they are spelt in the data set.
        texts: what stands in the templates' braces.
        described: whether the texts came from the file (a `text` column) rather than from the names.
        source: where the list came from, for the report.
        descriptions: sentences about each class; empty where not all have some.
        aliases: other names of each class, for joining labels; empty where the file has none.
        templates: those that the file brings, for ``own``.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    described: bool
    source: str
    descriptions: tuple[tuple[str, ...], ...] = ()
    aliases: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = ()

    @property
    def default_templates(self) -> str:
        return "caption" if self.described else "clip_k700"

    @property
    def fingerprint(self) -> str:
        """Hash over names, texts, descriptions (where there are any) and their order."""
        words = [self.names, self.texts, *([self.descriptions] if self.descriptions else [])]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def class_list(names: Sequence[str], source: str, texts: Sequence[str | None] | None = None) -> ClassList:
    """A list of classes; classes without a text are described by their name.

    Raises:
        VidsslError: for no names, or two spellings of one class.
    """
    if not names:
        raise VidsslError(f"{source}: no class names")
    seen: dict[str, str] = {}
    for name in names:
        key = join_key(name)
        if key in seen:
            raise VidsslError(f"{source}: {seen[key]!r} and {name!r} are the same class")
        seen[key] = name
    given = list(texts or [None] * len(names))
    filled = tuple(text or display_name(name) for name, text in zip(names, given, strict=True))
    return ClassList(tuple(names), filled, any(given), source)


def read_classes(file: Path) -> ClassList:
    """A class list file of any format that `read_concepts` knows.

    Plain lists (`vidssl.data.manifest.classes`) keep the spelling of their names, and what a column `text` holds stands
    in the templates' braces; all others are read as concepts.

    Raises:
        VidsslError: for a file that cannot be read, or repeated classes.
    """
    listed = read_class_list(file)
    names = [] if listed is None else list(dict.fromkeys(listed.names))
    if listed is None or len(names) < len(listed.names):  # a row for each sentence
        return concept_classes(file)
    plain = class_list(names, str(file))
    if listed.text is None:
        return plain
    if listed.header[listed.text] == "text":
        return class_list(names, str(file), [row[listed.text].strip() for row in listed.rows])
    return replace(plain, descriptions=concept_classes(file).descriptions)


def concept_classes(given: str | Path) -> ClassList:
    """The concepts of a vocabulary as classes, with their descriptions where each of them has some.

    Args:
        given: see `load_concepts`: a data set such as ``ucf101``, a concept file, or several joined by ``+``.
    """
    file = load_concepts(given)
    descriptions = tuple(concept.descriptions for concept in file.concepts)
    return ClassList(
        names=file.names,
        texts=file.names,
        described=False,
        source=f"concepts {given}",
        descriptions=descriptions if all(descriptions) else (),
        aliases=tuple(concept.aliases for concept in file.concepts),
        templates=file.templates.category,
    )


def find_classes(data: Path, names: Sequence[str], given: str | None) -> ClassList:
    """The class list to use for a data set.

    In order: the file (.csv, .txt) or vocabulary `given`; a ``classes.csv`` in the folder of the data or the one above
    (``train/`` and ``val/`` commonly share one) that covers its classes; the folder's own class names.
    """
    if given is not None:
        is_list = Path(given).suffix in (".csv", ".txt")
        return read_classes(Path(given)) if is_list else concept_classes(given)
    folder = data if data.is_dir() else data.parent
    for candidate in (folder / "classes.csv", folder.parent / "classes.csv"):
        if candidate.is_file():
            found = read_classes(candidate)
            if None not in match_names(names, found.names):
                return found
    return class_list(sorted(names), f"class names of {data}")


def join_labels(labels: Sequence[str | None], classes: ClassList, source: str) -> Tensor:
    """(N,) int64 positions of the labels in the class list, joined by name.

    Raises:
        VidsslError: when a video has no label, or a label is not in the list, naming the difference.
    """
    unlabelled = sum(label is None for label in labels)
    if unlabelled:
        raise VidsslError(
            f"{source}: {unlabelled} of {len(labels)} videos have no label (expected <class>/<file>)"
        )
    spelled = sorted({str(label) for label in labels})
    positions = dict(zip(spelled, match_names(spelled, classes.names, classes.aliases), strict=True))
    unknown = [label for label, position in positions.items() if position is None]
    if unknown:
        raise VidsslError(
            f"{source}: {len(unknown)} classes are not in {classes.source}: {', '.join(unknown[:5])}"
            f"{', …' if len(unknown) > 5 else ''}{did_you_mean(unknown[0], classes.names)}"
        )
    return torch.tensor([positions[str(label)] for label in labels], dtype=torch.int64)


def resolve_templates(given: str | None, classes: ClassList) -> tuple[str, ...]:
    """See `category_templates`; ``own`` are the class file's, None what suits the kind of the classes' texts.

    Raises:
        VidsslError: for an unknown preset, a template without ``{}``, or ``own`` without any.
    """
    if given == "own" and not classes.templates:
        raise VidsslError(f"templates 'own': {classes.source} brings none")
    if given == "own":
        return category_templates(classes.templates)
    return category_templates(given or classes.default_templates)
