"""Recipes as YAML, no key of which stands twice, and their dotted overrides: ``train.batch_size=64``."""

from __future__ import annotations

from typing import Any

import yaml

from vidssl.errors import VidsslError


class _Loader(yaml.SafeLoader):
    """Plain data. YAML forbids a key to stand twice in a mapping, and PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise VidsslError(f"{key.value!r} stands twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """What a YAML text says, as plain data.

    Raises:
        VidsslError: it is none, or a key stands twice in one section; the line begins with what is wrong.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # of the safe kind
    except yaml.YAMLError as error:
        raise VidsslError(f"not a YAML file: {' '.join(str(error).split())}") from None


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set the value of a dotted key in plain data, in place; sections on the way are made.

    Args:
        raw: nested sections. override: ``key.subkey=value``, the value as YAML; a position in a list is a key too.

    Raises:
        VidsslError: not of that form, or the key leads through a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise VidsslError(f"override {override!r}: expected key=value, such as train.batch_size=64")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506  # of the safe kind
    except yaml.YAMLError:
        raise VidsslError(f"override {override!r}: {text!r} is not a YAML value") from None
    except VidsslError as error:
        raise VidsslError(f"override {override!r}: {error}") from None
    *parents, last = key.strip().split(".")
    node: Any = raw
    for part in parents:
        place = _place(node, part, override)
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[place]
        if not isinstance(node, dict | list):
            raise VidsslError(f"override {override!r}: {part!r} is a value ({node!r}), not a section")
    node[_place(node, last, override)] = value


def _place(node: dict[str, Any] | list[Any], part: str, override: str) -> Any:
    """A key of a section, or a position in a list."""
    if isinstance(node, dict):
        return part
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    raise VidsslError(f"override {override!r}: {part!r} is not a position in a list of {len(node)}")
