"""Heads, and batch norm over the rows of several processes against torch's on one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.distributed_runner import run_on_processes
from vidssl.distributed import rank
from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import GlobalBatchNorm1d, MLPHead, ProjectionHead, Prototypes

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


def test_layers_of_an_mlp() -> None:
    head = MLPHead(5, [7, 6, 4], norm="batch", last_norm=True)
    names = [type(layer).__name__ for layer in head.layers]
    middle = ["Linear", "GlobalBatchNorm1d", "ReLU"]
    assert names == [*middle, *middle, "Linear", "GlobalBatchNorm1d"]
    linears = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(5, 7), (7, 6), (6, 4)]
    assert all(layer.bias is None for layer in linears)
    plain = MLPHead(5, [7, 4], norm="none", last_bias=True)
    assert [type(layer).__name__ for layer in plain.layers] == ["Linear", "ReLU", "Linear"]
    assert all(layer.bias is not None for layer in plain.layers if isinstance(layer, nn.Linear))
    assert [type(layer).__name__ for layer in MLPHead(5, [4]).layers] == ["Linear"]


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_leading_axes_are_rows(norm: str) -> None:
    head = MLPHead(5, [7, 4], norm=norm).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(head(x), head(x.flatten(0, 1)).unflatten(0, (2, 3)), atol=1e-12, rtol=0)
    assert head(x[:, :0]).shape == (2, 0, 4) if norm != "batch" else True


def test_mlp_by_hand() -> None:
    head = MLPHead(5, [7, 4], norm="layer").double()
    x = torch.randn(3, 5, dtype=torch.float64)
    first, norm, _, last = head.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(last, nn.Linear)
    hidden = x @ first.weight.T
    hidden = (hidden - hidden.mean(1, keepdim=True)) / torch.sqrt(
        hidden.var(1, keepdim=True, unbiased=False) + norm.eps
    )
    torch.testing.assert_close(head(x), hidden.clamp(min=0) @ last.weight.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dims": []}, "at least one layer"),
        ({"dims": [4, 0]}, "at least 1"),
        ({"dims": [4], "norm": "bacth"}, "did you mean 'batch'?"),
        ({"dims": [4], "norm": "none", "last_norm": True}, "last_norm"),
    ],
)
def test_wrong_mlps(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        MLPHead(5, **arguments)
    assert words in str(error.value)


def test_projection_head() -> None:
    features = ClipFeatures(torch.randn(4, 5), torch.randn(4, 3, 5), None)
    plain = ProjectionHead(5, [8, 6])(features)
    assert plain.projection.shape == (4, 6)
    assert plain.prediction is None
    assert plain.frames is None
    head = ProjectionHead(5, [8, 6], [9, 6], frames=True, norm="layer")
    output = head(features)
    assert output.prediction is not None
    assert output.frames is not None
    assert output.frames.shape == (4, 3, 6)
    assert head.predictor is not None
    assert torch.equal(output.prediction, head.predictor(output.projection))
    with pytest.raises(VidsslError, match="must end in the projector's size 6"):
        ProjectionHead(5, [8, 6], [9, 5])
    with pytest.raises(VidsslError, match="predictor"):
        ProjectionHead(5, [8, 6], [])


def test_prototypes_are_the_weight_norm_of_dino() -> None:
    """Cosines, equal to a linear layer with torch's weight norm, gain 1, on rows of length 1."""
    layer, rows = Prototypes(6, 9).double(), torch.randn(4, 3, 6, dtype=torch.float64)
    twin = nn.utils.parametrizations.weight_norm(nn.Linear(6, 9, bias=False).double())
    with torch.no_grad():
        twin.parametrizations.weight.original0.fill_(1)
        twin.parametrizations.weight.original1.copy_(layer.weight)
    expected = twin(rows / rows.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(layer(rows), expected, rtol=1e-12, atol=1e-12)
    assert layer(rows).abs().max() <= 1
    assert torch.allclose(layer(7 * rows), layer(rows))
    head = ProjectionHead(5, [8, 6], norm="none", prototypes=9)
    assert head(ClipFeatures(torch.randn(4, 5), torch.randn(4, 3, 5), None)).projection.shape == (4, 9)
    for options in ({"predictor": [8, 6]}, {"frames": True}):
        with pytest.raises(VidsslError, match="prototypes: is for a head without a predictor or frames"):
            ProjectionHead(5, [8, 6], prototypes=9, **options)
    with pytest.raises(VidsslError, match="prototypes=0: must be at least 1"):
        ProjectionHead(5, [8, 6], prototypes=0)


def test_frames_do_not_touch_the_clip_statistics() -> None:
    head = ProjectionHead(5, [8, 6], frames=True)
    alone = copy.deepcopy(head)
    clips = torch.randn(4, 5)
    head(ClipFeatures(clips, 100 + torch.randn(4, 3, 5), None))
    alone(ClipFeatures(clips, torch.randn(4, 3, 5), None))
    first, second = head.projector.state_dict(), alone.projector.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
