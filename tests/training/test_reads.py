"""What the host reads of tensors in a step: on a GPU it waits each time until all work before is done."""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from vidssl.config import load_config
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train_step
from vidssl.training.report import Report
from vidssl.training.setup import set_up
from vidssl.training.stop import stop_on_signal


class _Reads(TorchDispatchMode):
    """Counts values that the host reads of tensors, by the file that asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.files: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in str(function):
            asking = [frame.filename for frame in traceback.extract_stack() if "/vidssl/" in frame.filename]
            self.files[Path(asking[-1]).name] += 1
        return function(*args, **(kwargs or {}))


def test_a_step_that_is_not_logged_reads_one_number(recipe: Path) -> None:
    """Whether it is finite. Views are decided by draws that are on the host in any case; a device never waits for them."""
    config = load_config(recipe, ["train.steps=14", "train.log_every=100"])
    run = set_up(config, make_accelerator(config))
    with (
        closing(run),
        closing(Report(run)) as report,
        stop_on_signal(run.accelerator) as request,
        closing(run.batches()) as batches,
    ):
        for batch, _ in batches:
            reads = _Reads()
            with reads:
                logs = train_step(run, batch, report)
                report.step(batch, logs, 0.1, 1.0)
                request.anywhere()
            reads.files.pop("render.py")
            if run.step == 10:
                assert reads.files["report.py"] > 0  # a logged one is seen
            if run.step == 12:
                assert reads.files == {"guard.py": 1}
