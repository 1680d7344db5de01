"""The collectives against what one process computes from the concatenated rows."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.distributed_runner import run_on_processes
from vidssl import distributed
from vidssl.distributed import (
    all_sum,
    average_gradients,
    gather_objects,
    gather_rows,
    is_distributed,
    on_first,
    rank,
    row_counts,
    world_size,
)
from vidssl.errors import VidsslError

UNEVEN = {2: [3, 5], 3: [4, 0, 2]}


def rows_of(process: int, counts: list[int]) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    everything = torch.randn(sum(counts), 3, 2, dtype=torch.float64, generator=generator)
    start = sum(counts[:process])
    return everything[start : start + counts[process]].clone()


def loss_of(rows: Tensor) -> Tensor:
    flat = rows.flatten(1)
    return torch.logsumexp(flat @ flat.T, dim=1).mean() + flat.std(dim=0).sum()


def gather_and_differentiate(counts: list[int]) -> dict[str, Any]:
    x = rows_of(dist.get_rank(), counts).requires_grad_()
    everything = gather_rows(x)
    loss = loss_of(everything)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.square().sum(), x)
    return {
        "everything": everything.detach(),
        "again": gather_rows(x.detach(), row_counts(x)),
        "gradient": gradient.detach(),
        "curvature": curvature,
        "int": gather_rows(torch.full((counts[dist.get_rank()],), dist.get_rank())),
        "bool": gather_rows(torch.full((counts[dist.get_rank()], 2), dist.get_rank() == 0)),
        "half": gather_rows(torch.full((2,), float(dist.get_rank()), dtype=torch.bfloat16)),
        "identity": (is_distributed(), rank(), world_size()),
        "objects": gather_objects({"rank": dist.get_rank()}),
    }


@pytest.mark.parametrize("processes", [2, 3])
def test_gather_rows_equals_one_process_with_uneven_rows(processes: int) -> None:
    counts = UNEVEN[processes]
    results = run_on_processes(gather_and_differentiate, processes, counts)
    x = torch.cat([rows_of(p, counts) for p in range(processes)]).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(x), x, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.square().sum(), x)
    for process, result in enumerate(results):
        own = slice(sum(counts[:process]), sum(counts[: process + 1]))
        torch.testing.assert_close(result["everything"], x.detach(), rtol=0, atol=0)
        torch.testing.assert_close(result["again"], x.detach(), rtol=0, atol=0)
        # DistributedDataParallel divides by the number of processes afterwards.
        torch.testing.assert_close(
            result["gradient"] / processes, gradient[own].detach(), rtol=1e-12, atol=1e-14
        )
        # The scalars of all processes together are the squared norm of (number of processes × gradient).
        torch.testing.assert_close(result["curvature"] / processes**2, curvature[own], rtol=1e-11, atol=1e-13)
        assert result["int"].tolist() == [p for p in range(processes) for _ in range(counts[p])]
        assert result["int"].dtype == torch.int64
        assert result["bool"].dtype == torch.bool
        assert result["bool"].shape == (sum(counts), 2)
        assert int(result["bool"].sum()) == 2 * counts[0]
        assert result["half"].dtype == torch.bfloat16
        assert result["half"].tolist() == [float(p) for p in range(processes) for _ in range(2)]
        assert result["identity"] == (True, process, processes)
        assert result["objects"] == [{"rank": p} for p in range(processes)]


def sum_and_differentiate() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.arange(3, dtype=torch.float64).add(dist.get_rank()).requires_grad_()
    total = all_sum(x)
    total.pow(2).sum().backward()
    assert x.grad is not None
    return total.detach(), x.grad, all_sum(torch.tensor([1, dist.get_rank()]))


def test_all_sum_and_its_gradient() -> None:
    for total, gradient, integers in run_on_processes(sum_and_differentiate, 3):
        expected = torch.tensor([3.0, 6.0, 9.0], dtype=torch.float64)
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(gradient / 3, 2 * expected)
        assert integers.tolist() == [3, 3]


def average_over_processes() -> list[Tensor | None]:
    layer = torch.nn.Linear(2, 1).double()
    layer.weight.grad = torch.full((1, 2), float(dist.get_rank()), dtype=torch.float64)
    average_gradients(layer)
    return [parameter.grad for parameter in layer.parameters()]


def test_gradients_are_averaged_where_there_are_any() -> None:
    for weight, bias in run_on_processes(average_over_processes, 3):
        assert weight.tolist() == [[1.0, 1.0]]
        assert bias is None


def gather_unequal_widths() -> None:
    gather_rows(torch.zeros(2, 3 + dist.get_rank()))


def test_unequal_rows_are_named() -> None:
    with pytest.raises(RuntimeError, match=r"rows of \[3, 4\] numbers"):
        run_on_processes(gather_unequal_widths, 2)


def wait_for_ever() -> None:
    if dist.get_rank() == 0:
        dist.barrier()
    time.sleep(60)


def ask_the_first(error: type[Exception] | None) -> str:
    def answer() -> str:
        if error is not None:
            raise error(f"process {dist.get_rank()} could not")
        return f"of process {dist.get_rank()}"

    try:
        return on_first(answer)
    except (VidsslError, RuntimeError) as raised:
        return f"{type(raised).__name__}: {raised}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ["of process 0"] * 2),
        (VidsslError, ["VidsslError: process 0 could not"] * 2),
        (
            RuntimeError,
            ["RuntimeError: process 0 could not", "RuntimeError: on the first process: process 0 could not"],
        ),
    ],
)
def test_what_the_first_process_does_all_get(error: type[Exception] | None, expected: list[str]) -> None:
    assert run_on_processes(ask_the_first, 2, error) == expected


def ask_the_first_to_work_for_long(folder: str, heartbeat: float) -> str:
    place = dist.get_rank()
    dist.destroy_process_group()
    limit = timedelta(seconds=1.5)
    dist.init_process_group("gloo", f"file://{folder}/store", limit, world_size=2, rank=place)
    distributed.HEARTBEAT = heartbeat

    def work() -> str:
        time.sleep(4.0)
        return "done"

    return on_first(work)


def test_the_first_process_may_work_for_longer_than_a_collective_waits(tmp_path: Path) -> None:
    assert run_on_processes(ask_the_first_to_work_for_long, 2, str(tmp_path), 0.3) == ["done", "done"]
    (tmp_path / "silent").mkdir()
    with pytest.raises(RuntimeError, match="process 1 of 2 failed"):
        run_on_processes(ask_the_first_to_work_for_long, 2, str(tmp_path / "silent"), 60.0)


def test_the_runner_ends_a_deadlock() -> None:
    with pytest.raises(TimeoutError, match="did not finish"):
        run_on_processes(wait_for_ever, 2, time_limit=3.0)


def test_one_process_needs_no_group() -> None:
    x = torch.randn(4, 2, requires_grad=True)
    assert gather_rows(x) is x
    assert all_sum(x) is x
    assert row_counts(x) == [4]
    assert gather_objects("a") == ["a"]
    assert on_first(lambda: "a") == "a"
    assert (rank(), world_size(), is_distributed()) == (0, 1, False)
    with pytest.raises(VidsslError, match="scalar"):
        gather_rows(torch.tensor(1.0))
