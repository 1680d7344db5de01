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

Texts = dict[
    str, str
]  # suffix of the file's stem and extension -> content; the main file has an empty suffix


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
    if format in ("cupl", "indexed") and not any(concept.descriptions for concept in file.concepts):
        raise VidsslError(f"{file.name}: has no descriptions to write as {format}; write csv or names")
    path = Path(path)
    return [
        write_text(path.with_name(f"{path.stem}{suffix}") if suffix else path, text)
        for suffix, text in WRITERS[format](file).items()
    ]


def losses(file: ConceptFile, format: str) -> list[str]:
    """Which parts of a file a format does not carry."""
    kept = _KEPT[format]
    held = {
        "ids": True,
        "aliases": any(concept.aliases for concept in file.concepts),
        "sources": any(concept.sources for concept in file.concepts),
        "descriptions": any(concept.descriptions for concept in file.concepts),
        "attributes": any(concept.attributes for concept in file.concepts),
        "templates": True,
        "license": file.license is not None,
        "provenance": file.provenance is not None,
    }
    return (
        [] if format == "vidssl" else [part for part, present in held.items() if present and part not in kept]
    )


def camel_case(name: str) -> str:
    """``clean and jerk`` -> ``CleanAndJerk`` where that reads back as the same name, else the name as it is."""
    joined = "".join(word[:1].upper() + word[1:] for word in name.split())
    return joined if re.fullmatch(r"[A-Za-z]+", joined) and display_name(joined) == name else name


def _sentences(file: ConceptFile) -> dict[str, list[str]]:
    """Sentences with the description templates filled, because other projects use them as they are.

    A template of a phrase after the name is left to the reader, who knows it.
    """
    templates = file.templates.description
    bare = all(template == DESCRIPTION_TEMPLATES[0] or "{name}" in template for template in templates)
    return {
        concept.name: list(concept.descriptions)
        if bare
        else [render(template, concept.name, text) for text in concept.descriptions for template in templates]
        for concept in file.concepts
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _table(rows: list[list[str]]) -> str:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _cupl(file: ConceptFile) -> Texts:
    return {"": _json(_sentences(file))}


def _indexed(file: ConceptFile) -> Texts:
    rows = {str(index): texts for index, texts in enumerate(_sentences(file).values())}
    return {"": _json(rows), "_classes.csv": _table([["id", "name"], *_numbered(file)])}


def _csv(file: ConceptFile) -> Texts:
    """Numbers in the first column, because that is what their readers expect; ours joins by name."""
    if not any(concept.descriptions for concept in file.concepts):
        return {"": _table([["id", "name"], *_numbered(file)])}
    rows = [["id", "name", "description"]]
    for index, concept in enumerate(file.concepts):
        rows += [[str(index), concept.name, text] for text in concept.descriptions or [""]]
    return {"": _table(rows)}


def _numbered(file: ConceptFile) -> list[list[str]]:
    return [[str(index), concept.name] for index, concept in enumerate(file.concepts)]


def _names(file: ConceptFile) -> Texts:
    return {"": "".join(f"{name}\n" for name in file.names)}


def _class_index(file: ConceptFile) -> Texts:
    return {"": "".join(f"{index} {camel_case(name)}\n" for index, name in enumerate(file.names, start=1))}


def _clip_prompts(file: ConceptFile) -> Texts:
    classes: list[Any] = [
        [concept.name, *concept.aliases] if concept.aliases else concept.name for concept in file.concepts
    ]
    templates = [respell(template, "{}") for template in file.templates.category]
    blocks = (_python_list("classes", classes), _python_list("templates", templates))
    return {"": f"## {file.name}\n\n```python\n" + "\n\n".join(blocks) + "\n```\n"}


def _python_list(name: str, items: list[Any]) -> str:
    return f"{name} = [\n" + "".join(f"    {item!r},\n" for item in items) + "]"


def _clip_benchmark(file: ConceptFile) -> Texts:
    described = any(concept.descriptions for concept in file.concepts)
    content: Any = _sentences(file) if described else list(file.names)
    templates = [respell(template, "{c}") for template in file.templates.category]
    return {"": _json({file.name: content}), "_templates.json": _json({file.name: templates})}


WRITERS: dict[str, Callable[[ConceptFile], Texts]] = {
    "vidssl": lambda file: {"": dump_concepts(file)},
    "cupl": _cupl,
    "indexed": _indexed,
    "csv": _csv,
    "names": _names,
    "label-map": _names,
    "classind": _class_index,
    "clip-prompts": _clip_prompts,
    "clip-benchmark": _clip_benchmark,
}
_KEPT: dict[str, set[str]] = {
    "vidssl": set(),
    "cupl": {"descriptions"},
    "indexed": {"descriptions"},
    "csv": {"descriptions"},
    "names": set(),
    "label-map": set(),
    "classind": set(),
    "clip-prompts": {"aliases", "templates"},
    "clip-benchmark": {"descriptions", "templates"},
}
