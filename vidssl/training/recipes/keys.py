"""Every key that a recipe may have: type, default and meaning, for people (`vidssl config show`) and editors (JSON schema)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from pydantic_core import to_jsonable_python

from vidssl.config import Config
from vidssl.models.heads import HEAD_OPTIONS
from vidssl.models.options import ClipOptions
from vidssl.objectives.composite import OBJECTIVES, SPACE_OPTIONS

_KINDS = {"integer": "whole number", "number": "number", "string": "word", "boolean": "true or false", "array": "list",
          "object": "section", "null": "null"}  # fmt: skip
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_ANY = "see its meaning"
_NAMED = re.compile(r"^    ([a-z_]+(?:, [a-z_]+)*): ", re.MULTILINE)
_ANNOTATED = {"bool": "boolean", "int": "integer", "float": "number", "str": "string", "None": "null"}
REQUIRED = object()
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Key(NamedTuple):
    """A key of a recipe.

    Attributes:
        name: dotted; `views.0.size` is one of the first view, `objective.hsic.gamma` of the objective of that name.
        kind: what its values are, in words.
        default: the value where a recipe is silent, or `REQUIRED`.
        meaning: in words.
    """

    name: str
    kind: str
    default: Any
    meaning: str


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, the options of all objectives and encoders included."""
    schema = Config.model_json_schema()
    sets = schema["$defs"]["DataConfig"]["properties"]["train"]
    path = {"type": "string"}
    several = {"type": "array", "minItems": 1, "items": {"anyOf": [path, {"$ref": "#/$defs/TrainingSet"}]}}
    schema["$defs"]["DataConfig"]["properties"]["train"] = {
        "description": sets["description"],
        "anyOf": [path, several],
    }
    objective = schema["properties"]["objective"]
    free = {"type": "object", "required": ["objective"], "properties": {"objective": {"enum": [*OBJECTIVES]}}}
    objective |= {
        "additionalProperties": free,
        "properties": {name: _options_schema(options) for name, options in objective_keys().items()},
    }
    schema["$defs"]["ModelConfig"]["properties"]["options"] |= _options_schema(model_keys())
    return {"$schema": DIALECT, **schema}


def recipe_keys(config: Config | None = None) -> Iterator[tuple[Key, Any]]:
    """Every key in the order of the schema, with its value in a recipe.

    Args:
        config: a recipe, whose views and objectives are then listed; None: one view, all objectives, and each value is
            the default.
    """
    schema = recipe_schema()
    plain = None if config is None else to_jsonable_python(config)
    yield from _walk(schema, schema["$defs"], "", plain)


def objective_keys() -> dict[str, list[Key]]:
    """By objective: its own options and those of its head, named without what stands before them."""
    return {name: [*_own_keys(kind), *_keys_around(kind)] for name, kind in OBJECTIVES.items()}


def model_keys() -> list[Key]:
    """Options of encoders (`model.options`)."""
    meanings = _meanings(ClipOptions)
    return [
        Key(field.name, _kind(str(field.type)), field.default, meanings[field.name])
        for field in fields(ClipOptions)
    ]


def _own_keys(kind: type) -> Iterator[Key]:
    meanings = _meanings(kind)
    for name, parameter in inspect.signature(kind).parameters.items():
        if name not in ("dim", "space"):
            yield Key(name, _kind(str(parameter.annotation)), parameter.default, meanings.get(name, ""))


def _keys_around(kind: Any) -> Iterator[Key]:
    yield Key("weight", "number", 1.0, "of this objective in the sum")
    if kind.identity_head:
        for name in SPACE_OPTIONS:
            yield Key(name, _ANY, None, "of the concept space, see docs/concepts.md")
    else:
        defaults = {"projector": kind.default_projector, **kind.default_head}
        for name, wanted in HEAD_OPTIONS.items():
            yield Key(name, wanted, defaults.get(name), "of the head")


def _meanings(kind: type) -> dict[str, str]:
    """What the docstring of a class says of its arguments, by name, in one line each."""
    text = inspect.getdoc(kind) or ""
    text = re.sub(r"^(?! )(?=[a-z_, ]+: )", "    ", text.partition("Args:\n")[2] or text, flags=re.MULTILINE)
    pieces = _NAMED.split(text.partition("\nRaises:")[0])
    found: dict[str, str] = {}
    for names, meaning in zip(pieces[1::2], pieces[2::2], strict=True):
        found |= {name: " ".join(meaning.split()) for name in names.split(", ")}
    return found


def _kind(annotation: str) -> str:
    """An annotation in words; anything for what is neither a number, a word nor a switch."""
    types = [_ANNOTATED.get(part.strip()) for part in annotation.split("|")]
    return " or ".join(_KINDS[one] for one in types if one is not None) if None not in types else _ANY


def _options_schema(keys: list[Key]) -> dict[str, Any]:
    properties = {}
    names = {word: name for name, word in _KINDS.items()}
    for key in keys:
        types = [names.get(word) for word in key.kind.split(" or ")]
        allowed = {} if None in types else {"type": types}
        properties[key.name] = {
            "description": key.meaning,
            "default": to_jsonable_python(key.default),
            **allowed,
        }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _walk(
    node: Mapping[str, Any], defs: Mapping[str, Any], prefix: str, value: Any
) -> Iterator[tuple[Key, Any]]:
    """The keys of a section; `value` is what a recipe has there, None without a recipe."""
    required = node.get("required", ())
    for name, given in node["properties"].items():
        found, inner = _resolved(given, defs)
        dotted = f"{prefix}{name}"
        here = None if value is None else value[name]
        if dotted == "objective":
            yield from _objectives(dotted, here)
        elif dotted == "model.options":
            for key in model_keys():
                yield key._replace(name=f"{dotted}.{key.name}"), (here or {}).get(key.name, key.default)
        elif inner is not None and (here is not None or value is None):
            yield from _walk(inner, defs, f"{dotted}.", here)
        elif name == "views":
            section = defs["ViewConfig"]
            for number, view in enumerate(here or [None]):
                yield from _walk(section, defs, f"{dotted}.{number}.", view)
        else:
            default = REQUIRED if name in required else found.get("default", {})
            yield (
                Key(dotted, _words(found), default, found.get("description", "")),
                default if value is None else here,
            )


def _objectives(prefix: str, given: Mapping[str, Mapping[str, Any]] | None) -> Iterator[tuple[Key, Any]]:
    known = objective_keys()
    for name, options in (given or {name: {} for name in known}).items():
        kind = (options or {}).get("objective", name)
        for key in known.get(kind, []):
            yield key._replace(name=f"{prefix}.{name}.{key.name}"), (options or {}).get(key.name, key.default)


def _resolved(
    given: Mapping[str, Any], defs: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """A property, and the section that it is, if it is one."""
    references = [one["$ref"] for one in (given, *given.get("anyOf", ())) if "$ref" in one]
    return given, defs[references[0].rpartition("/")[2]] if references else None


def _words(node: Mapping[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_words(one) for one in node["anyOf"]))
    if "$ref" in node:
        return "section"
    kind = _KINDS[node["type"]]
    if "prefixItems" in node:
        return f"{len(node['prefixItems'])} numbers"
    bounds = " and ".join(f"{sign} {node[name]:g}" for name, sign in _BOUNDS.items() if name in node)
    return f"{kind} {bounds}".strip()
