"""The concept space: names and descriptions as unit vectors, onto which video features are projected.

    cat[k]  = normalise( mean_j g(template_j(name_k)) )
    desc[k] = normalise( mean_n g(sentence_kn) )

with g the frozen text encoder and every g(..) normalised first (the order of CLIP's own zero-shot classifier); row k of
both is concept k. Ranasinghe & Ryoo 2023, arXiv 2307.10922, describe the two spaces; the details here are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidssl.concepts.names import join_key, match_names
from vidssl.concepts.prompts import Problem, Section
from vidssl.concepts.text_towers import TextTower
from vidssl.errors import NAMED, VidsslError, check_choice

SPACE_FORMAT: Final = "vidssl.space/1"
Whitening = Literal["none", "center", "zca"]
AGGREGATIONS = ("mean_embedding", "mean_logit", "logmeanexp")


class SpaceConcept(Section):
    """One row: its names (aliases include those of concepts merged into it) and the sentences it was made of."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    descriptions: tuple[str, ...]


class NearDuplicate(Section):
    """Two concepts whose rows nearly coincide, so that a softmax splits its mass between them."""

    space: Literal["category", "description"]
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


class ConceptLogits(NamedTuple):
    """Cosines of features with the K concepts of each space, (..., K)."""

    category: Tensor
    description: Tensor


class ConceptSpace(nn.Module):
    """K concepts in the joint space of dimension D. It has no parameters, and its buffers stay out of checkpoints: a
    space is identified by its `sha256` and stored by `save_space`.

    Args:
        info: what the matrices were made of.
        category: (K, D) unit rows.
        description: (K, D) unit rows.
        sentences: (K, M, D) unit vectors of each concept's sentences, zero beyond its number.
        counts: (K,) int64, number of sentences of each concept, 1 to M.

    Raises:
        VidsslError: when the shapes do not fit together.
    """

    category: Tensor
    description: Tensor
    sentences: Tensor
    counts: Tensor

    def __init__(
        self, info: SpaceInfo, category: Tensor, description: Tensor, sentences: Tensor, counts: Tensor
    ) -> None:
        super().__init__()
        shape = (len(info.concepts), category.shape[-1])
        if not tuple(category.shape) == tuple(description.shape) == tuple(sentences.shape[::2]) == shape or (
            tuple(counts.shape) != shape[:1]
        ):
            raise VidsslError(
                f"concept space: {len(info.concepts)} concepts, but category {tuple(category.shape)}, description "
                f"{tuple(description.shape)}, sentences {tuple(sentences.shape)}, counts {tuple(counts.shape)}"
            )
        self.info = info
        for name, tensor in (("category", category), ("description", description), ("sentences", sentences)):
            self.register_buffer(name, tensor.float().contiguous(), persistent=False)
        self.register_buffer("counts", counts.long(), persistent=False)

    def __len__(self) -> int:
        return len(self.info.concepts)

    @property
    def dim(self) -> int:
        """D, the width of the joint space."""
        return self.category.shape[1]

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers in the order of the rows."""
        return tuple(concept.id for concept in self.info.concepts)

    @property
    def names(self) -> tuple[str, ...]:
        """Display names in the order of the rows."""
        return tuple(concept.name for concept in self.info.concepts)

    @property
    def sha256(self) -> str:
        """Hash (hex) over the words, the options and the float32 values."""
        digest = hashlib.sha256(self.info.model_dump_json().encode())
        for tensor in (self.category, self.description, self.sentences, self.counts):
            digest.update(f"{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def rows_of(self, names: Iterable[str]) -> list[int | None]:
        """Rows of class names in any spelling, by name, then by alias; None for names that are no concept."""
        wanted = list(names)
        owners: dict[str, set[int]] = {}
        for row, concept in enumerate(self.info.concepts):
            for alias in concept.aliases:
                owners.setdefault(join_key(alias), set()).add(row)
        aliases = [alias for alias, rows in owners.items() if len(rows) == 1]  # shared ones name no row
        found = match_names(wanted, self.names)
        for place, other in enumerate(match_names(wanted, aliases)):
            if found[place] is None and other is not None:
                (found[place],) = owners[aliases[other]]
        return found

    def check_encoder(self, encoder: TextTower | str, source: str = "concept space") -> None:
        """Refuse to be used with another text encoder than the one it was built with.

        Args:
            encoder: the tower, or its fingerprint.
            source: what to name in the error.

        Raises:
            VidsslError: naming both fingerprints.
        """
        fingerprint = encoder if isinstance(encoder, str) else encoder.fingerprint
        if fingerprint != self.info.encoder:
            raise VidsslError(
                f"{source} {self.info.name!r}: built with text encoder {self.info.encoder[:12]}, not with "
                f"{fingerprint[:12]}; build it again from its concept file"
            )

    def project(
        self, z: Tensor, aggregate: str = "mean_embedding", temperature: float = 0.01
    ) -> ConceptLogits:
        """Cosines of features with all concepts of both spaces, differentiable, float32 or wider under any autocast.

        Args:
            z: (..., D) features in the joint space, not necessarily normalised.
            aggregate: how the sentences of a concept make its description logit. ``mean_embedding``: the cosine with
                the normalised mean of their vectors; ``mean_logit``: the mean of the cosines; ``logmeanexp``: between
                mean and maximum, ``t * log(mean(exp(cosine / t)))``.
            temperature: t of ``logmeanexp``.

        Returns:
            `category` and `description`, (..., K) each, in [-1, 1].

        Raises:
            VidsslError: for another width or an unknown `aggregate`.
        """
        if z.shape[-1] != self.dim:
            raise VidsslError(
                f"concept space: features of width {z.shape[-1]}, but its concepts have {self.dim}"
            )
        check_choice("aggregate", aggregate, AGGREGATIONS, NAMED)
        with torch.autocast(z.device.type, enabled=False):
            dtype = torch.promote_types(z.dtype, torch.float32)
            unit = F.normalize(z.to(dtype), dim=-1)
            category = unit @ self.category.to(dtype).T
            if aggregate == "mean_embedding":
                return ConceptLogits(category, unit @ self.description.to(dtype).T)
            cosines = torch.einsum("...d,kmd->...km", unit, self.sentences.to(dtype))
            counts = self.counts.to(dtype)
            if aggregate == "mean_logit":
                return ConceptLogits(category, cosines.sum(dim=-1) / counts)
            places = torch.arange(cosines.shape[-1], device=cosines.device)
            empty = places >= self.counts[:, None]
            soft = torch.logsumexp((cosines / temperature).masked_fill(empty, -torch.inf), dim=-1)
            return ConceptLogits(category, temperature * (soft - counts.log()))

    forward = project
