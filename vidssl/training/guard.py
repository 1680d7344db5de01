"""A step whose loss or gradient is not finite never happened: everything is put back, and a row of them ends the training.

What a step changes before its update, which a skipped one does not make, are statistics of the forward passes (batch
norm, queues, centres, priors) and the states of generators. They are what a checkpoint holds beside the parameters, a few
MB, and are copied before every step. Parameters and the optimiser's moments are only touched by the update.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vidssl.distributed import all_sum
from vidssl.errors import VidsslError
from vidssl.training.setup import Run
from vidssl.training.sources.dataset import Batch

MAX_SKIPPED_IN_A_ROW = 20
NAMED = 5  # videos in the error that ends a run; the log has them all


class BeforeStep:
    """A run as it is before a step's forward passes.

    Args:
        run: about to make a step.
    """

    def __init__(self, run: Run) -> None:
        self._kept = [(module, _statistics(module)) for module in (run.student, run.teacher, run.objective)]
        self._device = run.accelerator.device
        self._cpu_draws = torch.get_rng_state()
        self._gpu_draws = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def put_back(self) -> None:
        """Undo what the step's forward and backward passes did."""
        for module, statistics in self._kept:
            module.load_state_dict(statistics, strict=False)
            module.zero_grad(set_to_none=True)
        torch.set_rng_state(self._cpu_draws)
        if self._gpu_draws is not None:
            torch.cuda.set_rng_state(self._gpu_draws, self._device)


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    """Copies of what the module's state holds beside parameters."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: value.clone() for name, value in module.state_dict().items() if name not in parameters}


def all_finite(*scalars: Tensor) -> bool:
    """Whether all scalars of all processes are finite; every process gets the same answer."""
    total = all_sum(torch.stack([scalar.detach().double() for scalar in scalars]).sum())
    return bool(torch.isfinite(total))


def skip(run: Run, batch: Batch, before: BeforeStep, say: Callable[[str], None]) -> None:
    """Undo a step that came out not finite. Every process has to call this.

    Raises:
        VidsslError: when `MAX_SKIPPED_IN_A_ROW` steps in a row were skipped; names videos of the last one's batch.
    """
    before.put_back()
    run.skipped += 1
    say(f"step {run.step}: loss or gradient is not finite; step skipped ({run.skipped} in a row)")
    if run.skipped >= MAX_SKIPPED_IN_A_ROW:
        videos = run.shown(batch)
        more = f" and {len(videos) - NAMED} more" if len(videos) > NAMED else ""
        raise VidsslError(
            f"{run.folder}: loss or gradient was not finite {run.skipped} times in a row, the last time for "
            f"{', '.join(videos[:NAMED])}{more}; lower train.lr, set train.precision=fp32 or look at these videos"
        )
