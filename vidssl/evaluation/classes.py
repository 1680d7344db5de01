"""Class lists for evaluation: names joined by name, never by index, with the sentences that describe them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor

from vidssl.concepts.names import display_name, join_key, match_names
from vidssl.concepts.templates import category_templates, preset_of
from vidssl.concepts.vocabulary import load_concepts
from vidssl.data.manifest.classes import read_class_list
from vidssl.data.manifest.formats.labels import CLASS_LISTS
from vidssl.errors import VidsslError, counted, did_you_mean
from vidssl.evaluation.report import list_hash


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
            look_alike = normalize("NFC", name) == normalize("NFC", seen[key])
            pair = f"{seen[key]!a} and {name!a}" if look_alike else f"{seen[key]!r} and {name!r}"
            raise VidsslError(f"{source}: {pair} are the same class")
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


def half_of(listed: ClassList, seed: int) -> ClassList:
    """Half of the classes, in their order: those at the first K // 2 places of numpy's permutation of K from `seed`.

    As Text4Vis and BIKE draw them for their "half-classes evaluation" (EP1), with seeds 0 to 9.

    Raises:
        VidsslError: for fewer than four classes, half of which leave no choice.
    """
    total = len(listed.names)
    if total < 4:
        raise VidsslError(
            f"halves: {listed.source} has {counted(total, 'class')}; at least 4, half of which leave a choice"
        )
    places = sorted(np.random.RandomState(seed).permutation(total)[: total // 2].tolist())
    kept: dict[str, Any] = {
        key: tuple(given[place] for place in places)
        for key in ("names", "texts", "descriptions", "aliases")
        if (given := getattr(listed, key))
    }
    return replace(listed, **kept, source=f"half {seed} of {listed.source}")


def find_classes(data: Path, names: Sequence[str], given: str | None) -> ClassList:
    """The class list to use for a data set.

    In order: the file (.csv, .txt) or vocabulary `given`; a ``classes.csv`` (or UCF101's ``classInd.txt``) in the folder of
    the data or the one above (``train/`` and ``val/`` commonly share one) that covers its classes; the folder's own class
    names.

    Raises:
        VidsslError: for a list that cannot be read, or class names that are bare numbers and no list beside them.
    """
    if given is not None:
        is_list = Path(given).suffix in (".csv", ".txt")
        return read_classes(Path(given)) if is_list else concept_classes(given)
    place = data if data.exists() else Path(str(data).partition("#")[0])  # without a split or a rate
    folder = place if place.is_dir() else place.parent
    for candidate in (where / name for where in (folder, folder.parent) for name in CLASS_LISTS):
        if candidate.is_file():
            found = read_classes(candidate)
            if None not in match_names(names, found.names):
                return found
    numbers = [name for name in names if name.isdecimal()]
    if numbers:
        raise VidsslError(
            f"{data}: labels that are bare numbers ({', '.join(numbers[:5])}) name no class; "
            "write names into the list, or give the classes with --classes"
        )
    return class_list(sorted(names), f"class names of {data}")


class JoinedLabels(NamedTuple):
    """Labels of N videos as places in a list of K classes.

    Attributes:
        ids: (N,) int64, in [0, K) for a listed class; K, K + 1, … for the others, one number each: no answer is right.
        unknown: class that is not listed -> how many videos have it.
        unused: listed classes that no video has.
    """

    ids: Tensor
    unknown: dict[str, int]
    unused: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What a result says of them."""
        return {"unknown": self.unknown, "unused": list(self.unused)}


def join_labels(labels: Sequence[str | None], classes: ClassList, source: str) -> JoinedLabels:
    """Labels joined with the class list by name, never by index; all protocols treat what does not fit alike.

    Raises:
        VidsslError: when a label is None, or none is in the list.
    """
    if None in labels:
        raise VidsslError(
            f"{source}: {labels.count(None)} of {counted(len(labels), 'video')} {'has' if labels.count(None) == 1 else 'have'} no label"
        )
    spelled = sorted({str(label) for label in labels})
    positions = dict(zip(spelled, match_names(spelled, classes.names, classes.aliases), strict=True))
    missing = [label for label, position in positions.items() if position is None]
    if len(missing) == len(spelled):
        numbers = "; bare numbers are no names" if all(name.isdecimal() for name in missing) else ""
        raise VidsslError(
            f"{source}: none of its classes ({', '.join(missing[:5])}{f', …, {len(missing)} in all' if missing[5:] else ''}) are in "
            f"{classes.source}{did_you_mean(missing[0], classes.names)}{numbers}"
        )
    places = {label: place for label, place in positions.items() if place is not None}
    used = {classes.names[place] for place in places.values()}
    places |= {label: len(classes.names) + number for number, label in enumerate(missing)}
    return JoinedLabels(
        torch.tensor([places[str(label)] for label in labels], dtype=torch.int64),
        {label: labels.count(label) for label in missing},
        tuple(name for name in classes.names if name not in used),
    )


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


def templates_record(templates: Sequence[str]) -> dict[str, Any]:
    """What a result says of templates: the `list`, its `hash`, and name and `source` of the `preset`, None where it is none."""
    preset, source = preset_of(templates) or (None, None)
    return {"list": list(templates), "hash": list_hash(templates), "preset": preset, "source": source}
