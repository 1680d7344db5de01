"""How much of what a device can multiply a training step uses (model FLOPs utilisation, Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

FLOPs are counted by torch in one step, matrix products, convolutions and attention of all that is run: student forward and backward,
teacher, heads, objective. Activations that are computed again count again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

# TFLOP/s without sparsity, from the vendors' data sheets: of bf16 (fp16 where there is no bf16) on tensor cores, and of plain float32.
PEAKS = {
    "B200": (2250.0, 80.0), "H200": (989.0, 67.0), "H100": (989.0, 67.0), "H100 PCIe": (756.0, 51.0), "H100 NVL": (835.0, 60.0),
    "GH200": (989.0, 67.0), "A100": (312.0, 19.5), "A800": (312.0, 19.5), "A10": (125.0, 31.2), "A10G": (70.0, 35.0), "A40": (149.7, 37.4),
    "L40S": (362.0, 91.6), "L40": (181.0, 90.5), "L4": (121.0, 30.3), "V100": (125.0, 15.7), "T4": (65.0, 8.1),
    "RTX 6000 Ada": (364.2, 91.1), "RTX 4090": (165.2, 82.6), "RTX 3090": (71.0, 35.6),
}  # fmt: skip
SIDE, TIMES = (
    384,
    16,
)  # of the product that a CPU is measured with: a millisecond, so that one of them is not interrupted


def peak_rate(device: torch.device, half: bool) -> float | None:
    """FLOP/s that a device can do at most: of a GPU by its name, of a CPU the best of a few products; None where it is not known.

    Args:
        half: whether products are of bf16 or fp16.
    """
    if device.type == "cuda":
        return rate_by_name(torch.cuda.get_device_name(device), half)
    return _measured(half, torch.get_num_threads()) if device.type == "cpu" else None


def rate_by_name(name: str, half: bool) -> float | None:
    """FLOP/s by the data sheet of a GPU as its driver names it, the longest of the names in `PEAKS` that fits."""
    fitting = [known for known in PEAKS if re.search(rf"\b{re.escape(known)}\b", name, re.IGNORECASE)]
    return PEAKS[max(fitting, key=len)][0 if half else 1] * 1e12 if fitting else None


@cache
def _measured(half: bool, threads: int) -> float:
    """Of square matrices on so many threads, those that torch has now."""
    x = torch.ones(SIDE, SIDE, dtype=torch.bfloat16 if half else torch.float32)
    taken = []
    with torch.no_grad():
        for _ in range(TIMES):
            started = time.perf_counter()
            x @ x
            taken.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(taken)


class Work:
    """The FLOPs of a step of this process, counted once.

    Args:
        device: that computes. half: in bf16 or fp16.
        countable: False for compiled code, inside which torch counts nothing; there is no utilisation then.
    """

    def __init__(self, device: torch.device, half: bool, countable: bool = True) -> None:
        self.device, self.half, self.countable = device, half, countable
        self.flops: int | None = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A block that is one step; the first one is counted."""
        if self.flops is not None or not self.countable:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self.flops = counter.get_total_flops()

    def utilisation(self, seconds: float) -> float | None:
        """The share of the peak rate at which a step of so many seconds runs; None where that is not known."""
        if not self.flops:
            return None
        peak = peak_rate(self.device, self.half)
        return None if peak is None else self.flops / seconds / peak
