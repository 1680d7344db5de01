"""The few collectives that objectives and heads need: differentiable, on gloo and nccl, no-ops on one process.

Convention of the package: every process computes the SAME global loss from gathered rows. The backward pass of
`gather_rows` then hands each process the sum of all processes' (equal) cotangents for its own rows, that is the
world size times its share of the gradient, and the averaging of `DistributedDataParallel` divides it back. Hence
the gradient on N processes is that of one process with the same global batch; nothing is rescaled by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vidssl.errors import VidsslError

T = TypeVar("T")

HEARTBEAT = 60.0  # seconds; collectives wait ten minutes by default, some backends longer


def is_distributed() -> bool:
    """True when a process group of more than one process is running."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Index of this process in [0, world_size)."""
    return dist.get_rank() if is_distributed() else 0


def row_counts(x: Tensor) -> list[int]:
    """Number of rows of `x` on every process, in rank order.

    Raises:
        VidsslError: when the rows of the processes do not have the same shape.
    """
    if not is_distributed():
        return [x.shape[0]]
    width = x[:0].numel() if x.shape[0] == 0 else x[0].numel()
    mine = torch.tensor([x.shape[0], width], dtype=torch.int64, device=x.device)
    everyone = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(everyone, mine)
    table = torch.stack(everyone).tolist()
    counts = [int(row[0]) for row in table]
    widths = {int(row[1]) for row in table if row[0] > 0}
    if len(widths) > 1:
        raise VidsslError(f"gather_rows: processes hold rows of {sorted(widths)} numbers; all must be equal")
    return counts


def gather_rows(x: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """Rows of all processes, concatenated in rank order, with gradient.

    Args:
        x: (n, ...) any dtype; n may differ between processes (also 0), the trailing shape may not. Every process
            has to call this, in the same order, and (for floating point) all or none with `requires_grad`.
        counts: what `row_counts` returned for tensors with these rows, to save its round trip.

    Returns:
        (sum of n over processes, ...), dtype of `x`; `x` itself on one process. Backward: the sum over processes
        of the cotangents, cut to this process's rows. Integer and boolean tensors carry no gradient.

    Raises:
        VidsslError: for a scalar, or when the trailing shapes of the processes differ.
    """
    if x.ndim == 0:
        raise VidsslError("gather_rows: got a scalar; it needs a first axis of rows")
    if not is_distributed():
        return x
    counts = tuple(row_counts(x) if counts is None else counts)
    if x.is_floating_point() or x.is_complex():
        return cast(Tensor, _GatherRows.apply(x, counts))
    return _gather(x, counts)


def all_sum(x: Tensor) -> Tensor:
    """Elementwise sum of `x` over processes, the same on each. Backward: the sum of the cotangents."""
    return cast(Tensor, _AllSum.apply(x)) if is_distributed() else x


def own_part(x: Tensor) -> Tensor:
    """What this process holds of a tensor that is split over processes; all of one that is not."""
    return x.to_local() if isinstance(x, DTensor) else x


def put_together(x: Tensor) -> Tensor:
    """All of a tensor that is split over processes, on each of them, which all have to call this; another as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def average_gradients(module: nn.Module) -> None:
    """The mean over processes of every parameter's gradient, in place, the same on each to the last bit."""
    if is_distributed():
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()


def gather_objects(value: T) -> list[T]:
    """One picklable Python object of each process, in rank order. For names and counters, not for tensors."""
    if not is_distributed():
        return [value]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, value)
    return cast(list[T], everyone)


def on_first(function: Callable[[], T]) -> T:
    """What a function returns on the first process, or the error that it raises there, on all of them.

    It may take any time: the others are told every `HEARTBEAT` seconds that it goes on, so that no collective's time-out
    is reached. The function must not call a collective.

    Raises:
        VidsslError: as `function`.
        RuntimeError: on the other processes, when it raised something else.
    """
    if not is_distributed():
        return function()
    outcome: list[Any] = [None, None]  # result, what went wrong
    error: Exception | None = None
    if rank() == 0:
        try:
            with _heartbeat():
                outcome[0] = function()
        except Exception as raised:  # noqa: BLE001  # whatever it is, the others wait to hear of it
            error = raised
            outcome[1] = (isinstance(raised, VidsslError), str(raised))
        _tell(True)
    else:
        while not _tell(None):
            pass
    dist.broadcast_object_list(outcome)
    if error is not None:
        raise error
    if outcome[1] is not None:
        of_user, message = outcome[1]
        raise VidsslError(message) if of_user else RuntimeError(f"on the first process: {message}")
    return cast(T, outcome[0])


@contextmanager
def _heartbeat() -> Iterator[None]:
    """Tell the waiting processes, from a thread, that the block goes on."""
    ended = Event()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def beat() -> None:
        if device is not None:
            torch.cuda.set_device(device)
        while not ended.wait(HEARTBEAT):
            _tell(False)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(done: bool | None) -> bool:
    """From the first process to all: whether it is done."""
    word = [done]
    dist.broadcast_object_list(word)
    return bool(word[0])


def _gather(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Pads to the longest process, because collectives want equal shapes, and drops the padding again."""
    longest = max(counts)
    if x.dtype == torch.bool:  # not every backend ships booleans
        return _gather(x.to(torch.uint8), counts).to(torch.bool)
    mine = x.detach().contiguous()
    if mine.shape[0] < longest:
        mine = torch.cat([mine, mine.new_zeros(longest - mine.shape[0], *mine.shape[1:])])
    everyone = [torch.empty_like(mine) for _ in counts]
    dist.all_gather(everyone, mine)
    return torch.cat([rows[:n] for rows, n in zip(everyone, counts, strict=True)])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Sequence[int]) -> Tensor:
        start = sum(counts[: rank()])
        ctx.rows = slice(start, start + counts[rank()])
        return _gather(x, counts)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        # all_sum is itself differentiable, so second derivatives pass through as well.
        return all_sum(cotangents[0])[ctx.rows], None


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # Half precision is summed in float32: a sum over many processes would otherwise round at every hop.
        dtype = torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else x.dtype
        total = x.to(dtype, copy=True).contiguous()
        dist.all_reduce(total)
        return total.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor]:
        return (all_sum(cotangents[0]),)
