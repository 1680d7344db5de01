"""Readers of the JSON shapes in which projects keep class names and sentences about them."""

from __future__ import annotations

import re
from typing import Any

from vidssl.concepts.formats.source import NotThisFormat, Source
from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import FORMAT, ConceptFile, parse_concepts
from vidssl.errors import VidsslError

# Keys by which a file of several data sets is told from a file of classes.
_DATASETS = re.compile(
    r"(k[467]\d0|kinetics|ucf101|hmdb|ssv2|sthv2|something-?something|activitynet|imagenet|cifar)[\w\- ]*",
    re.IGNORECASE,
)


def read_own(source: Source) -> ConceptFile:
    """``{"format": "vidssl.concepts/1", …}``."""
    if not {"format", "concepts"} & set(source.table):
        raise NotThisFormat("no key `format`")
    found = source.table.get("format")
    if found != FORMAT:
        raise VidsslError(f"{source.path}: format {found!r}; this version reads {FORMAT!r}")
    return parse_concepts(source.table, str(source.path))


def read_sentences(source: Source) -> ConceptFile:
    """``{class: [sentence, …]}`` (CuPL, Menon & Vondrick, WaffleCLIP) or ``{class: sentence}``."""
    if all(key.isdigit() for key in source.table):
        raise NotThisFormat("keys are indices")
    if set(source.table) <= {"classes", "templates"}:
        raise NotThisFormat("keys are `classes` and `templates`")
    return source.described({key: _strings(key, value) for key, value in source.table.items()})


def read_indexed(source: Source) -> ConceptFile:
    """``{"0": [sentence, …]}`` (OST) or ``{"0": "Name: sentence"}`` (FROSTER, TC-CLIP), with the classes beside it.

    Raises:
        VidsslError: without a class list, or with one that does not fit.
    """
    rows = [_strings(str(index), value) for index, value in enumerate(_by_index(source.table))]
    titles = [row[0].split(":", 1)[0] if ":" in row[0] else "" for row in rows if row]
    single = all(isinstance(value, str) for value in source.table.values())
    titled = single and sum(0 < len(title.split()) <= 16 for title in titles) > 0.9 * len(rows)
    if source.classes is None and not titled:
        if single:
            raise NotThisFormat("texts without a name or a class list")
        raise VidsslError(
            f"{source.path}: keyed by index 0…{len(rows) - 1}; give the class list in that order (classes=FILE)"
        )
    names = list(source.classes or titles)
    if len(names) != len(rows):
        raise VidsslError(f"{source.path}: {len(rows)} rows, but the class list has {len(names)} names")
    for index, (name, title) in enumerate(zip(names, titles, strict=True) if titled else ()):
        if join_key(name) != join_key(title):
            raise VidsslError(
                f"{source.path}: index {index} is about {title!r}, but the class list has {name!r} there"
            )
    return source.described(dict(zip(names, rows, strict=True)))


def read_index_to_name(source: Source) -> ConceptFile:
    """``{"0": name}`` or, as Something-Something's labels.json, ``{name: "0"}``."""
    table = source.table
    if all(
        isinstance(value, int) or (isinstance(value, str) and value.isdigit()) for value in table.values()
    ):
        table = {str(int(value)): name for name, value in table.items()}
        if len(table) < len(source.table):
            raise VidsslError(f"{source.path}: two names have one index")
    names = _by_index(table)
    if not all(isinstance(name, str) for name in names):
        raise NotThisFormat("values are no names")
    return source.named(names)


def read_clip_benchmark(source: Source) -> ConceptFile:
    """``{data set: [name, …]}`` or ``{data set: {class: [sentence, …]}}``, as CLIP_benchmark's custom files."""
    table = source.table
    nested = all(isinstance(value, dict) for value in table.values())
    if not nested:
        if not all(isinstance(value, list) for value in table.values()):
            raise NotThisFormat("no data sets with lists")
        if source.section is None and not all(_DATASETS.fullmatch(key) for key in table):
            raise NotThisFormat("keys are no data sets")
    section, source = source.at_section(list(table))
    if nested:
        return source.described({key: _strings(key, value) for key, value in table[section].items()})
    return source.named(_strings(section, table[section]))


def read_classes_and_templates(source: Source) -> ConceptFile:
    """``{"classes": [name, …], "templates": ["… {}", …]}``."""
    if "classes" not in source.table or not set(source.table) <= {"classes", "templates"}:
        raise NotThisFormat("no keys `classes` and `templates`")
    names = _strings("classes", source.table["classes"])
    templates = source.table.get("templates")
    if not isinstance(templates, list) or not all(isinstance(text, str) for text in templates):
        return source.named(names)
    return source.named(names, templates)


def read_definitions(source: Source) -> ConceptFile:
    """``[{"word": name, "defn": text}, …]``, as elaborative definitions of classes (Open-VCLIP)."""
    items = source.json
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NotThisFormat("no list of objects")

    def shared(*keys: str) -> str | None:
        return next((key for key in keys if all(key in item for item in items)), None)

    name_key = shared("word", "name", "label", "class")
    text_key = shared("cleaned_defn", "defn", "definition", "descriptions", "description")
    if name_key is None:
        raise NotThisFormat("objects without a name")
    names = [str(item[name_key]) for item in items]
    if text_key is None:
        return source.named(names)
    texts = [_strings(text_key, item[text_key]) for item in items]
    return source.described(dict(zip(names, texts, strict=True)))


def _strings(key: str, value: Any) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise NotThisFormat(f"{key!r}: no list of texts")
    if listed and all(re.search(r"\{(c|name)?\}", text) for text in listed):
        raise NotThisFormat(f"{key!r}: these are templates, not classes or sentences")
    return listed


def _by_index(table: dict[str, Any]) -> list[Any]:
    if not all(key.isdigit() for key in table):
        raise NotThisFormat("keys are no indices")
    ordered = sorted(table, key=int)
    start = int(ordered[0])
    if start > 1 or [int(key) for key in ordered] != list(range(start, start + len(ordered))):
        raise NotThisFormat("indices have gaps")
    return [table[key] for key in ordered]
