"""A small concept space, and the concept losses and priors once more in plain NumPy loops."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

Array = np.ndarray[Any, np.dtype[np.float64]]


class Kind(NamedTuple):
    """Attributes of one kind."""

    vectors: Tensor
    incidence: Tensor


class Space(NamedTuple):
    """What `ConceptObjective` reads of a concept space."""

    category: Tensor
    description: Tensor
    sha256: str
    attributes: Mapping[str, Kind] = {}


def unit(n: int, d: int, seed: int = 0) -> Tensor:
    """(n, d) float64 unit rows."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


def space(concepts: int = 7, dim: int = 4, seed: int = 0) -> Space:
    """Random rows; the hash is that of the seed."""
    digest = hashlib.sha256(f"{concepts} {dim} {seed}".encode()).hexdigest()
    return Space(unit(concepts, dim, 100 + seed).float(), unit(concepts, dim, 200 + seed).float(), digest)


def attributed_space(concepts: int = 7, dim: int = 4) -> Space:
    """With three scenes, one concept having none, and four motions."""
    scene = torch.zeros(concepts, 3, dtype=torch.uint8)
    motion = torch.zeros(concepts, 4, dtype=torch.uint8)
    for k in range(concepts):
        motion[k, [k % 4, k % 3]] = 1
        if k:
            scene[k, [k % 3, k % 2]] = 1
    kinds = {
        "scene": Kind(unit(3, dim, 300).float(), scene),
        "motion": Kind(unit(4, dim, 400).float(), motion),
    }
    return space(concepts, dim)._replace(attributes=kinds)


def cosines(z: Tensor, vectors: Tensor) -> Array:
    """(B, K) of one view."""
    rows = z.detach().numpy().astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.array([[float(row @ v) for v in vectors.double().numpy()] for row in rows])


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def probs(logits: Array, temperature: float, bias: Array | float = 0.0) -> Array:
    """(B, K) softmax((logits - bias) / temperature), row by row."""
    return np.stack([softmax((row - bias) / temperature) for row in logits])


def entropy(p: Array) -> float:
    """Of one distribution, nats."""
    return float(-sum(x * np.log(x) for x in p if x > 0))


def cross_entropy(p: Array, logits: Array, temperature: float) -> float:
    """Mean over rows of H(p, softmax(logits / temperature))."""
    log_q = [np.log(softmax(row / temperature)) for row in logits]
    return float(np.mean([-(target * row).sum() for target, row in zip(p, log_q, strict=True)]))


def distillation(
    student: Sequence[Array],
    targets: Sequence[Array],
    temperature: float,
    seen: Sequence[int] | None = None,
    skip: bool = True,
) -> float:
    seen = range(len(targets)) if seen is None else seen
    values = [
        cross_entropy(targets[t], student[s], temperature)
        for t in range(len(targets))
        for s in range(len(student))
        if not (skip and s == seen[t])
    ]
    return float(np.mean(values))


def alignment(
    student_c: Sequence[Array],
    student_d: Sequence[Array],
    targets_c: Sequence[Array],
    targets_d: Sequence[Array],
    temperature: float,
    sigma: float,
) -> float:
    forth = distillation(student_d, targets_c, temperature, skip=False)
    back = distillation(student_c, targets_d, temperature, skip=False)
    return (forth + sigma * back) / (1 + sigma)


def sinkhorn(logits: Array, temperature: float, iterations: int) -> Array:
    """(N, K) plan scaled to rows of mass 1, by dividing a matrix by its column and row sums in turn."""
    plan = np.exp(logits / temperature)
    for _ in range(iterations):
        plan = plan / plan.sum(axis=0, keepdims=True) / plan.shape[1]
        plan = plan / plan.sum(axis=1, keepdims=True) / plan.shape[0]
    return np.asarray(plan * plan.shape[0])
