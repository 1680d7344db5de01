"""What a run says of itself while it runs: the JSONL log and the progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidssl.files import write_text


class RunLog:
    """One JSON object a line in ``log.jsonl``, and a progress bar with loss, clips/s and the share of waiting.

    Lines of steps past `start_step` (from a run that was killed after its last checkpoint) are dropped when resuming,
    so that the file reads as that of an uninterrupted run.

    Args:
        file: the log; appended to.
        start_step: number of steps already done.
        total_steps: length of the run.
        enabled: False on every process but the first.
    """

    def __init__(self, file: Path, start_step: int, total_steps: int, enabled: bool = True) -> None:
        self.enabled = enabled
        if not enabled:
            return
        self._drop_after(file, start_step)
        self._stream = file.open("a", encoding="utf-8")
        self._bar = tqdm(
            total=total_steps, initial=start_step, desc="pretrain", unit="step", dynamic_ncols=True
        )
        self._started = time.perf_counter()

    @staticmethod
    def _drop_after(file: Path, step: int) -> None:
        if not file.is_file():
            return
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            write_text(file, "".join(line + "\n" for line in kept))

    def step(self, record: Mapping[str, Any]) -> None:
        """Write one line; `record` has step, loss, clips_per_second and data_wait among its keys."""
        if self.enabled:
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()
            self._bar.set_postfix_str(
                f"loss {record['loss']:.4f}, {record['clips_per_second']:.1f} clips/s, "
                f"{record['data_wait']:.0%} waiting for data",
                refresh=False,
            )

    def advance(self) -> None:
        """Move the bar by one step."""
        if self.enabled:
            self._bar.update(1)

    def say(self, message: str) -> None:
        """A line above the bar."""
        if self.enabled:
            self._bar.write(message)

    def close(self) -> None:
        if self.enabled:
            self._bar.close()
            self._stream.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a torn last line of a killed run
