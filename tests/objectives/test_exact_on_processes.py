"""Loss and parameter gradients on 2 and 3 gloo processes equal those on one, for every objective.

Each process encodes its own rows (uneven numbers of them), the composite gathers, and parameter gradients are averaged
over the processes as DistributedDataParallel does. Two steps, so that queues, centres and draws must agree as well.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.distributed_runner import run_on_processes
from vidssl.distributed import all_sum, world_size
from vidssl.models.encoder import ClipFeatures
from vidssl.objectives import composite as composite_module
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import build_objectives

HEAD = {"projector": [6, 4]}
OURS: dict[str, dict[str, Any]] = {
    "hsic": {"predictor": [5, 4], "estimator": "exact", "gamma": 1.5},
    "hsic_rff": {"objective": "hsic", "estimator": "rff", "num_features": 32, "bandwidth_rows": 8},
    "hsic_plain": {"objective": "hsic", "target": False},
    "hsic_time": {"objective": "hsic", "time_width": 1.0},
    "hsic_frames": {"objective": "hsic", "frames": True, "time_width": 2.0},
    "hsic_apart": {"objective": "hsic", "same_view_pairs": False, "predictor_last_norm": True},
    "hsic_apart_rff": {"objective": "hsic", "same_view_pairs": False, "estimator": "rff", "num_features": 16},
    "hsic_apart_frames": {"objective": "hsic", "same_view_pairs": False, "frames": True, "time_width": 2.0},
    "hsic_ratio": {"objective": "hsic", "gamma": None, "target": False},
    "hsic_waiting": {
        "objective": "hsic",
        "gamma": None,
        "kappa": 8.0,
        "gamma_max": 0.05,
        "gamma_memory": 0.9,
        "target": False,
    },
    "hsic_ratio_rff": {"objective": "hsic", "gamma": None, "estimator": "rff", "num_features": 16},
    "spectral": {"mu": 2.0},
    "temporal_spectral": {"same_video_negatives": True},
    "ressl": {"queue_size": 5},
    "sigreg": {"num_directions": 16},
    "temporal_infonce": {},
    "temporal_videos": {"objective": "temporal_infonce", "same_video_negatives": False},
    "ressl_keys": {"objective": "ressl", "queue_size": 50, "use_keys": True, "ignore_unfilled": True},
}
LIGHTLY: dict[str, dict[str, Any]] = {
    name: {} for name in ("infonce", "byol", "simsiam", "vicreg", "barlow", "dino")
}
ROWS = {1: [8], 2: [5, 3], 3: [4, 1, 3]}


def run(processes: int, spec: dict[str, dict[str, Any]], device: str = "cpu") -> dict[str, Any]:
    """Two steps; per objective the losses, gradients of its head, and its state at the end."""
    torch.manual_seed(0)
    composite, heads = build_objectives({name: {**HEAD, **options} for name, options in spec.items()}, 3)
    composite.double().to(device)
    modules = nn.ModuleDict(heads).double().to(device)
    index = dist.get_rank() if processes > 1 else 0
    counts = ROWS[processes]
    own = slice(sum(counts[:index]), sum(counts[: index + 1]))
    result: dict[str, Any] = {}
    for step in range(2):
        modules.zero_grad()
        composite.zero_grad()
        composite.set_progress(step / 2)
        views, batch = data(own, step, device)
        student = {name: [head(view) for view in views] for name, head in modules.items()}
        teacher = {name: [head(view) for view in views[1:]] for name, head in modules.items()}
        output = composite(student, teacher, batch)
        output.loss.backward()
        for name in spec:
            result[f"{step}/{name}/loss"] = output.logs[f"{name}/loss"]
        result |= {f"{step}/{key}": average(p) for key, p in modules.named_parameters()}
        result |= {f"{step}/objective/{key}": average(p) for key, p in composite.named_parameters()}
    result |= {f"state/{key}": value for key, value in composite.state_dict().items()}
    return result


def data(own: slice, step: int, device: str = "cpu") -> tuple[list[ClipFeatures], BatchInfo]:
    """Three views of 8 videos, two of which are the same one, and the rows of one process."""
    generator = torch.Generator().manual_seed(step)
    views, times = [], []
    for _ in range(3):
        clip = torch.randn(8, 3, generator=generator, dtype=torch.float64)
        frames = torch.randn(8, 4, 3, generator=generator, dtype=torch.float64)
        seconds = torch.rand(8, 8, generator=generator, dtype=torch.float64)
        views.append(ClipFeatures(clip[own].to(device), frames[own].to(device), None))
        times.append(3 * seconds[own].to(device))
    ids = torch.tensor([3, 1, 4, 7, 5, 9, 2, 1], device=device)
    return views, BatchInfo(ids[own], times, teacher_views=(1, 2))


def average(parameter: Tensor) -> Tensor:
    """Mean over processes of a parameter's gradient; batch norm already sums over processes in its own backward."""
    assert parameter.grad is not None
    return all_sum(parameter.grad) / world_size()


def check(processes: int, spec: dict[str, dict[str, Any]]) -> None:
    expected = run(1, spec)
    for result in run_on_processes(run, processes, processes, spec):
        assert result.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                result[key], value, rtol=1e-6, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}"
            )
    for name in spec:
        gradients = [v for k, v in expected.items() if k.startswith(f"0/{name}.") and k.endswith("weight")]
        assert max(value.abs().max().item() for value in gradients) > 1e-4, name


@pytest.mark.parametrize("processes", [2, 3])
def test_loss_and_gradient_do_not_depend_on_the_number_of_processes(processes: int) -> None:
    check(processes, OURS)


def test_the_same_for_losses_of_lightly() -> None:
    pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    check(2, LIGHTLY)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("spec", [OURS, LIGHTLY], ids=["ours", "lightly"])
def test_a_gpu_has_the_losses_and_gradients_of_a_cpu(spec: dict[str, dict[str, Any]]) -> None:
    if spec is LIGHTLY:
        pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    expected, result = run(1, spec), run(1, spec, "cuda")
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            result[key], value, rtol=1e-6, atol=1e-9, check_device=False, msg=lambda m, k=key: f"{k}: {m}"
        )


def run_with_detached_rows(processes: int, spec: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The mistake that the tests above must catch: rows of other processes without a gradient."""
    original = composite_module.gather_rows

    def cut(x: Tensor, counts: Any = None) -> Tensor:
        everything = original(x.detach(), counts)
        if not x.requires_grad:
            return everything
        start = sum(ROWS[processes][: dist.get_rank()])
        return torch.cat([everything[:start], x, everything[start + len(x) :]])

    composite_module.gather_rows = cut  # type: ignore[attr-defined]
    return run(processes, spec)


def test_a_gather_without_gradient_would_be_noticed() -> None:
    spec = {"hsic": OURS["hsic"]}
    expected = run(1, spec)
    result = run_on_processes(run_with_detached_rows, 2, 2, spec)[0]
    key = next(key for key in expected if key.startswith("0/hsic.projector") and key.endswith("weight"))
    assert (result[key] - expected[key]).abs().max() > 1e-3 * expected[key].abs().max()
