"""Latent distribution matching on 2 and 3 gloo processes equals that on one: losses, gradients, draws.

Uneven numbers of clips, some of them padded; two steps, so that the draws must agree as well.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.distributed_runner import run_on_processes
from vidssl.distributed import all_sum, world_size
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import FrameHead, HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import Composite
from vidssl.objectives.ldm import LDM, prediction

SPEC: dict[str, dict[str, Any]] = {
    "logdet": {"entropy": "logdet", "horizon": 2},
    "knn": {"entropy": "knn", "drop_frames": 0.3, "max_rows": 20},
    "rnn": {"dynamics": "rnn", "hidden_dim": 4, "entropy": "kde", "bandwidth": 1.0},
    "teacher": {"target": "teacher", "entropy": "stopgrad", "transition": "continuous"},
    "taylor": {"entropy": "taylor", "transition": "continuous"},
    "default": {"entropy": "logdet", "state_dim": 4},
    "sigreg": {"entropy": "sigreg", "entropy_weight": 0.5, "pool": "per_step"},
    "running": {"entropy": "logdet", "memory": 0.9, "observation_noise": "identity"},
    "other": {"entropy": "knn", "other_clips": True, "neighbours": 2, "observation_noise": "full"},
    "noisy": {"observation_noise": "input", "entropy": "stopgrad", "process_noise": "full"},
}
ROWS = {1: [8], 2: [5, 3], 3: [4, 1, 3]}


def run(processes: int) -> dict[str, Any]:
    """Two steps; losses, gradients of heads and models averaged over processes, and the state at the end."""
    torch.manual_seed(0)
    heads = nn.ModuleDict(
        {name: FrameHead(3, (6, 4 if name == "noisy" else 2), **LDM.default_head) for name in SPEC}
    ).double()
    composite = Composite({name: LDM(4 if name == "noisy" else 2, **o) for name, o in SPEC.items()}).double()
    counts = ROWS[processes]
    index = dist.get_rank() if processes > 1 else 0
    own = slice(sum(counts[:index]), sum(counts[: index + 1]))
    result: dict[str, Any] = {}
    for step in range(2):
        for parameter in (*heads.parameters(), *composite.parameters()):
            parameter.grad = None
        generator = torch.Generator().manual_seed(step)
        times = torch.arange(6, dtype=torch.float64).repeat(8, 1)
        times[3, 4:] = times[6, 3:] = 0
        frames = [torch.randn(8, 6, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
        views = [ClipFeatures(x[own, 0], x[own], None) for x in frames]
        batch = BatchInfo(torch.arange(8)[own], [times[own]] * 2, teacher_views=(1,))
        student = {name: [head(view) for view in views] for name, head in heads.items()}
        teacher = {name: [head(view) for view in views[1:]] for name, head in heads.items()}
        output = composite(student, teacher, batch)
        output.loss.backward()
        result |= {f"{step}/{key}": value for key, value in output.logs.items()}
        for key, parameter in (*heads.named_parameters(), *composite.named_parameters()):
            if parameter.requires_grad:
                assert parameter.grad is not None, key
                result[f"{step}/{key}"] = all_sum(parameter.grad) / world_size()
    return result | {f"state/{key}": value for key, value in composite.state_dict().items()}


def filtered_rows(counts: tuple[int, ...]) -> tuple[list[int], Any]:
    """How many sequences each call of the filter was given, and the loss."""
    seen, original = [], prediction.kalman_filter

    def counted(z: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(len(z))
        return original(z, *arguments, **options)

    prediction.kalman_filter = counted  # type: ignore[assignment]
    try:
        index = dist.get_rank()
        z = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        own = slice(sum(counts[:index]), sum(counts[: index + 1]))
        composite = Composite({"ldm": LDM(2, entropy="logdet").double()})
        batch = BatchInfo(torch.arange(6)[own], [torch.arange(5.0).repeat(6, 1)[own]])
        output = composite({"ldm": [HeadOutput(z[own], None, None)]}, None, batch)
    finally:
        prediction.kalman_filter = original
    return seen, output.loss.detach()


def test_every_process_filters_its_own_sequences() -> None:
    (_, loss), *_ = run_on_processes(filtered_rows, 1, (6,))
    for (seen, found), n in zip(run_on_processes(filtered_rows, 2, (4, 2)), (4, 2), strict=True):
        assert seen == [n]
        torch.testing.assert_close(found, loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("processes", [2, 3])
def test_loss_and_gradient_do_not_depend_on_the_number_of_processes(processes: int) -> None:
    expected = run(1)
    for result in run_on_processes(run, processes, processes, time_limit=180.0):
        assert result.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                result[key], value, rtol=1e-7, atol=1e-10, msg=lambda m, k=key: f"{k}: {m}"
            )
    gradients = [value for key, value in expected.items() if key.endswith("layers.0.weight")]
    assert min(value.abs().max().item() for value in gradients) > 1e-4
