"""What happens when a loss is not finite: the update is skipped, and a run of them ends the training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.training.setup import Run

MAX_SKIPPED_IN_A_ROW = 20


def may_update(run: Run, loss: Tensor, say: Callable[[str], None]) -> bool:
    """Whether the step's update is to be made; the loss is the same on every process, so all of them agree.

    Raises:
        VidsslError: when `MAX_SKIPPED_IN_A_ROW` losses in a row were not finite.
    """
    if torch.isfinite(loss):
        run.skipped = 0
        return True
    run.skipped += 1
    say(f"step {run.step}: the loss is not finite; update skipped ({run.skipped} in a row)")
    if run.skipped >= MAX_SKIPPED_IN_A_ROW:
        raise VidsslError(
            f"{run.folder}: the loss was not finite {run.skipped} times in a row; "
            "lower train.lr or set train.precision=fp32"
        )
    return False
