"""Choosing the concepts to train or to evaluate with: by data set, by file, or both, joined by name.

``k400`` are the classes of Kinetics-400. ``k400+ucf101+hmdb51`` are the 530 names of three data sets, the vocabulary of
LSS (Ranasinghe & Ryoo 2023, arXiv 2307.10922); it holds the names of the classes of two usual test sets, so that a
zero-shot result on them is not one with unseen names: report both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vidssl.concepts.datasets import class_names, datasets
from vidssl.concepts.formats.read import read_concepts, read_with_format
from vidssl.concepts.names import join_key
from vidssl.concepts.prompts import Concept, ConceptFile, concepts_from_names
from vidssl.concepts.templates import category_templates
from vidssl.errors import VidsslError, check_choice
from vidssl.resources import resource_folder

SHIPPED = ("k400-ucf101-hmdb51", "kinetics600-700", "ssv2")
# For rendered videos, in words that a small CLIP of theirs knows; no actions. "motions" is the vocabulary of `vidssl demo`.
RENDERED = ("sprites", "motions")
_FILES = (*SHIPPED, *RENDERED)
DEFAULT_VOCABULARY = "k400"  # of a concept objective whose recipe names none
PRESETS = ("k400", "k600", "k700", "ucf101", "hmdb51", "ssv2")


def load_concepts(
    given: str | Path | Iterable[str | Path], templates: str | Sequence[str] | None = None
) -> ConceptFile:
    """The concepts of data sets and files, each once.

    Args:
        given: names of data sets (those with a shipped class list; `PRESETS` have descriptions), of shipped files
            (`SHIPPED`), or paths of files of any format that `read_concepts` knows; several as a list or joined by
            ``+``.
        templates: category templates to use instead of the files' own: a preset, a template, or a list of templates.

    Returns:
        One file; its rows are in the order given, and a name that several bring keeps the words of the first.

    Raises:
        VidsslError: for an unknown name, or when the parts want different templates and `templates` does not decide.
    """
    parts = _parts(given)
    if not parts:
        raise VidsslError("concepts: none given")
    files = [_load_one(part) for part in parts]
    first = files[0]
    if templates is None and len({file.templates for file in files}) > 1:
        shown = ", ".join(dict.fromkeys(f"{file.name}: {file.templates.category[0]!r}" for file in files))
        listed = "+".join(map(str, parts))
        raise VidsslError(f"concepts {listed}: their templates differ ({shown}); choose with templates=")
    category = first.templates.category if templates is None else category_templates(templates)
    return ConceptFile(
        name="+".join(file.name for file in files),
        license=first.license if len({file.license for file in files}) == 1 else None,
        concepts=merge_by_name(concept for file in files for concept in file.concepts),
        templates=first.templates.model_copy(update={"category": category}),
        provenance=first.provenance if len({file.provenance for file in files}) == 1 else None,
    )


def read_given(given: str | Path, **reading: Any) -> tuple[ConceptFile, str]:
    """One file in any format, or data sets by name, together with the format: what the commands are given.

    Args:
        given: see `load_concepts`.
        reading: `format`, `classes`, `section` of a file, see `read_concepts`.

    Raises:
        VidsslError: as `load_concepts` for names, as `read_concepts` for files.
    """
    if not Path(given).expanduser().exists() and not Path(given).suffix:
        return load_concepts(given), "vidssl"
    return read_with_format(given, **reading)


def merge_by_name(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """Each name once, in the order of first appearance, with the sources and aliases of all.

    Raises:
        VidsslError: when two names have one id.
    """
    merged: dict[str, Concept] = {}
    for concept in concepts:
        key = join_key(concept.name)
        before = merged.setdefault(key, concept)
        if before is not concept:
            joined = {
                "sources": tuple(dict.fromkeys(before.sources + concept.sources)),
                "aliases": tuple(dict.fromkeys(before.aliases + concept.aliases)),
                "descriptions": before.descriptions or concept.descriptions,
                "attributes": before.attributes or concept.attributes,
            }
            merged[key] = before.model_copy(update=joined)
    ids: dict[str, str] = {}
    for key, concept in merged.items():
        other = ids.setdefault(concept.id, concept.name)
        if other != concept.name:
            raise VidsslError(f"concepts {other!r} and {concept.name!r} have the same id {concept.id!r}")
        # An alias of one may be the name of another once files are joined.
        aliases = tuple(alias for alias in concept.aliases if join_key(alias) not in merged)
        merged[key] = concept.model_copy(update={"aliases": aliases})
    return tuple(merged.values())


@cache
def shipped_file(name: str) -> ConceptFile:
    """A concept file of this package.

    Raises:
        VidsslError: for another name.
    """
    check_choice("shipped concepts", name, _FILES, "{name} {value!r}: not there{guess} ({allowed})")
    return read_concepts(resource_folder("prompts") / f"{name}.json", format="vidssl")


def _parts(given: str | Path | Iterable[str | Path]) -> list[str | Path]:
    if isinstance(given, str) and not Path(given).expanduser().exists():
        return [part.strip() for part in given.split("+")]
    if isinstance(given, str | Path):
        return [given]
    return [part for item in given for part in _parts(item)]


def _load_one(part: str | Path) -> ConceptFile:
    if part in _FILES:
        return shipped_file(str(part))
    if part in datasets():
        return _dataset(str(part))
    path = Path(part).expanduser()
    if not path.exists():
        message = "{name} {value!r}: no such file or data set{guess} ({allowed})"
        check_choice("concepts", str(part), (*datasets(), *_FILES), message)
    return read_concepts(path)


def _dataset(name: str) -> ConceptFile:
    """The shipped words where there are some for every class, otherwise names alone."""
    files = [shipped_file(file) for file in SHIPPED]
    if name in PRESETS:  # from all files, because Kinetics-600 is spread over two of them
        files = [file for file in files if any(name in concept.sources for concept in file.concepts)]
        found = [concept for file in files for concept in file.concepts if name in concept.sources]
    else:
        names = class_names(name)
        by_key = {join_key(concept.name): concept for file in files for concept in file.concepts}
        found = [by_key[join_key(given)] for given in names if join_key(given) in by_key]
        if len(found) < len(names):
            return concepts_from_names(names, name, source=name)
    return files[0].model_copy(update={"name": name, "concepts": tuple(found)})
