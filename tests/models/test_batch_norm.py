"""Batch norm over the rows of several processes against torch's on one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import vidssl
from tests.distributed_runner import run_on_processes
from vidssl.distributed import rank
from vidssl.errors import VidsslError
from vidssl.models.batch_norm import GlobalBatchNorm1d, has_batch_norm, share_statistics

UNEVEN = {2: [3, 5], 3: [4, 1, 2]}
WIDTH = 6


def norm_of(kind: type[nn.BatchNorm1d], momentum: float | None, dtype: torch.dtype) -> nn.BatchNorm1d:
    norm = kind(WIDTH, momentum=momentum).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(WIDTH, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(WIDTH, generator=generator))
    return norm


def rows_and_cotangents(step: int, number: int, dtype: torch.dtype, offset: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 + step)
    rows = offset + 3 * torch.randn(number, WIDTH, dtype=torch.float64, generator=generator)
    return rows.to(dtype), torch.randn(number, WIDTH, dtype=torch.float64, generator=generator).to(dtype)


def run_norm(
    kind: type[nn.BatchNorm1d], counts: list[int], dtype: torch.dtype, momentum: float | None, offset: float
) -> dict[str, Any]:
    """Two training steps on this process's share of the rows, each with the loss sum(cotangents * output)."""
    norm = norm_of(kind, momentum, dtype)
    process = rank()
    part = slice(sum(counts[:process]), sum(counts[: process + 1]))
    outputs, gradients = [], []
    for step in range(2):
        rows, cotangents = rows_and_cotangents(step, sum(counts), dtype, offset)
        rows = rows[part].clone().requires_grad_()
        output = norm(rows)
        (output * cotangents[part]).sum().backward()
        assert rows.grad is not None
        outputs.append(output.detach())
        gradients.append(rows.grad)
    return {
        "output": torch.cat(outputs, dim=1),
        "input gradient": torch.cat(gradients, dim=1),
        "weight gradient": norm.weight.grad,
        "bias gradient": norm.bias.grad,
        **norm.state_dict(),
    }


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_those_of_all_rows(processes: int, momentum: float | None) -> None:
    counts = UNEVEN[processes]
    single = run_norm(nn.BatchNorm1d, [sum(counts)], torch.float64, momentum, 2.0)
    results = run_on_processes(run_norm, processes, GlobalBatchNorm1d, counts, torch.float64, momentum, 2.0)
    for key in ("output", "input gradient"):
        together = torch.cat([result[key] for result in results])
        torch.testing.assert_close(together, single[key], atol=1e-10, rtol=0)
    for key in ("weight gradient", "bias gradient"):
        summed = torch.stack([result[key] for result in results]).sum(dim=0)
        torch.testing.assert_close(summed, single[key], atol=1e-10, rtol=0)
    for key in ("running_mean", "running_var", "num_batches_tracked", "weight", "bias"):
        for result in results:
            torch.testing.assert_close(result[key], single[key], atol=1e-10, rtol=0)
            assert torch.equal(result[key], results[0][key])
    # The control: norms that look at their own rows only are something else.
    local = run_on_processes(
        run_norm, processes, nn.BatchNorm1d, [max(2, n) for n in counts], torch.float64, 0.1, 2.0
    )
    assert (local[0]["running_mean"] - single["running_mean"]).abs().max() > 1e-3


def test_float32_is_accurate_far_from_zero() -> None:
    """A mean of 1,000 standard deviations: E[x^2] - E[x]^2 in float32 would lose the variance."""
    exact = run_norm(nn.BatchNorm1d, [8], torch.float64, 0.1, 3000.0)
    results = run_on_processes(run_norm, 2, GlobalBatchNorm1d, UNEVEN[2], torch.float32, 0.1, 3000.0)
    together = torch.cat([result["output"] for result in results]).double()
    assert (together - exact["output"]).abs().max() < 2e-3


def test_is_batch_norm_on_one_process() -> None:
    ours = run_norm(GlobalBatchNorm1d, [8], torch.float64, 0.1, 2.0)
    theirs = run_norm(nn.BatchNorm1d, [8], torch.float64, 0.1, 2.0)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    norm = norm_of(GlobalBatchNorm1d, 0.1, torch.float32).eval()
    plain = norm_of(nn.BatchNorm1d, 0.1, torch.float32).eval()
    plain.load_state_dict(norm.state_dict())
    rows = torch.randn(3, WIDTH)
    assert torch.equal(norm(rows), plain(rows))


def evaluate_on_own_rows() -> Tensor:
    norm = norm_of(GlobalBatchNorm1d, 0.1, torch.float64).eval()
    output: Tensor = norm(rows_and_cotangents(0, 4, torch.float64, 0.0)[0][: rank() + 1])
    return output.detach()


def test_evaluation_needs_no_other_process() -> None:
    results = run_on_processes(evaluate_on_own_rows, 2)
    assert torch.equal(results[0], results[1][:1])


def run_network(shared: bool, counts: list[int]) -> list[Tensor]:
    """Output, input gradient and statistics of convolutions over this process's share of the clips."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1)).double()
    if shared:
        share_statistics(network)
    clips = torch.randn(sum(counts), 3, 4, 5, 6, dtype=torch.float64)
    cotangents = torch.randn(sum(counts), 2, 2, 3, 4, dtype=torch.float64)
    part = slice(sum(counts[: rank()]), sum(counts[: rank() + 1]))
    own = clips[part].clone().requires_grad_()
    output = network(own)
    (output * cotangents[part]).sum().backward()
    assert own.grad is not None
    return [output.detach(), own.grad, *(x for key, x in network.state_dict().items() if "running" in key)]


def test_convolutions_share_statistics() -> None:
    counts = UNEVEN[2]
    output, gradient, mean, variance = run_network(False, [sum(counts)])
    results = run_on_processes(run_network, 2, True, counts)
    torch.testing.assert_close(torch.cat([r[0] for r in results]), output, atol=1e-10, rtol=0)
    torch.testing.assert_close(torch.cat([r[1] for r in results]), gradient, atol=1e-10, rtol=0)
    for result in results:
        torch.testing.assert_close(result[2], mean, atol=1e-10, rtol=0)
        torch.testing.assert_close(result[3], variance, atol=1e-10, rtol=0)
    # The control: without sharing the outputs are others.
    apart = run_on_processes(run_network, 2, False, counts)
    assert (torch.cat([r[0] for r in apart]) - output).abs().max() > 1e-3


def test_sharing_statistics_keeps_weights_and_finds_every_layer() -> None:
    encoder = vidssl.create_model("pytorchvideo/x3d_xs")
    before = copy.deepcopy(encoder.state_dict())
    assert has_batch_norm(encoder)
    share_statistics(encoder)
    assert all(torch.equal(x, before[key]) for key, x in encoder.state_dict().items())
    layers = [type(layer).__name__ for layer in encoder.modules() if isinstance(layer, _BatchNorm)]
    assert set(layers) == {"GlobalBatchNorm3d"}
    assert not has_batch_norm(nn.Sequential(nn.LayerNorm(3), nn.GroupNorm(1, 3)))


class OwnNorm(nn.BatchNorm2d):
    """As timm's, which add an activation."""


def share_own() -> str | None:
    try:
        share_statistics(nn.Sequential(OwnNorm(3)))
    except VidsslError as error:
        return str(error)
    return None


def test_batch_norm_that_cannot_be_shared_is_refused_on_several_processes() -> None:
    assert share_own() is None
    assert all("OwnNorm" in (said or "") for said in run_on_processes(share_own, 2))
