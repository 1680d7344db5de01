"""Prompt templates: ``"a video of a person {name}."`` and ``"{description}"``.

``{}`` and ``{c}``, which other projects write, mean ``{name}``. A literal brace is doubled, as in Python; names and
descriptions are inserted as they are, so that braces in them need no care.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from vidssl.errors import VidsslError, check_choice, did_you_mean
from vidssl.resources import resource_folder

CATEGORY_TEMPLATES = ("a video of a person {name}.",)
DESCRIPTION_TEMPLATES = ("{description}",)
# Of each kind of attribute; `{name}` is the attribute.
OBJECT_TEMPLATES = ("a video of {name}.",)
SCENE_TEMPLATES = ("a video in this place: {name}.",)
BODY_PART_TEMPLATES = ("a video of a person moving the {name}.",)
MOTION_TEMPLATES = PHASE_TEMPLATES = ("a video of a person {name}.",)
_SYNONYMS = {"": "name", "c": "name", "name": "name", "description": "description"}


@cache
def parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """Pieces (literal text, then ``name``, ``description`` or None).

    Raises:
        VidsslError: for a lone brace or an unknown placeholder.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise VidsslError(f"template {template!r}: {error} (a literal brace is doubled)") from None
    parsed: list[tuple[str, str | None]] = []
    for literal, field, spec, conversion in pieces:
        if field is not None and (field not in _SYNONYMS or spec or conversion):
            guess = did_you_mean(field, ("name", "description"))
            allowed = "(allowed: {name}, {description}, and {} or {c} for {name})"
            raise VidsslError(f"template {template!r}: unknown placeholder {{{field}}}{guess} {allowed}")
        parsed.append((literal, None if field is None else _SYNONYMS[field]))
    return tuple(parsed)


def placeholders(template: str) -> set[str]:
    """Which of ``name`` and ``description`` a template holds."""
    return {field for _, field in parse_template(template) if field is not None}


def render(template: str, name: str, description: str | None = None) -> str:
    """Fill a template; blanks at the ends go.

    Raises:
        VidsslError: for a bad template, or one that wants a description when there is none.
    """
    if description is None and "description" in placeholders(template):
        raise VidsslError(f"template {template!r}: there is no description of {name!r} to fill in")
    values = {"name": name, "description": description or "", None: ""}
    return "".join(text + values[field] for text, field in parse_template(template)).strip()


def template_fault(template: str, kind: str) -> str | None:
    """What is wrong with a template of the kind ``category`` or ``description``; None when nothing is.

    A template that gives every concept the same text separates none, so it has to hold its placeholder; and a category
    template, or one of attributes, may use the name only, because the spaces are to be made of different words.

    Args:
        template: to look at.
        kind: ``category``, ``description``, or a kind of attribute.
    """
    try:
        held = placeholders(template)
    except VidsslError as error:
        return str(error)
    if kind != "description" and held != {"name"}:
        want = "{name}" if "name" not in held else "{name} only"
        return f"{kind} template {template!r}: must hold {want}"
    if kind == "description" and "description" not in held:
        return f"description template {template!r}: must hold {{description}}"
    return None


class TemplatePreset(NamedTuple):
    """Templates that others, or we, have used, and where they were published."""

    templates: tuple[str, ...]
    source: str


@cache
def _presets() -> dict[str, TemplatePreset]:
    presets = json.loads((resource_folder("prompts") / "templates.json").read_text(encoding="utf-8"))
    return {name: TemplatePreset(tuple(one["templates"]), one["source"]) for name, one in presets.items()}


def template_presets() -> dict[str, tuple[str, ...]]:
    """The presets of ``prompts/templates.json`` by name."""
    return {name: preset.templates for name, preset in _presets().items()}


def preset_of(templates: Sequence[str]) -> tuple[str, str] | None:
    """Name and source of the preset that has these templates, whatever their order; None where none has."""
    wanted = sorted(templates)
    found = ((name, one.source) for name, one in _presets().items() if sorted(one.templates) == wanted)
    return next(found, None)


def category_templates(given: str | Iterable[str]) -> tuple[str, ...]:
    """Templates by preset name, from a file with one a line, as a single template, or as a list of templates.

    Raises:
        VidsslError: for an unknown preset, no template, or one without ``{name}``.
    """
    presets = template_presets()
    if not isinstance(given, str):
        templates = tuple(given)
    elif "{" in given:
        templates = (given,)
    elif given not in presets and Path(given).is_file():
        lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        templates = tuple(line.strip() for line in lines if line.strip())
    else:
        message = "{name} {value!r}: not a preset{guess} ({allowed}), a file, or a template with {{name}}"
        check_choice("templates", given, presets, message)
        templates = presets[given]
    if not templates:
        raise VidsslError(f"templates {given!r}: there is none")
    for template in templates:
        if fault := template_fault(template, "category"):
            raise VidsslError(fault)
    return templates


def respell(template: str, name: str) -> str:
    """The template with another placeholder for the name, such as CLIP's ``{}``; literal braces stay doubled."""
    values = {"name": name, "description": "{description}", None: ""}
    pieces = parse_template(template)
    return "".join(text.replace("{", "{{").replace("}", "}}") + values[field] for text, field in pieces)
