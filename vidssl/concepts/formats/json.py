"""Readers of the JSON shapes in which projects keep class names and sentences about them."""

from __future__ import annotations

import re
from typing import Any

from vidssl.concepts.formats.source import Source, expect
from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import FORMAT, ConceptFile, parse_concepts

# Keys by which a file of several data sets is told from a file of classes.
_DATASETS = re.compile(
    r"(?i)(k[467]\d0|kinetics|ucf101|hmdb|ssv2|sthv2|something-?something|activitynet|imagenet|cifar)[\w\- ]*"
)


def read_own(source: Source) -> ConceptFile:
    """``{"format": "vidssl.concepts/1", …}``."""
    expect(bool({"format", "concepts"} & set(source.table)), "no key `format`")
    found = source.table.get("format")
    source.require(found == FORMAT, f"format {found!r}; this version reads {FORMAT!r}")
    return parse_concepts(source.table, str(source.path))


def read_sentences(source: Source) -> ConceptFile:
    """``{class: [sentence, …]}`` (CuPL, Menon & Vondrick, WaffleCLIP) or ``{class: sentence}``."""
    expect(not all(key.isdigit() for key in source.table), "keys are indices")
    expect(not set(source.table) <= {"classes", "templates"}, "keys are `classes` and `templates`")
    return source.described(_strings_of_all(source.table))


def read_indexed(source: Source) -> ConceptFile:
    """``{"0": [sentence, …]}`` (OST) or ``{"0": "Name: sentence"}`` (FROSTER, TC-CLIP), with the classes beside it.

    Raises:
        VidsslError: without a class list, or with one that does not fit.
    """
    rows = [_strings(str(index), value) for index, value in enumerate(_by_index(source.table))]
    titles = [row[0].split(":", 1)[0] if ":" in row[0] else "" for row in rows if row]
    single = all(isinstance(value, str) for value in source.table.values())
    titled = single and sum(0 < len(title.split()) <= 16 for title in titles) > 0.9 * len(rows)
    named = titled or source.classes is not None
    expect(named or not single, "texts without a name or a class list")
    wanted = "give the class list in that order (classes=FILE)"
    source.require(named, f"keyed by index 0…{len(rows) - 1}; {wanted}")
    names = list(source.classes or titles)
    source.require(len(names) == len(rows), f"{len(rows)} rows, but the class list has {len(names)} names")
    for index, (name, title) in enumerate(zip(names, titles, strict=True) if titled else ()):
        clash = f"index {index} is about {title!r}, but the class list has {name!r} there"
        source.require(join_key(name) == join_key(title), clash)
    return source.described(dict(zip(names, rows, strict=True)))


def read_index_to_name(source: Source) -> ConceptFile:
    """``{"0": name}`` or, as Something-Something's labels.json, ``{name: "0"}``."""
    table = source.table
    if all(str(value).isdigit() for value in table.values()):
        table = {str(int(value)): name for name, value in table.items()}
        source.require(len(table) == len(source.table), "two names have one index")
    names = _by_index(table)
    expect(all(isinstance(name, str) for name in names), "values are no names")
    return source.named(names)


def read_clip_benchmark(source: Source) -> ConceptFile:
    """``{data set: [name, …]}`` or ``{data set: {class: [sentence, …]}}``, as CLIP_benchmark's custom files."""
    table = source.table
    nested = all(isinstance(value, dict) for value in table.values())
    if not nested:
        expect(all(isinstance(value, list) for value in table.values()), "no data sets with lists")
        known = source.section is not None or all(_DATASETS.fullmatch(key) for key in table)
        expect(known, "keys are no data sets")
    section, source = source.at_section(list(table))
    if nested:
        return source.described(_strings_of_all(table[section]))
    return source.named(_strings(section, table[section]))


def read_classes_and_templates(source: Source) -> ConceptFile:
    """``{"classes": [name, …], "templates": ["… {}", …]}``."""
    table = source.table
    expect({"classes"} <= set(table) <= {"classes", "templates"}, "no keys `classes` and `templates`")
    names, templates = _strings("classes", table["classes"]), table.get("templates", "")
    return source.named(names, templates) if _are_texts(templates) else source.named(names)


def read_definitions(source: Source) -> ConceptFile:
    """``[{"word": name, "defn": text}, …]``, as elaborative definitions of classes (Open-VCLIP)."""
    items = source.json
    expect(isinstance(items, list) and all(isinstance(item, dict) for item in items), "no list of objects")

    def shared(*keys: str) -> str:
        return next((key for key in keys if all(key in item for item in items)), "")

    name_key = shared("word", "name", "label", "class")
    text_key = shared("cleaned_defn", "defn", "definition", "descriptions", "description")
    expect(bool(name_key), "objects without a name")
    names = [str(item[name_key]) for item in items]
    if not text_key:
        return source.named(names)
    texts = [_strings(text_key, item[text_key]) for item in items]
    return source.described(dict(zip(names, texts, strict=True)))


def _strings(key: str, value: Any) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    expect(_are_texts(listed), f"{key!r}: no list of texts")
    templates = bool(listed) and all(re.search(r"\{(c|name)?\}", text) for text in listed)
    expect(not templates, f"{key!r}: these are templates, not classes or sentences")
    return listed


def _strings_of_all(table: dict[str, Any]) -> dict[str, list[str]]:
    return {key: _strings(key, value) for key, value in table.items()}


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _by_index(table: dict[str, Any]) -> list[Any]:
    expect(all(key.isdigit() for key in table), "keys are no indices")
    ordered = sorted(table, key=int)
    indices = [int(key) for key in ordered]
    expect(indices in (list(range(len(table))), list(range(1, len(table) + 1))), "indices have gaps")
    return [table[key] for key in ordered]
