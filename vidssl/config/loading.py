"""Recipes read and validated: dotted overrides, shipped recipes by name, and errors of one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from vidssl import schema
from vidssl.config.recipe import Config
from vidssl.errors import VidsslError, did_you_mean
from vidssl.overrides import apply_override, read_yaml
from vidssl.resources import resource_folder

S = TypeVar("S", bound=schema.Section)
_INSTEAD = {"data.train": "features"}  # what a section may have instead of a key


def load_config(
    path: str | Path, overrides: Sequence[str] = (), defaults: Mapping[str, str] | None = None
) -> Config:
    """Read a recipe, apply dotted overrides (`train.batch_size=64`), validate.

    Args:
        path: a YAML file, or the name of a recipe that ships with the package (``hsic`` or ``configs/hsic.yaml``).
        overrides: ``key.subkey=value`` strings; values are read as YAML.
        defaults: values of sections' keys that the recipe leaves out, by dotted name.

    Raises:
        VidsslError: a line for each mistake, naming the file, the key, the value, what is allowed and the closest known
            name.
    """
    file = find_config(path)
    try:
        raw = read_yaml(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise VidsslError(f"{path}: not a YAML file: {error}") from error
    except VidsslError as error:
        raise VidsslError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(raw), repr(raw)[:80])
        raise VidsslError(f"{path}: expected `key: value` lines, found {found}")
    for override in overrides:
        apply_override(raw, override)
    for name, value in (defaults or {}).items():
        section, _, key = name.rpartition(".")
        given = raw.get(section, {})
        if isinstance(given, dict) and not given.keys() & {key, _INSTEAD.get(name)}:
            raw[section] = {**given, key: value}
    return validate_config(raw, str(path))


def validate_config(raw: Mapping[str, Any], source: str, section: type[S] = Config) -> S:  # type: ignore[assignment]
    """Validate plain data against the schema of a recipe, or of a section of one.

    Raises:
        VidsslError: with a line for each mistake, which begins with `source`.
    """
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise VidsslError("\n".join(f"{source}: {line}" for line in _lines(error, section))) from None


def find_config(path: str | Path) -> Path:
    """The file itself, or the shipped recipe of that name."""
    if Path(path).is_file():
        return Path(path)
    if (Path(path) / "config.yaml").is_file():
        raise VidsslError(f"{path}: is the folder of a run; its recipe is {Path(path) / 'config.yaml'}")
    shipped = {file.stem: file for file in sorted(resource_folder("configs").glob("*.yaml"))}
    if Path(path).parent.name in ("", "configs") and Path(path).stem in shipped:
        return shipped[Path(path).stem]
    guess = did_you_mean(Path(path).name, [file.name for file in Path(path).parent.glob("*.yaml")])
    guess = guess or did_you_mean(Path(path).stem, shipped)
    raise VidsslError(f"{path}: no such recipe{guess} (shipped: {', '.join(shipped)})")


def _lines(error: ValidationError, section: type[schema.Section]) -> list[str]:
    """What is wrong, a line for each mistake."""
    lines = []
    for detail in schema.mistakes(section, error):
        key = ".".join(map(str, detail["loc"]))
        if detail["type"] == "extra_forbidden":
            line = schema.unknown_key(section, detail["loc"])
        elif detail["type"] == "missing":
            line = f"{key}: missing; set it in the file or with {key}=…"
        else:
            text, given = schema.in_words(detail), detail["input"]
            value = "" if isinstance(given, dict) else f"{'null' if given is None else repr(given)}: "
            line = f"{key}: {value}{text}" if key else text
        lines.append(line)
    return lines
