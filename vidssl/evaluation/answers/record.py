"""What a result keeps of each video, so that two results can be compared on the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vidssl.data.manifest.manifest import VideoIndex


def answers_record(
    index: VideoIndex, answered: Mapping[str, Tensor], truth: Tensor | None = None
) -> dict[str, Any]:
    """`answers` of a result.

    Args:
        index: the N test videos.
        answered: row of the table -> (N,) the class answered as `answers_of` has it; without `truth`, whether it was right.
        truth: (N,) labels, the place in the result's classes, behind their end for those that cannot be answered.

    Returns:
        `videos`, their paths; `groups`, where known, the recordings they are of; `truth`, the labels; and `answered`, or `right`
        without `truth`, lists by row.
    """
    return {
        "videos": list(index.paths),
        **({"groups": list(index.groups)} if index.groups else {}),
        **({} if truth is None else {"truth": truth.tolist()}),
        "right" if truth is None else "answered": {name: rows.tolist() for name, rows in answered.items()},
    }
