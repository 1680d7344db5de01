"""What probes other than the linear one on all labels make of a head: attention over its frames, few labels, the order and the direction of time.

Each answers of one set and gives which clips were right, or how many; all read the same kept rows (N, F, R) of whole clips.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from real_videos.probes import PENALTIES, WIDTH, random_turn, reduced, scores, spreads
from real_videos.sets import Set
from vidssl.evaluation.features.tokens import Tokens
from vidssl.evaluation.probes.attentive import RATES
from vidssl.evaluation.probes.few import chosen_rows
from vidssl.evaluation.probes.grid import attentive_scores, fit_attentive
from vidssl.evaluation.probes.holdout import can_hold_out, split_rows
from vidssl.evaluation.probes.logistic import probe
from vidssl.evaluation.probes.selection import Setting, best_head
from vidssl.evaluation.temporal.questions import telling_apart, versions
from vidssl.models.encoder import VideoEncoder

SHOTS, DRAWS, EPOCHS = (1, 2, 4, 8, 16), 5, 20
GRID = [Setting(rate, 0.01) for rate in RATES]  # decays made no difference (docs/evaluation.md)
ORDER, DIRECTION = "frames in order or shuffled", "forwards or backwards"
# Of rows (N, F, R): features of the clips (N, D), and of their frames (N, F, D).
Reader = Callable[[Tensor], tuple[Tensor, Tensor]]


class Held(Tokens):
    """Tokens (N, T, D) in memory."""

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, places: Any) -> tuple[Tensor, Tensor]:
        chosen = self._tokens[places]
        return chosen, torch.ones(chosen.shape[:2], dtype=torch.bool)


def head_reader(encoder: VideoEncoder) -> Reader:
    """Of a head."""

    @torch.no_grad()
    def read(rows: Tensor) -> tuple[Tensor, Tensor]:
        parts = [encoder(part.float()) for part in rows.split(64)]
        return torch.cat([part.clip for part in parts]), torch.cat([part.frames for part in parts])

    return read


def image_readers(of: Set) -> dict[str, Reader]:
    """Of the image model by itself: its mean frame, and how much each cell of its grid moves; frames are its features, or the cells."""
    dim = of.dim
    return {
        "image model": lambda rows: (rows[..., :dim].float().mean(1), rows[..., :dim].float()),
        "its grid": lambda rows: (rows[..., dim:].float().std(1), rows[..., dim:].float()),
    }


def side_by_side(of: Set) -> Reader:
    """Of the grid with its frames side by side, which with its spread is what a head beside that spread has to beat."""

    def read(rows: Tensor) -> tuple[Tensor, Tensor]:
        cells = rows[..., of.dim :].float()
        return cells.flatten(1), cells

    return read


def attentive(read: Reader, of: Set, seed: int) -> str:
    """Which of the held-out clips an attentive probe of one block over the frames names; the rate is chosen on held-out recordings."""
    fit, test = _narrow(read(of.fit)[1], read(of.test)[1])
    train, everything = Held(fit), torch.arange(len(fit))
    shared: dict[str, Any] = {"epochs": EPOCHS, "seed": seed}
    kept, out = split_rows(of.labels, of.fit_groups, np.random.default_rng(seed))
    heads = fit_attentive(train, kept, of.labels[kept], of.classes, GRID, **shared)
    best = best_head(attentive_scores(heads, train, out, 64), of.labels[out])
    heads = fit_attentive(train, everything, of.labels, of.classes, [GRID[best]], **shared)
    scores = attentive_scores(heads, Held(test), torch.arange(len(test)), 64)[0]
    return "".join(str(int(right)) for right in scores.argmax(1) == of.truth)


def _narrow(fit: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (N, F, D) in at most WIDTH numbers, so that an image model's are not told apart by their number alone."""
    if fit.shape[2] <= WIDTH:
        return fit, test
    mean = fit.flatten(0, 1).mean(0)
    _, _, axes = torch.svd_lowrank(fit.flatten(0, 1) - mean, WIDTH, niter=4)
    return (fit - mean) @ axes, (test - mean) @ axes


def beside(read: Reader, of: Set) -> str:
    """The linear probe on a head's features and its grid's spread together, each as loud as the other."""
    parts = []
    for fit, test in (tuple(read(rows)[0] for rows in (of.fit, of.test)), spreads(of)):
        mean, std = fit.mean(0), fit.std(0).clamp(min=1e-6)
        size = ((fit - mean) / std).square().sum(1).mean().sqrt()
        parts.append([(x - mean) / std / size for x in (fit, test)])
    fit, test = (torch.cat(both, 1) for both in zip(*parts, strict=True))
    # In the coordinates of what the training rows span: nothing of them is lost or made louder.
    _, values, axes = torch.linalg.svd(fit.double(), full_matrices=False)
    axes = axes[values > 1e-6 * values[0]].T.float()
    axes = axes @ random_turn(axes.shape[1])
    found: str = scores(fit @ axes, test @ axes, of)["linear"]
    return found


def few_labels(read: Reader, of: Set, seed: int) -> dict[str, list[float]]:
    """Accuracy for so many labelled clips a class, in each of some draws of them; draws are the same for all readers.

    The penalty is chosen on held-out recordings of what was drawn; with a clip a class it is the middle one.
    """
    fit, test = read(of.fit)[0], read(of.test)[0]
    if fit.shape[1] > len(fit):
        fit, test = reduced(fit, test)
    found: dict[str, list[float]] = {}
    usable = torch.ones_like(of.labels, dtype=torch.bool)
    for shots in SHOTS:
        for draw in range(DRAWS):
            rows = chosen_rows(of.labels, usable, shots, np.random.default_rng([seed, shots, draw]))
            labels, groups = of.labels[rows], None if of.fit_groups is None else of.fit_groups[rows]
            grid = PENALTIES if can_hold_out(labels, groups) else (0.1,)
            scores, _ = probe(fit[rows], labels, test, of.classes, groups=groups, grid=grid)
            found.setdefault(str(shots), []).append((scores.argmax(1) == of.truth).double().mean().item())
    return found


def time_questions(read: Reader, of: Set, seed: int) -> dict[str, str]:
    """Of each held-out clip how many of its two versions a probe takes for what they are, 0, 1 or 2, fitted to training clips' versions."""

    def asked(other: Callable[[Tensor, int], Tensor], rows: Tensor, start: int) -> Any:
        there = torch.ones(len(rows), dtype=torch.bool)
        return versions(read(rows)[0], read(other(rows, start))[0], there)

    found = {}
    for question, other in {ORDER: _shuffled, DIRECTION: lambda rows, _: rows.flip(1)}.items():
        fit, test = (asked(other, rows, 1 + 2 * seed + k) for k, rows in enumerate((of.fit, of.test)))
        right = telling_apart(test, of.groups, fit=fit)
        found[question] = "".join(str(int(2 * x)) for x in right)
    return found


def _shuffled(rows: Tensor, seed: int) -> Tensor:
    """Rows (N, F, R), the frames of each clip in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(rows.shape[:2], generator=generator).argsort(1)
    return torch.take_along_dim(rows, order[..., None], dim=1)
