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
``csv``                header with `name`, commas or tabs; ``0,name``        X-CLIP, ActionCLIP, EZ-CLIP
``classind``           ``1 ApplyEyeMakeup``                                  UCF101
``names``              one name a line                                       mmaction2
``folder``             ``<class>.txt`` with one phrase a line                MAXI
=====================  ====================================================  ===========================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidssl.concepts.formats import json, text
from vidssl.concepts.formats.source import NotThisFormat, Source
from vidssl.concepts.prompts import ConceptFile
from vidssl.data.manifest.classes import content_lines, read_text
from vidssl.errors import VidsslError, did_you_mean

# In the order of trying: the particular before the general.
READERS: dict[str, Callable[[Source], ConceptFile]] = {
    "vidssl": json.read_own,
    "clip-benchmark": json.read_clip_benchmark,
    "indexed": json.read_indexed,
    "index-to-name": json.read_index_to_name,
    "cupl": json.read_sentences,
    "classes-templates": json.read_classes_and_templates,
    "definitions": json.read_definitions,
    "clip-prompts": text.read_clip_prompts,
    "csv": text.read_csv,
    "classind": text.read_class_index,
    "names": text.read_names,
}
# A label map is a plain list of names; where a folder is asked for, it was none.
_SYNONYMS = {"label-map": "names", "folder": "names"}


def read_concepts(path: str | Path, **reading: Any) -> ConceptFile:
    """Read class names, and descriptions where there are any, from a file of any of the formats above.

    Args:
        path: file, or folder of text files.
        reading: `format`, `classes` and `section`, see `read_with_format`.

    Raises:
        VidsslError: as `read_with_format`.
    """
    return read_with_format(path, **reading)[0]


def read_with_format(
    path: str | Path,
    format: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    section: str | None = None,
) -> tuple[ConceptFile, str]:
    """`read_concepts` together with the format that was found.

    Args:
        path: file, or folder of text files.
        format: insist on one format instead of finding it.
        classes: class names in the order of the indices, or a file of them; for files that are keyed by index.
        section: which data set to take from a file of several.

    Raises:
        VidsslError: when the file cannot be read, is of none of the formats (saying what was tried), or is of one but
            broken or ambiguous.
    """
    path = Path(path).expanduser()
    if format is not None and format not in (*_SYNONYMS, *READERS):
        raise VidsslError(f"format {format!r}: unknown{did_you_mean(format, READERS)} ({', '.join(READERS)})")
    if path.is_dir():
        return _read_folder(path), "folder"
    if isinstance(classes, str | Path):
        classes = read_concepts(classes).names
    source = Source(path, read_text(path), classes, section)
    tried: dict[str, list[str]] = {}  # reason -> formats
    for name in [_SYNONYMS.get(format, format)] if format else READERS:
        try:
            return READERS[name](source), name
        except NotThisFormat as reason:
            tried.setdefault(str(reason), []).append(name)
    reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in tried.items())
    raise VidsslError(f"{path}: not recognised; tried {reasons}")


def _read_folder(folder: Path) -> ConceptFile:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise VidsslError(f"{folder}: holds no <class>.txt")
    return Source(folder, "").described({file.stem: content_lines(read_text(file)) for file in files})
