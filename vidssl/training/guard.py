"""A step whose loss or gradient is not finite never happened: everything is put back, and a row of them ends the training.

What a step changes before its update, which a skipped one does not make, are statistics of the forward passes (batch
norm, queues, centres, priors) and the states of generators. They are what a checkpoint holds beside the parameters, a few
MB, and are copied before every step; not those of batch norm in evaluation mode, as a frozen image model has by the hundred.
Parameters and the optimiser's moments are only touched by the update.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
        self._modules: tuple[nn.Module, ...] = (run.student, run.teacher, run.objective)
        self._kept = [(layer, _statistics(layer)) for module in self._modules for layer in module.modules()]
        self._device = run.accelerator.device
        self._cpu_draws = torch.get_rng_state()
        self._gpu_draws = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    def put_back(self) -> None:
        """Undo what the step's forward and backward passes did."""
        for layer, (buffers, extra) in self._kept:
            for name, value in buffers.items():
                layer.get_buffer(name).copy_(value)
            if extra is not None:
                layer.set_extra_state(extra)
        for module in self._modules:
            module.zero_grad(set_to_none=True)
        torch.set_rng_state(self._cpu_draws)
        if self._gpu_draws is not None:
            torch.cuda.set_rng_state(self._gpu_draws, self._device)


def _statistics(layer: nn.Module) -> tuple[dict[str, Tensor], Tensor | None]:
    """Copies of what a layer itself, not what is in it, has in the module's state beside parameters."""
    extra = layer.get_extra_state() if type(layer).get_extra_state is not nn.Module.get_extra_state else None
    if not layer._buffers or (isinstance(layer, _BatchNorm) and not layer.training):
        return {}, extra  # nearly all layers
    kept = layer._buffers.keys() - layer._non_persistent_buffers_set
    return {name: x.clone() for name in kept if (x := layer._buffers[name]) is not None}, extra


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
