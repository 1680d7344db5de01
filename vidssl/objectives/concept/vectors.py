"""What concept objectives read of a concept space: two matrices and a hash."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vidssl.errors import VidsslError

SPACES = ("category", "description")


class ConceptVectors(Protocol):
    """A `vidssl.concepts.space.ConceptSpace`, or anything with these; row k of both matrices is concept k."""

    @property
    def category(self) -> Tensor:
        """(K, D) unit rows made of names."""

    @property
    def description(self) -> Tensor:
        """(K, D) unit rows made of descriptions."""

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


def hash_tensor(sha256: str) -> Tensor:
    """(32,) uint8: a checkpoint holds tensors only."""
    return torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)


def hash_of(tensor: Tensor) -> str:
    """The hex digits back."""
    return bytes(tensor.cpu().to(torch.uint8).tolist()).hex()
