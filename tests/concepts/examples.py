"""Concept files for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from vidssl.concepts.names import display_name, slug
from vidssl.concepts.prompts import Concept, ConceptFile, Provenance

SENTENCES = {
    "juggling": (
        "A juggler tosses three clubs in turn and catches each one.",
        "Three small balls rise from one palm and drop into the other.",
        "A street performer stands on paving stones before a half circle of onlookers.",
        "More objects are in the air than there are hands to hold them.",
    ),
    "swimming": (
        "A swimmer reaches forward, pulls an arm through the water and kicks.",
        "Goggles and a rubber cap are worn while both arms pull past a lane rope.",
        "Tiled walls and painted lanes lie under clear rippling water.",
        "The body stays flat at the surface and moves along with every stroke.",
    ),
    "archery": (
        "An archer raises a bow, draws the string to the chin and lets go.",
        "One hand holds the curved wood while two fingers release the feathered shaft.",
        "A round target with coloured rings stands at the end of a mown field.",
        "One arm is straight, the other bent, and the string does all the work.",
    ),
}


def example(*names: str) -> ConceptFile:
    """A small file of our own kind; names without sentences above get four short ones."""
    concepts = []
    for name in names or SENTENCES:
        texts = SENTENCES.get(name) or tuple(f"Sentence {n} on {slug(name)[::-1]} alone." for n in range(4))
        concepts.append(Concept(id=slug(name), name=display_name(name), descriptions=texts))
    return ConceptFile(
        name="example",
        license="Apache-2.0",
        concepts=tuple(concepts),
        provenance=Provenance(generator="hand", created="2026-01-31"),
    )


class HashTower:
    """A text encoder whose feature of a text is a normal draw seeded by the text; a word is a token."""

    def __init__(self, width: int = 16, context_length: int = 24, seed: int = 0) -> None:
        self.width, self.context_length, self.seed = width, context_length, seed
        self.batches: list[int] = []

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.width} {self.seed}".encode()).hexdigest()

    def num_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def feature(self, text: str) -> Tensor:
        read = " ".join(text.split()[: self.context_length - 2])
        seed = int.from_bytes(hashlib.sha256(f"{self.seed} {read}".encode()).digest()[:4], "big")
        generator = torch.Generator().manual_seed(seed)
        return 3.0 * torch.randn(self.width, generator=generator) + 1.0

    def encode(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        self.batches.append(len(texts))
        return torch.stack([self.feature(text) for text in texts])
