"""The six protocols once more, each as its publication's code goes about it: loops, float64 numpy, nothing shared with the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit(features: Array) -> Array:
    """(T, D, h, w) -> (T, h w, D)."""
    rows = features.reshape(*features.shape[:2], -1).transpose(0, 2, 1)
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def cosine(a: Array, b: Array) -> float:
    """Summed one by one, so that the same vectors give the same number wherever they stand."""
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def offsets(query: int, key: int, w: int) -> tuple[int, int]:
    return abs(query // w - key // w), abs(query % w - key % w)


def dino(
    features: Array, labels: Array, temperature: float = 0.1, top_k: int = 5, radius: int = 12, context: int = 7, ties: bool = True
) -> Array:  # fmt: skip
    """Queue of the last frames besides frame 0, exp before the square mask, values at least the k-th largest, column sums."""
    rows, (frames, _, h, w) = unit(features), features.shape
    segmentations, queue = [labels.reshape(len(labels), -1)], []
    for frame in range(1, frames):
        used = [0, *queue]
        predicted = np.zeros((len(labels), h * w))
        for query in range(h * w):
            weight, label = [], []
            for source in used:
                for key in range(h * w):
                    dy, dx = offsets(query, key, w)
                    near = dy <= radius and dx <= radius
                    weight.append(np.exp(cosine(rows[source, key], rows[frame, query]) / temperature) * near)
                    label.append(segmentations[source][:, key])
            weights = np.array(weight)
            order = np.argsort(-weights, kind="stable")[:top_k]
            if ties:
                weights[weights < weights[order[-1]]] = 0
            else:
                weights[np.setdiff1d(np.arange(len(weights)), order)] = 0
            predicted[:, query] = (weights / weights.sum()) @ np.array(label)
        segmentations.append(predicted)
        queue = [*queue, frame][-context:] if context else []
    return np.stack(segmentations).reshape(frames, *labels.shape)


def rsp(features: Array, labels: Array, radius: int = 30, context: int = 30) -> Array:
    return dino(features, labels, 0.1, 7, radius, context, ties=False)


def crw(
    features: Array, labels: Array, temperature: float = 0.05, top_k: int = 10, radius: float = 12, context: int = 20
) -> Array:  # fmt: skip
    """The video with `context` copies of frame 0 before it; -1e10 beyond the disc, but for the long-term frame 0."""
    rows, (frames, _, h, w) = unit(features), features.shape
    rows = np.concatenate([rows[:1]] * context + [rows])
    maps: list[Array] = [labels.reshape(len(labels), -1)] * (context + 1)
    for frame in range(context + 1, context + frames):
        predicted = np.zeros((len(labels), h * w))
        for query in range(h * w):
            affinity, label = [], []
            for place, source in enumerate([0, *range(frame - context, frame)]):
                for key in range(h * w):
                    value = cosine(rows[source, key], rows[frame, query])
                    dy, dx = offsets(query, key, w)
                    if place > 0 and not np.sqrt(dy**2 + dx**2) < radius:
                        value -= 1e10
                    affinity.append(value / temperature)
                    label.append(maps[source][:, key])
            values = np.array(affinity)
            order = np.argsort(-values, kind="stable")[:top_k]
            weights = np.exp(values[order] - values[order].max())
            predicted[:, query] = weights @ np.array(label)[order] / weights.sum()
        maps.append(predicted)
    return np.stack(maps[context:]).reshape(frames, *labels.shape)


def unitrack(features: Array, labels: Array, radius: float = 12, context: int = 5) -> Array:
    return crw(features, labels, 0.05, 10, radius, context)


def cropmae(features: Array, labels: Array, radius: float = 20, context: int = 20) -> Array:
    return crw(features, labels, 0.7, 7, radius, context)


def vfs(features: Array, labels: Array, radius: float = 12, context: int = 20) -> Array:
    """Frame 0 and the frames before, however few, -inf beyond the disc in all of them, softmax over ten."""
    rows, (frames, _, h, w) = unit(features), features.shape
    out = [labels.reshape(len(labels), -1)]
    for frame in range(1, frames):
        predicted = np.zeros((len(labels), h * w))
        for query in range(h * w):
            pairs = []
            for source in [0, *range(max(0, frame - context), frame)]:
                for key in range(h * w):
                    dy, dx = offsets(query, key, w)
                    if dy**2 + dx**2 < radius**2:
                        pairs.append((cosine(rows[source, key], rows[frame, query]) / 0.07, source, key))
            best = sorted(pairs, key=lambda pair: -pair[0])[:10]
            total = sum(np.exp(value - best[0][0]) for value, _, _ in best)
            for value, source, key in best:
                predicted[:, query] += np.exp(value - best[0][0]) / total * out[source][:, key]
        out.append(predicted)
    return np.stack(out).reshape(frames, *labels.shape)
