"""One reader for all the files in which class names and descriptions are kept; the format is found by looking.

=====================  ====================================================  ===========================
format                 shape                                                 used by
=====================  ====================================================  ===========================
``vidssl``             ``{"format": "vidssl.concepts/1", …}``                this package
``clip-benchmark``     ``{data set: [name]}``, ``{data set: {class: […]}}``  CLIP_benchmark
``indexed``            ``{"0": [sentence]}``, ``{"0": "Name: sentence"}``    OST; FROSTER, TC-CLIP
``index-to-name``      ``{"0": name}``, ``{name: "0"}``                      Something-Something
``cupl``               ``{class: [sentence]}``, ``{class: sentence}``        CuPL, Menon & Vondrick
``classes-templates``  ``{"classes": [name], "templates": ["… {}"]}``
``definitions``        ``[{"word": name, "defn": text}]``                    Open-VCLIP
``clip-prompts``       Markdown with ``classes = […]``                       CLIP
``csv``                header with `name`, commas or tabs                    X-CLIP, ActionCLIP, EZ-CLIP
``classind``           ``1 ApplyEyeMakeup``                                  UCF101
``names``              one name a line                                       mmaction2
``folder``             ``<class>.txt`` with one phrase a line                MAXI
=====================  ====================================================  ===========================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vidssl.concepts import json_readers, text_readers
from vidssl.concepts.prompts import ConceptFile
from vidssl.concepts.sources import NotThisFormat, Source, described, pick_section, read_source
from vidssl.errors import VidsslError, did_you_mean

# In the order of trying: the particular before the general.
READERS: dict[str, Callable[[Source], ConceptFile]] = {
    "vidssl": json_readers.read_own,
    "clip-benchmark": json_readers.read_clip_benchmark,
    "indexed": json_readers.read_indexed,
    "index-to-name": json_readers.read_index_to_name,
    "cupl": json_readers.read_sentences,
    "classes-templates": json_readers.read_classes_and_templates,
    "definitions": json_readers.read_definitions,
    "clip-prompts": text_readers.read_clip_prompts,
    "csv": text_readers.read_csv,
    "classind": text_readers.read_class_index,
    "names": text_readers.read_names,
}


def read_concepts(
    path: str | Path,
    format: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    section: str | None = None,
) -> ConceptFile:
    """Read class names, and descriptions where there are any, from a file of any of the formats above.

    Args:
        path: file, or folder of text files.
        format: insist on one format instead of finding it.
        classes: class names in the order of the indices, or a file of them; for files that are keyed by index.
        section: which data set to take from a file of several.

    Raises:
        VidsslError: when the file cannot be read, is of none of the formats (saying what was tried), or is of one but
            broken or ambiguous.
    """
    return read_with_format(path, format, classes, section)[0]


def detect_format(path: str | Path, classes: Sequence[str] | None = None, section: str | None = None) -> str:
    """The format in which `read_concepts` reads a file.

    Raises:
        VidsslError: as `read_concepts`.
    """
    return read_with_format(path, None, classes, section)[1]


def read_with_format(
    path: str | Path,
    format: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    section: str | None = None,
) -> tuple[ConceptFile, str]:
    """`read_concepts` together with the format that was found."""
    path = Path(path).expanduser()
    if format is not None and format not in ("folder", "label-map", *READERS):
        raise VidsslError(f"format {format!r}: unknown{did_you_mean(format, READERS)} ({', '.join(READERS)})")
    if path.is_dir():
        return _read_folder(path), "folder"
    if isinstance(classes, str | Path):
        classes = read_concepts(classes).names
    source = read_source(path, classes, section)
    tried: dict[str, list[str]] = {}  # reason -> formats
    for name in [_canonical(format)] if format else READERS:
        try:
            return READERS[name](source), name
        except NotThisFormat as reason:
            tried.setdefault(str(reason), []).append(name)
    reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in tried.items())
    raise VidsslError(f"{path}: not recognised; tried {reasons}")


def read_templates(path: str | Path, section: str | None = None) -> tuple[str, ...]:
    """Category templates from CLIP's ``prompts.md``, CLIP_benchmark's ``{data set: [template]}``, or one a line.

    Raises:
        VidsslError: when there are none, or those of several data sets and `section` does not choose.
    """
    source = read_source(Path(path).expanduser(), section=section)
    try:
        table = {key: value for key, value in source.table.items() if isinstance(value, list)}
    except NotThisFormat:
        try:
            sections = text_readers.clip_sections(source)
            table = {key: literals.get("templates", []) for key, literals in sections.items()}
        except NotThisFormat:
            table = {source.path.stem: source.lines}
            source = Source(source.path, source.text)
    templates = table[pick_section(source, list(table))] if table else []
    if not templates or not all(
        isinstance(text, str) and re.search(r"\{(c|name)?\}", text) for text in templates
    ):
        raise VidsslError(f"{path}: no templates with {{}}")
    return tuple(templates)


def _canonical(format: str) -> str:
    """A label map is a plain list of names; a folder was dealt with."""
    return {"label-map": "names", "folder": "names"}.get(format, format)


def _read_folder(folder: Path) -> ConceptFile:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise VidsslError(f"{folder}: holds no <class>.txt")
    return described(Source(folder, ""), {file.stem: read_source(file).lines for file in files})
