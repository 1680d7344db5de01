"""One tuned linear probe for everything, and what needs no training: the image model's features in several forms, motion energy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from equal_budget.cell import shown
from torch import Tensor

from real_videos.sets import Set
from vidssl.data.cache.videos import cached
from vidssl.data.clips import ClipSpec
from vidssl.data.decode.open import open_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.evaluation import EvalSpec
from vidssl.evaluation.features import motion_energy
from vidssl.evaluation.probes.knn import knn_scores
from vidssl.evaluation.probes.logistic import probe

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
WIDTH = 256  # of the trained head, and of what flattened features are reduced to
NEIGHBOURS = 10


def scores(fit: Tensor, test: Tensor, of: Set) -> dict[str, Any]:
    """Which of the held-out clips the probes name, as a string of 0 and 1 for each probe; the penalty is chosen on held-out recordings."""
    fit, test = fit.float(), test.float()
    linear, _ = probe(fit, of.labels, test, of.classes, groups=of.fit_groups, grid=PENALTIES)
    near = knn_scores(fit, of.labels, test, NEIGHBOURS, of.classes)
    return {"linear": right_ones(linear, of), f"{NEIGHBOURS}-NN": right_ones(near, of)}


def right_ones(scores: Tensor, of: Set) -> str:
    """Which of the held-out clips have their own class on top of scores (N, K), as a string of 0 and 1."""
    return "".join(str(int(right)) for right in scores.argmax(dim=1) == of.truth)


def baselines(of: Set, videos: Path, name: str, work: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Everything that a trained head has to beat, and how it is found out."""
    dim, fit, test = of.dim, of.fit, of.test
    majority = torch.full_like(of.truth, int(of.labels.mode().values))

    def grid(width: int | None = None) -> dict[str, Any]:
        return scores(*reduced(fit[..., dim:].flatten(1), test[..., dim:].flatten(1), width), of)

    return {
        "image model, mean over frames": lambda: scores(*(x[..., :dim].float().mean(1) for x in (fit, test)), of),
        "image model, frames side by side": lambda: scores(*reduced(*(x[..., :dim].flatten(1) for x in (fit, test))), of),
        "its grid, frames side by side": grid,
        f"the same, {WIDTH} numbers": lambda: grid(WIDTH),
        "its grid, spread over time": lambda: scores(*reduced(*spreads(of)), of),
        "motion energy": lambda: scores(*energies(videos / name, work), of),
        "commonest class": lambda: {"linear": "".join(str(int(x)) for x in majority == of.truth)},
    }  # fmt: skip


def energies(folder: Path, work: Path) -> list[Tensor]:
    """Motion energy of both splits, over a grid of cells and four parts of the clip."""
    cache = cached(open_video, 64, "raw", work / "frames", fps=10.0)
    spec = EvalSpec(ClipSpec(16, seconds=math.inf), size=48, resize="squash")
    indices = [VideoIndex.read(folder / split) for split in ("train", "val")]
    return [
        torch.cat([motion_energy(c) for (c,) in shown(index, spec, (0.0,) * 3, (1.0,) * 3, cache)])
        for index in indices
    ]


def spreads(of: Set) -> list[Tensor]:
    """How much each cell of the grid moves over time, of both parts, (N, g g W)."""
    return [rows[..., of.dim :].float().std(1) for rows in (of.fit, of.test)]


def random_turn(size: int) -> Tensor:
    """(size, size) rotation, always the same: the probe standardises each number by itself, and turned numbers are alike."""
    turn, _ = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0)))
    return turn


def reduced(fit: Tensor, test: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of so many numbers that no probe could hold them, on the directions in which the training rows differ.

    Standardised rows are given in the coordinates of their first `width` principal axes (None: of all, which loses nothing), turned at random: the
    probe standardises what it is given, and would make the last axis as loud as the first.
    """
    mean, std = fit.float().mean(0), fit.float().std(0).clamp(min=1e-6)
    fit, test = (fit.float() - mean) / std, (test.float() - mean) / std
    values, vectors = torch.linalg.eigh((fit @ fit.T).double())
    keep = values > 1e-6 * values[-1]
    axes = vectors[:, keep][:, -(width or len(values)) :]
    axes = (fit.T.double() @ axes / values[keep][-(width or len(values)) :].sqrt()).float()
    turn = random_turn(axes.shape[1])
    return fit @ axes @ turn, test @ axes @ turn
