"""Concept files in the formats of other projects.

Each format carries what it can; `losses` says what it leaves behind.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

from vidssl.concepts.names import display_name
from vidssl.concepts.prompts import ConceptFile, dump_concepts
from vidssl.concepts.templates import DESCRIPTION_TEMPLATES, respell
from vidssl.errors import VidsslError, check_choice
from vidssl.files import whole_file, write_text

_WORDS = ("aliases", "sources", "descriptions", "attributes")
_RIGHTS = ("license", "provenance")


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
    texts = {path: write(file)}
    if format in BESIDE:
        write, ending = BESIDE[format]
        texts[path.with_name(path.stem + ending)] = write(file)
    with ExitStack() as stack:  # neither takes its place before both are whole
        for target, text in texts.items():
            write_text(stack.enter_context(whole_file(target)), text)
    return list(texts)


def losses(file: ConceptFile, format: str) -> list[str]:
    """Which parts of a file a format does not carry."""
    words = [part for part in _WORDS if any(getattr(concept, part) for concept in file.concepts)]
    rights = [part for part in _RIGHTS if getattr(file, part) is not None]
    _, carried = WRITERS[format]
    return [part for part in ("ids", *words, "templates", *rights) if part not in carried]


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
    return {concept.name: file.templates.sentences(concept) for concept in file.concepts}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _table(*rows: Sequence[object]) -> str:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _csv(file: ConceptFile) -> str:
    """Numbers in the first column, because that is what their readers expect; ours joins by name."""
    if not file.described:
        return _numbered(file)
    rows = [
        (index, concept.name, text)
        for index, concept in enumerate(file.concepts)
        for text in concept.descriptions or [""]
    ]
    return _table(("id", "name", "description"), *rows)


def _numbered(file: ConceptFile) -> str:
    return _table(("id", "name"), *enumerate(file.names))


def _names(file: ConceptFile) -> str:
    return "".join(f"{name}\n" for name in file.names)


def _class_index(file: ConceptFile) -> str:
    return "".join(f"{index} {camel_case(name)}\n" for index, name in enumerate(file.names, start=1))


def _clip_prompts(file: ConceptFile) -> str:
    classes = [[each.name, *each.aliases] if each.aliases else each.name for each in file.concepts]
    templates = [respell(template, "{}") for template in file.templates.category]
    blocks = []
    for name, items in (("classes", classes), ("templates", templates)):
        blocks.append(f"{name} = [\n" + "".join(f"    {item!r},\n" for item in items) + "]")
    return f"## {file.name}\n\n```python\n" + "\n\n".join(blocks) + "\n```\n"


def _clip_benchmark(file: ConceptFile) -> str:
    return _json({file.name: _sentences(file) if file.described else list(file.names)})


def _clip_benchmark_templates(file: ConceptFile) -> str:
    return _json({file.name: [respell(template, "{c}") for template in file.templates.category]})


Writer = Callable[[ConceptFile], str]
# Each writer, and the parts that its format carries besides the names.
WRITERS: dict[str, tuple[Writer, set[str]]] = {
    "vidssl": (dump_concepts, {"ids", *_WORDS, "templates", *_RIGHTS}),
    "cupl": (lambda file: _json(_sentences(file)), {"descriptions"}),
    "indexed": (lambda file: _json(dict(enumerate(_sentences(file).values()))), {"descriptions"}),
    "csv": (_csv, {"descriptions"}),
    "names": (_names, set()),
    "label-map": (_names, set()),
    "classind": (_class_index, set()),
    "clip-prompts": (_clip_prompts, {"aliases", "templates"}),
    "clip-benchmark": (_clip_benchmark, {"descriptions", "templates"}),
}
# What stands in a file beside the main one, and the end of its name.
BESIDE: dict[str, tuple[Writer, str]] = {
    "indexed": (_numbered, "_classes.csv"),
    "clip-benchmark": (_clip_benchmark_templates, "_templates.json"),
}
