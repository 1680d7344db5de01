"""What is logged of the representation beside the loss, and the sentence said when it looks collapsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vidssl.distributed import gather_rows
from vidssl.objectives.concept.objective import concept_warning
from vidssl.objectives.diagnostics import (
    alignment,
    collapse_warning,
    dimension_std,
    effective_rank,
    lidar,
    rankme,
    uniformity,
)


@torch.no_grad()
def representation_logs(views: Sequence[Tensor]) -> dict[str, Tensor]:
    """Diagnostics of the encoder's clip features over the global batch.

    Args:
        views: (B, D) clip features of views of one batch, of this process. Every process has to call this.
    """
    rows = [gather_rows(view.detach().float()) for view in views]
    if len(rows) < 2 or len(rows[0]) < 2:
        return {}
    joined = torch.cat(list(rows))
    return {
        "features/rankme": rankme(joined),
        "features/lidar": lidar(torch.stack(list(rows), dim=1)),
        "features/effective_rank": effective_rank(joined),
        "features/alignment": alignment(rows[0], rows[1]),
        "features/uniformity": uniformity(joined),
        "features/std": dimension_std(joined),
    }


def warning(logs: Mapping[str, float], dim: int) -> str | None:
    """One sentence when the logs of a step look like collapse; `dim` is D of the features."""
    std = logs.get("features/std")
    for name in logs:
        if name.endswith("/hsic_xx"):
            prefix = name.removesuffix("hsic_xx")
            said = collapse_warning(
                loss=logs.get(f"{prefix}loss"),
                hsic_xx=logs[name],
                gamma_squared=logs.get(f"{prefix}gamma_squared"),
                std=std,
                dim=dim,
                rank=logs.get("features/effective_rank"),
            )
            if said:
                return said
    return concept_warning(logs) or collapse_warning(
        std=std, dim=dim, rank=logs.get("features/effective_rank")
    )
