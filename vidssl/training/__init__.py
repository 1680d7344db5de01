"""The training loop on accelerate."""

from __future__ import annotations

from pathlib import Path

from vidssl.config import Config
from vidssl.threads import computing_with
from vidssl.training.accelerator import as_launched, make_accelerator
from vidssl.training.loop import train
from vidssl.training.recipes.batch_size import with_batch_size
from vidssl.training.setup import set_up
from vidssl.training.stop import end_on_signal

__all__ = ["pretrain"]


def pretrain(config: Config, resume: bool = False, accept_changes: bool = False) -> Path:
    """Train the encoder that `config` describes; returns the run folder.

    Args:
        config: a validated recipe.
        resume: continue the run in ``config.output`` from its last checkpoint, if there is one.
        accept_changes: also under other conditions (recipe, videos, versions, processes, device) than those that the
            run folder records; the changes are recorded there.

    Raises:
        VidsslError: for anything wrong with the recipe, the videos, the weights or the run folder, which is then as it was.
        Stopped: when a signal asked the run to stop (see `vidssl.training.stop`), after a checkpoint was written.
    """
    with end_on_signal(Path(config.output)), computing_with(config.train.threads):
        config = with_batch_size(as_launched(config), resume)
        return train(set_up(config, make_accelerator(config), resume, accept_changes))
