"""What a run says of itself while it runs: log file and trackers, bar and sentences, the list of failed videos."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.data.manifest.quarantine import Quarantine
from vidssl.distributed import gather_rows
from vidssl.errors import VidsslError
from vidssl.files import write_text, writing
from vidssl.objectives import diagnostics
from vidssl.objectives.concept.monitors import concept_warning
from vidssl.objectives.leaks import leaks
from vidssl.progress import Progress
from vidssl.training.folder import QUARANTINE
from vidssl.training.setup import Run
from vidssl.training.sources.dataset import Batch
from vidssl.utilisation import Work


class Report:
    """One JSON object a line in ``log.jsonl``, and progress with loss, clips/s, the share of waiting and MFU.

    Lines of steps that are still to come (of a run that was killed after its last checkpoint) are dropped when resuming,
    so that the file reads as that of an uninterrupted run. Only the first process writes and speaks, for all of them.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.collapsed = 0  # logged steps in a row
        half = run.accelerator.mixed_precision != "no"
        self.work = Work(run.accelerator.device, half, countable=not run.config.train.compile)
        self.quarantine = Quarantine(run.folder / QUARANTINE)
        self._speaks: bool = run.accelerator.is_main_process
        self._file = run.folder / "log.jsonl" if self._speaks else Path(os.devnull)
        if self._file.is_file():
            _drop_after(self._file, run.step)
        with writing(self._file):
            self._log = self._file.open("a", encoding="utf-8")
        self._bar = Progress("pretrain", run.total_steps, "step", done=run.step, show=self._speaks)
        for note in (*run.notes, *leaks(run.student, run.objective)):
            self.say(note)
        if run.config.train.trackers:
            run.accelerator.init_trackers("vidssl", config=_flat(run.config.model_dump(mode="json")))

    def say(self, message: str) -> None:
        """A line above the bar."""
        self._bar.say(message)

    def is_due(self, step: int) -> bool:
        """Whether a step is logged if made: the first ten (where things go wrong), every `log_every`-th, the last."""
        return step <= 10 or step % self.run.config.train.log_every == 0 or step == self.run.total_steps

    def settle(self, step: int) -> None:
        """Around a step that is logged, wait for a GPU, so that its time is that of all its work and of nothing before it."""
        device = self.run.accelerator.device
        if device.type != "cpu" and self.is_due(step):
            torch.accelerator.synchronize(device)

    def step(self, batch: Batch, logs: Mapping[str, Tensor], waited: float, worked: float) -> None:
        """Report a step, which has just been counted, and its seconds of waiting for data and of work.

        Raises:
            VidsslError: when the run is to be stopped because it has collapsed; on all processes, whose logs are alike.
        """
        run = self.run
        failures = run.failures(batch)
        for failure in failures:
            run.failed_videos += 1
            self.say(f"{failure.path}: {failure.reason}; replaced ({run.failed_videos} clips so far)")
        if failures and self._speaks:
            names = run.dataset.videos.paths
            self.quarantine.count(
                run.step, [replace(video, path=names[video.video_id]) for video in failures]
            )
            self.quarantine.save()
        self._bar.update(1)
        evaluated = any(name.startswith("evaluation/") for name in logs)
        if not (self.is_due(run.step) or run.skipped or evaluated):
            return
        values = {name: float(value) for name, value in logs.items()}
        clips = len(batch.times) * run.config.train.batch_size
        record: dict[str, Any] = {
            "step": run.step,
            **{name: value if math.isfinite(value) else None for name, value in values.items()},
            "lr": run.learning_rate,
            "clips_per_second": clips / (waited + worked),
            "data_wait": waited / (waited + worked),
            **({} if (used := self.work.utilisation(waited + worked)) is None else {"mfu": used}),
            "failed_videos": run.failed_videos,
        }
        if run.skipped:
            record |= {"skipped": run.skipped, "skipped_videos": run.shown(batch)}
        with writing(self._file):
            self._log.write(json.dumps(record, allow_nan=False) + "\n")
            self._log.flush()
        self._bar.note = (
            f"loss {values['loss']:.4f}, {record['clips_per_second']:.1f} clips/s, "
            f"{record['data_wait']:.0%} waiting for data" + (f", {used:.0%} MFU" if used is not None else "")
        )
        said = None
        if not run.skipped:
            said = warning(values, run.student.encoder.embed_dim)
            if said and not self.collapsed:  # once for each time it sets in
                self.say(f"step {run.step}: {said}")
            self.collapsed = self.collapsed + 1 if said else 0
        if run.config.train.trackers:
            numbers = {name: value for name, value in record.items() if isinstance(value, int | float)}
            run.accelerator.log(numbers, step=run.step)
        if self.collapsed and self.collapsed == run.config.train.stop_on_collapse:
            raise VidsslError(
                f"{run.folder}: stopped at step {run.step}, as train.stop_on_collapse={self.collapsed} asks: so many logged steps "
                f"in a row said: {said}"
            )

    def close(self) -> None:
        """Close files, bar and trackers."""
        self._bar.close()
        with suppress(OSError):  # what could not be written has been said
            self._log.close()
        if self.run.config.train.trackers:
            self.run.accelerator.end_training()


@torch.no_grad()
def representation_logs(views: Sequence[Tensor]) -> dict[str, Tensor]:
    """Diagnostics of the encoder's clip features over the global batch.

    Args:
        views: (B, D) clip features of views of one batch, of this process. Every process has to call this.
    """
    rows = [gather_rows(view.detach().float()) for view in views]
    if len(rows) < 2 or len(rows[0]) < 2:
        return {}
    joined = torch.cat(rows)
    return {
        "features/rankme": diagnostics.rankme(joined),
        "features/lidar": diagnostics.lidar(torch.stack(rows, dim=1)),
        "features/effective_rank": diagnostics.effective_rank(joined),
        "features/spectrum_exponent": diagnostics.spectrum_exponent(joined),
        "features/alignment": diagnostics.alignment(rows[0], rows[1]),
        "features/uniformity": diagnostics.uniformity(joined),
        "features/std": diagnostics.dimension_std(joined),
    }


def warning(logs: Mapping[str, float], dim: int) -> str | None:
    """One sentence when the logs of a step look like collapse; `dim` is D of the features."""
    std, rank = logs.get("features/std"), logs.get("features/effective_rank")
    seen: dict[str, Any] = {"std": std, "rank": rank, "dim": dim}
    for name, value in logs.items():
        if name.endswith("/hsic_xx"):
            prefix = name.removesuffix("hsic_xx")
            keys = {"loss": "loss", "kernel_rank": "effective_rank", "rank_needed": "rank_needed"}
            found: dict[str, Any] = {key: logs.get(prefix + quantity) for key, quantity in keys.items()}
            said = diagnostics.collapse_warning(hsic_xx=value, **found, **seen)
            said = said or diagnostics.same_view_warning(
                logs.get(f"{prefix}hsic_xy_within"), logs.get(f"{prefix}hsic_xy_across")
            )
            if said:
                return said
    return concept_warning(logs) or diagnostics.collapse_warning(**seen)


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """A recipe as trackers take it: dotted keys and scalars; what else there is, as text."""
    values: dict[str, bool | int | float | str] = {}
    for key, value in section.items():
        if isinstance(value, dict) and value:
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return values


def _drop_after(log: Path, step: int) -> None:
    lines = log.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    if len(kept) < len(lines):
        write_text(log, "".join(line + "\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a torn last line of a killed run
