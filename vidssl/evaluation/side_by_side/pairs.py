"""Two results on the same videos: by how much one is right more often, over recordings where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidssl.errors import counted
from vidssl.evaluation.comparison import paired_comparison
from vidssl.evaluation.metrics import group_numbers
from vidssl.evaluation.results.agreement import right_answers


class Right(NamedTuple):
    """Which videos a row of a result got right, those of several splits one after the other.

    videos: (N,) split and path of each; right: (N,) bool; groups: (N,) names, None for a video by itself; empty where nothing is known.
    """

    videos: tuple[tuple[int, str], ...]
    right: Tensor
    groups: tuple[str | None, ...]


def right_of(result: Mapping[str, Any], row: str) -> Right | None:
    """What a result says of each video, None where it does not."""
    parts: list[tuple[int, Mapping[str, Any]]] = list(enumerate(result.get("splits", [result])))
    videos: list[tuple[int, str]] = []
    right: list[bool] = []
    groups: list[str | None] = []
    for split, part in parts:
        answers, own = part.get("answers") or {}, right_answers(part, row)
        if own is None:
            return None
        videos += [(split, path) for path in answers["videos"]]
        right += own
        groups += answers.get("groups") or [None] * len(own)
    if len(parts) > 1 and len({path for _, path in videos}) < len(
        videos
    ):  # a video of several splits is a group
        groups = [path if group is None else group for (_, path), group in zip(videos, groups, strict=True)]
    known = any(group is not None for group in groups)
    return Right(tuple(videos), torch.tensor(right, dtype=torch.bool), tuple(groups) if known else ())


def paired(second: Right, first: Right) -> dict[str, Any] | None:
    """`paired_comparison` of the second with the first, joined by the names of the videos.

    Returns:
        Its record, with `over`, what the interval is over, and `p` None where videos recur, which McNemar's test takes for
        independent; None where the videos are not the same.
    """
    places = {video: place for place, video in enumerate(second.videos)}
    if set(first.videos) != places.keys() or len(places) != len(first.videos) or not places:
        return None
    order = torch.tensor([places[video] for video in first.videos])
    groups = group_numbers(first.groups)
    record = paired_comparison(second.right[order], first.right, groups=groups)
    if len({path for _, path in first.videos}) < len(first.videos):
        record["p"] = None
    number = len(first.videos) if groups is None else len(groups.unique())
    return {**record, "over": counted(number, "video" if groups is None else "group")}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted probabilities of m tests (Holm 1979): p_(i) (m - i + 1), never falling, at most 1."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p[place] * (len(p) - rank)))
        adjusted[place] = highest
    return adjusted
