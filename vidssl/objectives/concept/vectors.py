"""What concept objectives read of a concept space: two matrices and a hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.concept.spaces import SPACES


class AttributeVectors(Protocol):
    """M attributes of one kind."""

    @property
    def vectors(self) -> Tensor:
        """(M, D) unit rows."""

    @property
    def incidence(self) -> Tensor:
        """(K, M), above 0 where the concept has the attribute."""


class ConceptVectors(Protocol):
    """A `vidssl.concepts.space.ConceptSpace`, or anything with these; row k of both matrices is concept k."""

    @property
    def category(self) -> Tensor:
        """(K, D) unit rows made of names."""

    @property
    def description(self) -> Tensor:
        """(K, D) unit rows made of descriptions."""

    @property
    def attributes(self) -> Mapping[str, AttributeVectors]:
        """By kind; read only where an objective works in spaces of attributes."""

    @property
    def sha256(self) -> str:
        """Hash (64 hex digits) of all that the matrices depend on."""


def unit_matrices(space: ConceptVectors) -> tuple[Tensor, Tensor]:
    """Copies of category and description, so that nothing done to an objective changes the space.

    Raises:
        VidsslError: if they are not (K, D) with K >= 2 unit rows.
    """
    category, description = (x.detach().clone() for x in (space.category, space.description))
    if category.ndim != 2 or category.shape != description.shape or len(category) < 2:
        shapes = f"{tuple(category.shape)} and {tuple(description.shape)}"
        raise VidsslError(f"concept: vectors of shapes {shapes}: must be (K, D), row-aligned, K at least 2")
    for name, vectors in zip(SPACES, (category, description), strict=True):
        if not (vectors.norm(dim=1) - 1).abs().max() < 1e-3:
            raise VidsslError(f"concept: the {name} vectors are not unit rows")
    return category, description


def attribute_matrices(space: ConceptVectors, kind: str) -> tuple[Tensor, Tensor]:
    """Copies of vectors (M, D) and incidence (K, M) of one kind of attribute.

    Raises:
        VidsslError: if the space was built without, or they do not fit together with its names.
    """
    found = space.attributes.get(kind)
    if found is None:
        there = ", ".join(space.attributes) or "none"
        raise VidsslError(f"concept: this space has no attributes of the kind {kind} (it has {there})")
    vectors, incidence = found.vectors.detach().clone(), found.incidence.detach().clone()
    count, width = space.category.shape
    if vectors.ndim != 2 or vectors.shape[1] != width or incidence.shape != (count, len(vectors)):
        raise VidsslError(
            f"concept: {kind} vectors {tuple(vectors.shape)} and incidence {tuple(incidence.shape)}: must be (M, {width}) "
            f"and ({count}, M)"
        )
    if not (vectors.norm(dim=1) - 1).abs().max() < 1e-3:
        raise VidsslError(f"concept: the {kind} vectors are not unit rows")
    if not bool((incidence > 0).any(dim=0).all()):
        raise VidsslError(f"concept: some {kind} belong to no concept")
    return vectors, incidence


def hash_tensor(sha256: str) -> Tensor:
    """(32,) uint8: a checkpoint holds tensors only."""
    return torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)


def hash_of(tensor: Tensor) -> str:
    """The hex digits back."""
    return bytes(tensor.cpu().to(torch.uint8).tolist()).hex()
