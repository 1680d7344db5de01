"""The attentive probe: heads that look at all frames or patches of frozen features, rate and decay chosen from a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl import distributed
from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.evaluation.features.sources import CLIP, FRAMES, Kind, encoder_source
from vidssl.evaluation.features.tokens import (
    FreshTokens,
    Tokens,
    kept_somewhere,
    kept_tokens,
    token_bytes,
)
from vidssl.evaluation.probes.grid import attentive_scores, fit_attentive
from vidssl.evaluation.probes.holdout import split_rows
from vidssl.evaluation.probes.selection import SELECT, Setting, best_head, edge_note, selection_notes
from vidssl.evaluation.probes.splits import Frozen, Splits, read_splits
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject

RATES, DECAYS = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8)  # of V-JEPA 2


@dataclass(frozen=True)
class AttentiveOptions:
    """How attentive heads are trained.

    Args:
        tokens: what they look at: "frames", the features of each frame, or "patches".
        layer: of patches, counted from 0; None for the last.
        blocks: of attention, 1 to 4.
        epochs, batch_size: passes over the training videos, and how many are looked at at a time.
        rates, decays: the grid; all combinations are trained at once.
        select: by what rate and decay are chosen: "train", held-out training videos, or "val", the test itself.
        seed: of the held-out videos, the start and the order.
        on_the_fly: decode and encode in every epoch instead of keeping the tokens; None: where they are larger than
            `EvalOptions.cache_gigabytes`.
    """

    tokens: str = "frames"
    layer: int | None = None
    blocks: int = 1
    epochs: int = 20
    batch_size: int = 64
    rates: Sequence[float] = RATES
    decays: Sequence[float] = DECAYS
    select: str = "train"
    seed: int = 0
    on_the_fly: bool | None = None

    def __post_init__(self) -> None:
        check_choice("tokens", self.tokens, ("frames", "patches"))
        check_choice("select", self.select, SELECT)
        check_value("blocks", self.blocks, 1 <= self.blocks <= 4, "from 1 to 4")
        for name in ("epochs", "batch_size"):
            check_value(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        if self.layer is not None and self.tokens == "frames":
            raise VidsslError(f"layer={self.layer}: is of patches; choose these as tokens")
        if not self.rates or not self.decays:
            raise VidsslError("rates, decays: at least one of each")
        for rate in self.rates:
            check_value("rate", rate, 0 < rate < math.inf, "above 0")
        for decay in self.decays:
            check_value("decay", decay, 0 <= decay < math.inf, "0 or above")

    @property
    def kind(self) -> Kind:
        """Of the tokens."""
        return FRAMES if self.tokens == "frames" else Kind("patches", self.layer)

    @property
    def grid(self) -> list[Setting]:
        """All combinations."""
        return [Setting(*pair) for pair in product(self.rates, self.decays)]


def attentive_probe(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    fit: AttentiveOptions | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Attentive heads on the tokens of frozen encoders, rate and decay chosen on a held-out part of `train`.

    Trained by the first process, which has to see the features that the others keep.

    Returns:
        JSON-able result; ``scores`` holds the trained encoder, the untrained one, majority and chance.

    Raises:
        VidsslError: for tokens that the encoder does not have, or for which the cache has no room.
    """
    how = fit or AttentiveOptions()
    room = (options or EvalOptions()).cache_gigabytes
    with kept_somewhere(options or EvalOptions()) as kept:
        subject = load_subject(checkpoint, kept)
        size = 0

        def kinds(videos: int) -> Sequence[Kind]:
            nonlocal size
            size = token_bytes(subject, how.kind, videos)
            return (CLIP,) if _fresh(how, size, room) else (CLIP, how.kind)

        splits = read_splits(subject, train, val, kinds=kinds, motion=False)
        header = result_header("attentive-probe", subject)
        fresh = _fresh(how, size, room)
        fitted = distributed.on_first(lambda: _fitted(subject, splits, how, fresh))
        if fresh:
            fitted["notes"].append(
                f"the tokens ({size / 1e9:.3g} GB) were not kept: every epoch decoded and encoded the videos"
            )
    notes = splits.record["notes"] + fitted["notes"]
    return sealed({**header, **splits.record, **fitted, "notes": notes})


def _fresh(how: AttentiveOptions, size: int, room: float) -> bool:
    return size > 1e9 * room if how.on_the_fly is None else how.on_the_fly


def _fitted(subject: Subject, splits: Splits, how: AttentiveOptions, fresh: bool) -> Result:
    chosen, predictions = {}, {}
    encoders = {"trained": subject.encoder, "untrained": subject.untrained}
    assert splits.indices is not None
    for frozen in splits.frozen():
        encoder = encoders[frozen.title]
        assert encoder is not None
        source = encoder_source(encoder, frozen.title, (CLIP, how.kind))
        fit_ok = splits.train.ok[frozen.title]
        train, test = (
            FreshTokens(subject, index, ok.nonzero()[:, 0].tolist(), source, how.kind)
            if fresh
            else kept_tokens(subject, index, ok, source, how.kind)
            for index, ok in zip(splits.indices, (fit_ok, frozen.ok), strict=True)
        )
        found, setting = _probe(train, test, frozen, splits, subject.device, how)
        logits = found.new_zeros(len(frozen.ok), len(splits.names))
        logits[frozen.ok] = found
        chosen[frozen.title], predictions[frozen.title] = setting, (frozen, logits)
    notes = [note for title, one in chosen.items() for note in edge_note(title, "rate", one.rate, how.rates)]
    return {
        "tokens": {"of": how.tokens, "layer": how.layer},
        "blocks": how.blocks,
        "epochs": how.epochs,
        "probe_batch_size": how.batch_size,
        "seed": how.seed,
        "select": how.select,
        "chosen": {title: one._asdict() for title, one in chosen.items()},
        "rate_grid": list(how.rates),
        "decay_grid": list(how.decays),
        "notes": (notes if len(how.rates) > 1 else [])
        + splits.suspicions(predictions)
        + selection_notes(how.select),
        **splits.scored(predictions),
    }


def _probe(
    train: Tokens, test: Tokens, frozen: Frozen, splits: Splits, device: torch.device, how: AttentiveOptions
) -> tuple[Tensor, Setting]:
    """Scores of the test videos that can be used, and the setting that was chosen."""
    shared: dict[str, Any] = {"blocks": how.blocks, "epochs": how.epochs, "batch_size": how.batch_size}
    shared |= {"seed": how.seed, "device": device, "description": f"attentive heads, {frozen.title}"}
    labels, classes, grid = frozen.labels, len(splits.names), how.grid
    everything, tested = torch.arange(len(labels)), torch.arange(len(test))
    if how.select == "val":
        heads = fit_attentive(train, everything, labels, classes, grid, **shared)
        logits = attentive_scores(heads, test, tested, how.batch_size, device)
        truth = splits.test_labels[frozen.ok]
        known = truth < classes
        best = best_head(logits[:, known], truth[known])
        return logits[best], grid[best]
    best = 0
    if len(grid) > 1:
        kept, out = split_rows(labels, frozen.groups, np.random.default_rng(how.seed))
        if not len(out):
            raise VidsslError(
                "attentive probe: every class has one training video or group; none can be held out"
            )
        heads = fit_attentive(train, kept, labels[kept], classes, grid, **shared)
        best = best_head(attentive_scores(heads, train, out, how.batch_size, device), labels[out])
    heads = fit_attentive(train, everything, labels, classes, [grid[best]], **shared)
    return attentive_scores(heads, test, tested, how.batch_size, device)[0], grid[best]
