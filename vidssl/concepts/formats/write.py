"""Concept files in the formats of other projects.

Each format carries what it can; `losses` says what it leaves behind.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from vidssl.concepts.names import display_name
from vidssl.concepts.prompts import ConceptFile, dump_concepts
from vidssl.concepts.templates import DESCRIPTION_TEMPLATES, render, respell
from vidssl.errors import VidsslError, check_choice
from vidssl.files import write_text

# What to add to the file's name -> content; the main file adds nothing.
Texts = dict[str, str]


def write_as(file: ConceptFile, path: str | Path, format: str) -> list[Path]:
    """Write a concept file in another format.

    Args:
        file: what to write.
        path: where; parents are created, files already there are replaced.
        format: one of `WRITERS`. ``indexed`` puts its class list beside it (``<stem>_classes.csv``),
            ``clip-benchmark`` its templates (``<stem>_templates.json``).

    Returns:
        The files written, the main one first.

    Raises:
        VidsslError: for an unknown format, or sentences asked of a file that has none.
    """
    check_choice("format", format, WRITERS, "{name} {value!r}: cannot be written{guess} ({allowed})")
    if format in ("cupl", "indexed") and not file.described:
        raise VidsslError(f"{file.name}: has no descriptions to write as {format}; write csv or names")
    path = Path(path)
    write, _ = WRITERS[format]
    return [
        write_text(path.with_name(f"{path.stem}{suffix}") if suffix else path, text)
        for suffix, text in write(file).items()
    ]


def losses(file: ConceptFile, format: str) -> list[str]:
    """Which parts of a file a format does not carry."""
    held = ["ids"]
    for part in ("aliases", "sources", "descriptions", "attributes"):
        held += [part] if any(getattr(concept, part) for concept in file.concepts) else []
    held.append("templates")
    held += [part for part in ("license", "provenance") if getattr(file, part) is not None]
    _, kept = WRITERS[format]
    return [part for part in held if part not in kept and format != "vidssl"]


def camel_case(name: str) -> str:
    """``clean and jerk`` -> ``CleanAndJerk`` where that reads back as the same name, else the name as it is."""
    joined = "".join(word[:1].upper() + word[1:] for word in name.split())
    return joined if re.fullmatch(r"[A-Za-z]+", joined) and display_name(joined) == name else name


def _sentences(file: ConceptFile) -> dict[str, list[str]]:
    """Sentences with the description templates filled, because other projects use them as they are.

    A template of a phrase after the name is left to the reader, who knows it.
    """
    templates = file.templates.description
    if all(template == DESCRIPTION_TEMPLATES[0] or "{name}" in template for template in templates):
        return {concept.name: list(concept.descriptions) for concept in file.concepts}
    return {
        concept.name: [
            render(template, concept.name, text) for text in concept.descriptions for template in templates
        ]
        for concept in file.concepts
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _table(*rows: list[str]) -> str:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _cupl(file: ConceptFile) -> Texts:
    return {"": _json(_sentences(file))}


def _indexed(file: ConceptFile) -> Texts:
    rows = {str(index): texts for index, texts in enumerate(_sentences(file).values())}
    return {"": _json(rows), "_classes.csv": _numbered(file)}


def _csv(file: ConceptFile) -> Texts:
    """Numbers in the first column, because that is what their readers expect; ours joins by name."""
    if not file.described:
        return {"": _numbered(file)}
    rows = [
        [str(index), concept.name, text]
        for index, concept in enumerate(file.concepts)
        for text in concept.descriptions or [""]
    ]
    return {"": _table(["id", "name", "description"], *rows)}


def _numbered(file: ConceptFile) -> str:
    return _table(["id", "name"], *([str(index), name] for index, name in enumerate(file.names)))


def _names(file: ConceptFile) -> Texts:
    return {"": "".join(f"{name}\n" for name in file.names)}


def _class_index(file: ConceptFile) -> Texts:
    return {"": "".join(f"{index} {camel_case(name)}\n" for index, name in enumerate(file.names, start=1))}


def _clip_prompts(file: ConceptFile) -> Texts:
    classes = [
        [concept.name, *concept.aliases] if concept.aliases else concept.name for concept in file.concepts
    ]
    templates = [respell(template, "{}") for template in file.templates.category]
    blocks = []
    for name, items in (("classes", classes), ("templates", templates)):
        blocks.append(f"{name} = [\n" + "".join(f"    {item!r},\n" for item in items) + "]")
    return {"": f"## {file.name}\n\n```python\n" + "\n\n".join(blocks) + "\n```\n"}


def _clip_benchmark(file: ConceptFile) -> Texts:
    content = _sentences(file) if file.described else list(file.names)
    templates = [respell(template, "{c}") for template in file.templates.category]
    return {"": _json({file.name: content}), "_templates.json": _json({file.name: templates})}


# Each writer, and the parts that its format carries.
WRITERS: dict[str, tuple[Callable[[ConceptFile], Texts], set[str]]] = {
    "vidssl": (lambda file: {"": dump_concepts(file)}, set()),
    "cupl": (_cupl, {"descriptions"}),
    "indexed": (_indexed, {"descriptions"}),
    "csv": (_csv, {"descriptions"}),
    "names": (_names, set()),
    "label-map": (_names, set()),
    "classind": (_class_index, set()),
    "clip-prompts": (_clip_prompts, {"aliases", "templates"}),
    "clip-benchmark": (_clip_benchmark, {"descriptions", "templates"}),
}
