"""Class lists for evaluation: names joined by name, never by index, with the sentences that describe them."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vidssl.errors import VidsslError, did_you_mean
from vidssl.resources import resource_folder


@dataclass(frozen=True)
class ClassList:
    """The candidate classes of a zero-shot classifier.

    Attributes:
        names: as they are spelt in the data set.
        texts: what stands in the templates' braces.
        described: whether the texts came from the file (a `text` column) rather than from the names.
        source: where the list came from, for the report.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    described: bool
    source: str

    @property
    def default_templates(self) -> str:
        return "caption" if self.described else "clip_k700"

    @property
    def fingerprint(self) -> str:
        """Hash over names, texts and their order."""
        return hashlib.sha256(json.dumps([self.names, self.texts]).encode()).hexdigest()[:16]


def name_key(name: str) -> str:
    """What two spellings of a class name have in common: lower-case letters and digits.

    ``HandstandPushups``, ``handstand_pushups`` and ``Handstand pushups`` are one class.
    """
    return "".join(character for character in name.casefold() if character.isalnum())


def readable_name(name: str) -> str:
    """``ApplyEyeMakeup`` and ``apply_eye_makeup`` -> ``apply eye makeup``."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.sub(r"[_\-]+", " ", split).lower().split())


def class_list(names: Sequence[str], source: str, texts: Sequence[str | None] | None = None) -> ClassList:
    """A list of classes; classes without a text are described by their readable name.

    Raises:
        VidsslError: for no names, or two spellings of one class.
    """
    if not names:
        raise VidsslError(f"{source}: no class names")
    seen: dict[str, str] = {}
    for name in names:
        key = name_key(name)
        if key in seen:
            raise VidsslError(f"{source}: {seen[key]!r} and {name!r} are the same class")
        seen[key] = name
    given = list(texts or [None] * len(names))
    filled = tuple(text or readable_name(name) for name, text in zip(names, given, strict=True))
    return ClassList(tuple(names), filled, any(given), source)


def read_classes(file: Path) -> ClassList:
    """A CSV with the columns `name` (or `label`, `class`) and optionally `text`, or one class name a line.

    Raises:
        VidsslError: for a missing file, a header without a name column, or repeated classes.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VidsslError(f"{file}: class list cannot be read: {error}") from error
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    header = [cell.strip().lower() for cell in next(csv.reader(lines[:1]), [])]
    if len(header) == 1 and header[0] not in ("name", "label", "class"):
        return class_list([line.strip() for line in lines], str(file))
    column = next((name for name in ("name", "label", "class") if name in header), None)
    if column is None:
        raise VidsslError(f"{file}: columns {header} have no `name`; expected a header such as id,name,text")
    rows = [
        {key.strip().lower(): (value or "").strip() for key, value in row.items() if key}
        for row in csv.DictReader(lines)
    ]
    return class_list([row[column] for row in rows], str(file), [row.get("text") or None for row in rows])


def find_classes(data: Path, names: Sequence[str], given: str | None) -> ClassList:
    """The class list to use for a data set.

    In order: the file `given`; a ``classes.csv`` in the folder of the data or the one above (``train/`` and ``val/``
    commonly share one) that covers its classes; the folder's own class names.
    """
    if given is not None:
        return read_classes(Path(given))
    folder = data if data.is_dir() else data.parent
    for candidate in (folder / "classes.csv", folder.parent / "classes.csv"):
        if candidate.is_file():
            found = read_classes(candidate)
            if {name_key(name) for name in names} <= {name_key(name) for name in found.names}:
                return found
    return class_list(sorted(names), f"class names of {data}")


def join_labels(labels: Sequence[str | None], classes: ClassList, source: str) -> Tensor:
    """(N,) int64 positions of the labels in the class list, joined by name.

    Raises:
        VidsslError: when a video has no label, or a label is not in the list, naming the difference.
    """
    positions = {name_key(name): position for position, name in enumerate(classes.names)}
    unlabelled = sum(label is None for label in labels)
    if unlabelled:
        raise VidsslError(
            f"{source}: {unlabelled} of {len(labels)} videos have no label (expected <class>/<file>)"
        )
    unknown = sorted(
        {str(label) for label in labels}
        - {str(label) for label in labels if name_key(str(label)) in positions}
    )
    if unknown:
        raise VidsslError(
            f"{source}: {len(unknown)} classes are not in {classes.source}: {', '.join(unknown[:5])}"
            f"{', …' if len(unknown) > 5 else ''}{did_you_mean(unknown[0], classes.names)}"
        )
    return torch.tensor([positions[name_key(str(label))] for label in labels], dtype=torch.int64)


@cache
def template_presets() -> dict[str, tuple[str, ...]]:
    """The presets of ``prompts/templates.json``.

    ``name`` is the bare text and ``action`` one template for names of actions; ``caption`` is for texts that are whole
    phrases ("two people shaking hands"). ``clip_k700`` are the 28 templates that CLIP used for Kinetics-700 (Radford et
    al. 2021, arXiv 2103.00020), "a example" being the original's spelling.
    """
    presets = json.loads((resource_folder("prompts") / "templates.json").read_text(encoding="utf-8"))
    return {name: tuple(templates) for name, templates in presets.items()}


def resolve_templates(given: str | None, classes: ClassList) -> tuple[str, ...]:
    """Templates by preset name, from a file with one template a line, or a single template that holds ``{}``.

    Raises:
        VidsslError: for an unknown preset or a template without exactly one ``{}``.
    """
    choice = given or classes.default_templates
    presets = template_presets()
    if choice in presets:
        return presets[choice]
    if "{}" in choice:
        templates: tuple[str, ...] = (choice,)
    elif Path(choice).is_file():
        lines = Path(choice).read_text(encoding="utf-8-sig").splitlines()
        templates = tuple(line.strip() for line in lines if line.strip())
    else:
        raise VidsslError(
            f"templates: {choice!r}: not a preset{did_you_mean(choice, presets)} ({', '.join(presets)}), "
            "a file, or a template with {}"
        )
    for template in templates:
        if template.count("{}") != 1:
            raise VidsslError(f"templates: {template!r} must hold {{}} once")
    return templates
