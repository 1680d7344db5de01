"""A grid of attentive heads, trained at once by AdamW: one reading of the tokens serves them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidssl.evaluation.features.tokens import Tokens
from vidssl.evaluation.probes.attention import AttentiveHeads
from vidssl.evaluation.probes.selection import Setting
from vidssl.progress import Progress


class GridAdamW:
    """AdamW of the parameters of H heads, each with rate and decay of its own; matrices decay, what is less does not.

    One head after the other: its parameters and moments fit a cache that those of all heads together do not.
    """

    def __init__(self, heads: nn.Module, grid: Sequence[Setting]) -> None:
        self._all = list(heads.parameters())
        self._own = [
            [nn.Parameter(whole.data[h]) for whole in self._all] for h in range(len(grid))
        ]  # the same memory
        parts: list[dict[str, Any]] = []
        for own, (rate, decay) in zip(self._own, grid, strict=True):
            for decayed in (True, False):
                chosen = [parameter for parameter in own if (parameter.ndim > 1) == decayed]
                if chosen:
                    parts.append({"params": chosen, "lr": rate, "weight_decay": decay if decayed else 0.0})
        self._rates = [part["lr"] for part in parts]
        self._optimizer = torch.optim.AdamW(parts, fused=True)

    def step(self, scale: float) -> None:
        """One step at `scale` times the rates; gradients are emptied."""
        for place, whole in enumerate(self._all):
            assert whole.grad is not None
            for own, gradient in zip(self._own, whole.grad, strict=True):
                own[place].grad = gradient
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = scale * rate
        self._optimizer.step()
        for whole in self._all:
            whole.grad = None


def fit_attentive(
    tokens: Tokens,
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    grid: Sequence[Setting],
    *,
    blocks: int = 1,
    epochs: int = 20,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str = "cpu",
    description: str = "attentive heads",
) -> AttentiveHeads:
    """Train a head for each setting; all see the same videos in the same order from the same start.

    Args:
        tokens: of videos. rows: (N,) those of them to train on. labels: (N,) of these, in [0, num_classes).
        grid: H settings; rates follow a cosine to 0.
        blocks: see `AttentiveHeads`.
        epochs: passes over the videos; the last batch of one is smaller.
        seed: of start and order.
        description: of the progress bar.
    """
    generator = torch.Generator().manual_seed(seed)
    dim = tokens[[int(rows[0])]][0].shape[-1]
    heads = AttentiveHeads(len(grid), dim, num_classes, blocks=blocks, seed=seed).to(device)
    optimizer = GridAdamW(heads, grid)
    steps, done = epochs * math.ceil(len(rows) / batch_size), 0
    with Progress(description, steps, "step", delay=2) as bar, torch.enable_grad():
        for _ in range(epochs):
            order = torch.randperm(len(rows), generator=generator).split(batch_size)
            read = tokens.batches([rows[chosen].tolist() for chosen in order])
            for chosen, batch in zip(order, read, strict=True):
                x, shown = (part.to(device) for part in batch)
                logits = heads(x, shown)
                y = labels[chosen].to(device).repeat(len(grid))
                (F.cross_entropy(logits.flatten(0, 1), y) * len(grid)).backward()
                optimizer.step(0.5 * (1 + math.cos(math.pi * done / steps)))
                done += 1
                bar.update()
    return heads


@torch.no_grad()
def attentive_scores(
    heads: AttentiveHeads, tokens: Tokens, rows: Tensor, batch_size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """(H, n, K) logits of n of the videos."""
    parts = []
    for batch in tokens.batches([chosen.tolist() for chosen in rows.split(batch_size)]):
        x, shown = (part.to(device) for part in batch)
        parts.append(heads(x, shown).cpu())
    return torch.cat(parts, dim=1)
