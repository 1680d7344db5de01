"""The concept space: names and descriptions as unit vectors, onto which video features are projected.

    cat[k]  = normalise( mean_j g(template_j(name_k)) )
    desc[k] = normalise( mean_n g(sentence_kn) )

with g the frozen text encoder and every g(..) normalised first (the order of CLIP's own zero-shot classifier); row k of
both is concept k. Ranasinghe & Ryoo 2023, arXiv 2307.10922, describe the two spaces; the details here are ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor

from vidssl.concepts.prompts import Problem
from vidssl.errors import VidsslError
from vidssl.files import write_tensors
from vidssl.schema import Section

SPACE_FORMAT: Final = "vidssl.space/1"
TENSORS = ("category", "description", "sentences", "counts")
Whitening = Literal["none", "center", "zca"]
Part = Literal["category", "description"]


class SpaceConcept(Section):
    """One row: its names (aliases include those of concepts merged into it) and the sentences it was made of."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    descriptions: tuple[str, ...]


class NearDuplicate(Section):
    """Two concepts whose rows nearly coincide, so that a softmax splits its mass between them."""

    space: Part
    first: str
    second: str
    cosine: float


class SpaceInfo(Section):
    """All that a space depends on.

    Attributes:
        name: of the concept file.
        concepts: in the order of the rows.
        category_templates, description_templates: as filled.
        encoder: fingerprint of the text encoder.
        context_length: tokens that it reads.
        whiten, merge_threshold: what was done to the rows.
        merged: id of a concept that has no row of its own -> id of the concept it was merged into.
        near_duplicates: closest pairs before merging and whitening; `near_duplicate_count` of them in all.
        problems: what was found while building, such as texts that had to be cut.
        key: sha256 over the words, the encoder and the options; equal keys mean equal spaces.
    """

    format: Literal["vidssl.space/1"] = SPACE_FORMAT
    name: str
    concepts: tuple[SpaceConcept, ...]
    category_templates: tuple[str, ...]
    description_templates: tuple[str, ...]
    encoder: str
    context_length: int
    whiten: Whitening = "none"
    merge_threshold: float | None = None
    merged: tuple[tuple[str, str], ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()
    near_duplicate_count: int = 0
    problems: tuple[Problem, ...] = ()
    key: str


@dataclass(frozen=True, eq=False)
class AttributeSpace:
    """M attributes of one kind in the joint space, and which of the K concepts have them.

    Attributes:
        words: M of them, in the order of the rows.
        vectors: (M, D) unit rows.
        incidence: (K, M) uint8, 1 where the concept has the attribute; each attribute has one.
    """

    words: tuple[str, ...]
    vectors: Tensor
    incidence: Tensor


@dataclass(frozen=True, eq=False)
class ConceptSpace:
    """K concepts in the joint space of dimension D.

    Attributes:
        info: what the matrices were made of.
        category: (K, D) unit rows.
        description: (K, D) unit rows.
        sentences: (K, M, D) unit vectors of each concept's sentences, zero beyond its number.
        counts: (K,) int64, number of sentences of each concept, 1 to M.
        attributes: spaces of attributes beside the two, by kind.

    Raises:
        VidsslError: when the shapes do not fit together.
    """

    info: SpaceInfo
    category: Tensor
    description: Tensor
    sentences: Tensor
    counts: Tensor
    attributes: Mapping[str, AttributeSpace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, dim = len(self.info.concepts), self.category.shape[-1]
        shapes = {name: tuple(getattr(self, name).shape) for name in TENSORS}
        matrices = (shapes["category"], shapes["description"], shapes["sentences"][::2])
        if set(matrices) != {(count, dim)} or shapes["counts"] != (count,):
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise VidsslError(f"concept space: {count} concepts, but {listed}")
        for kind, own in self.attributes.items():
            rows, pairs = tuple(own.vectors.shape), tuple(own.incidence.shape)
            if (rows, pairs) != ((len(own.words), dim), (count, len(own.words))):
                found = f"{len(own.words)} {kind}, but vectors {rows} and incidence {pairs}"
                raise VidsslError(f"concept space: {count} concepts and {found}")

    def __len__(self) -> int:
        return len(self.info.concepts)

    @property
    def sha256(self) -> str:
        """Hash (hex) over the words, the options and the float32 values."""
        digest = hashlib.sha256(self.info.model_dump_json().encode())
        if self.attributes:
            digest.update(_words(self).encode())
        for tensor in _tensors(self).values():
            digest.update(f"{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def record(self) -> dict[str, Any]:
        """`concepts` (their number), `dim`, `attributes` (number of each kind), `key`, `sha256`, `encoder` (fingerprint), `merged`, `near_duplicates`
        (closest pairs), `near_duplicate_count` and `problems`, JSON-able.
        """
        info = self.info
        return {
            "file": info.name,
            "concepts": len(self),
            "dim": self.category.shape[1],
            "attributes": {kind: len(own.words) for kind, own in self.attributes.items()},
            "key": info.key,
            "sha256": self.sha256,
            "encoder": info.encoder,
            "merged": dict(info.merged),
            "near_duplicates": [pair.model_dump() for pair in info.near_duplicates],
            "near_duplicate_count": info.near_duplicate_count,
            "problems": [problem._asdict() for problem in info.problems],
            "output": None,
        }


def save_space(space: ConceptSpace, path: Path) -> Path:
    """Write a space as one safetensors file whose header holds the words, whole or not at all."""
    metadata = {"format": SPACE_FORMAT, "info": space.info.model_dump_json(), "sha256": space.sha256}
    if space.attributes:
        metadata["attributes"] = _words(space)
    return write_tensors(path, _tensors(space), metadata)


def load_space(path: Path) -> ConceptSpace:
    """Read a space.

    Raises:
        VidsslError: when the file is no concept space or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format")
            if found != SPACE_FORMAT:
                raise VidsslError(f"no concept space: format {found!r}, not {SPACE_FORMAT!r}")
            info = SpaceInfo.model_validate_json(metadata["info"])
            attributes = {
                kind: AttributeSpace(
                    tuple(words), *(file.get_tensor(f"{kind}.{name}") for name in ("vectors", "incidence"))
                )
                for kind, words in json.loads(metadata.get("attributes", "{}")).items()
            }
            category, description, sentences, counts = (file.get_tensor(name) for name in TENSORS)
            space = ConceptSpace(info, category, description, sentences, counts, attributes)
    # ValueError: also VidsslError and pydantic's
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0][:120]
        raise VidsslError(f"{path}: cannot be read as a concept space ({reason})") from None
    if space.sha256 != metadata.get("sha256"):
        raise VidsslError(f"{path}: damaged: its content does not have the sha256 it states")
    return space


def _tensors(space: ConceptSpace) -> dict[str, Tensor]:
    """All of them by name."""
    own = {
        f"{kind}.{name}": getattr(one, name)
        for kind, one in space.attributes.items()
        for name in ("vectors", "incidence")
    }
    return {name: getattr(space, name) for name in TENSORS} | own


def _words(space: ConceptSpace) -> str:
    """JSON of the attributes' words by kind."""
    return json.dumps({kind: own.words for kind, own in space.attributes.items()})
