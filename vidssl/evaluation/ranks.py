"""Ranks of what was looked for among what is there, and the recalls over them; a tie counts against a query.

So constant similarities find nothing, rather than everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.evaluation.metrics import group_interval, wilson_interval

RECALLS = (1, 5, 10, 20, 50)


def first_ranks(
    queries: Tensor,
    gallery: Tensor,
    wanted: Tensor,
    there: Tensor,
    own: Tensor | None = None,
    chunk: int = 1024,
) -> Tensor:
    """(M,) int64: how many of the gallery that are not wanted are at least as similar (cosine) as the best that is.

    Args:
        queries: (M, D). gallery: (N, D). wanted: (M,) and there: (N,) integers; an entry is wanted by the queries of its number.
        own: (M,) the query's own place in the gallery, which is left out; None where it is not in it.

    Returns:
        0 for one that is found at once; N where nothing is wanted, or the query, or all that is wanted, is not finite.
    """
    total, unit = len(gallery), F.normalize(gallery.float(), dim=1)
    usable, parts = gallery.isfinite().all(dim=1), []
    for start in range(0, len(queries), chunk):
        rows = slice(start, start + chunk)
        similarity = F.normalize(queries[rows].float(), dim=1) @ unit.T
        right, counts = wanted[rows, None] == there, usable.expand(similarity.shape).clone()
        if own is not None:
            counts[torch.arange(len(similarity)), own[rows]] = False
        best = similarity.masked_fill(~(right & counts), -math.inf).amax(dim=1, keepdim=True)
        rivals = ((similarity >= best) & ~right & counts).sum(dim=1)
        parts.append(torch.where(best[:, 0].isfinite(), rivals, total))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def recall_scores(
    ranks: Tensor, ok: Tensor, groups: Tensor | None = None, recalls: Sequence[int] = RECALLS
) -> dict[str, Any]:
    """Of M queries with these `ranks`, counted from 0; one that is not ok has found nothing.

    Args:
        groups: (M,) integers, equal for queries that are not independent: the interval is over these; None: Wilson's.

    Returns:
        ``R@k`` in [0, 1], ``R@1_interval`` (95 %), `median_rank` and `mean_rank` (counted from 1, of those that are ok),
        `rsum` (R@1 + R@5 + R@10 in per cent), `total`, `failed`.
    """
    found = {k: (ranks < k) & ok for k in {1, *recalls}}
    score: dict[str, Any] = {f"R@{k}": found[k].double().mean().item() for k in recalls}
    places = ranks[ok].double() + 1
    return {
        **score,
        "R@1_interval": wilson_interval(int(found[1].sum()), len(ranks))
        if groups is None
        else group_interval(found[1], groups),
        "median_rank": places.quantile(0.5).item() if len(places) else None,
        "mean_rank": places.mean().item() if len(places) else None,
        "rsum": sum(100 * ((ranks < k) & ok).double().mean().item() for k in (1, 5, 10)),
        "total": len(ranks),
        "failed": int((~ok).sum()),
    }


def chance_recalls(wanted: Tensor, total: int, recalls: Sequence[int] = RECALLS) -> dict[str, float]:
    """Expected ``R@k`` of a random order of `total` entries, of which `wanted` (M,) are right for each query."""
    score = {}
    for k in recalls:
        # Of k draws without putting back none is right: the product of (total - wanted - i) / (total - i).
        drawn = torch.arange(min(k, total)).double()
        misses = ((total - wanted[:, None].double() - drawn) / (total - drawn)).clamp(min=0).prod(dim=1)
        score[f"R@{k}"] = (1 - misses).mean().item()
    return score
