"""Concept objectives on 2 and 3 gloo processes: loss, gradient, logs and running statistics of one process.

The mistake that this must catch, statistics of the own rows only, is made once on purpose.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.distributed_runner import run_on_processes
from tests.objectives.concept.reference import attributed_space
from vidssl.distributed import all_sum, world_size
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import IdentityHead
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import Composite
from vidssl.objectives.concept.objective import ConceptObjective
from vidssl.objectives.concept.priors import PRIORS

ROWS = {1: [8], 2: [5, 3], 3: [4, 1, 3]}
TEMPERATURES = {"student_temperature": 0.2, "teacher_temperature": 0.1}


def run(processes: int, local: bool = False) -> dict[str, Tensor]:
    """Two steps of a linear encoder under all priors; losses, logs, gradients and the state at the end.

    `local`: the mistake of computing everything from the rows of the own process.
    """
    options: dict[str, dict[str, Any]] = {name: {"prior": name, "queue_size": 21} for name in PRIORS}
    options["center"] |= {"sigma": 0.5, "anchor": 2.0}
    scene = {"prior": "log_prior", "teacher_temperature": 0.3}
    options["attributes"] = {
        "sigma": 0.5,
        "spaces": {"category": {}, "description": {}, "scene": scene, "motion": {}},
    }
    composite = Composite(
        {name: ConceptObjective(attributed_space(), **TEMPERATURES, **o) for name, o in options.items()}
    )
    composite.double()
    encoder = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.orthogonal_(encoder.weight, generator=torch.Generator().manual_seed(1))
    index = dist.get_rank() if processes > 1 else 0
    own = slice(sum(ROWS[processes][:index]), sum(ROWS[processes][: index + 1]))
    head, result = IdentityHead(), {}
    for step in range(2):
        encoder.zero_grad()
        inputs, batch = data(own, step)
        views = [head(ClipFeatures(encoder(x), x[:, None], None)) for x in inputs]
        teacher = [head(ClipFeatures(encoder(x) + 0.1, x[:, None], None)) for x in inputs[1:]]
        if local:
            outputs = {name: o(views, teacher, batch) for name, o in composite.items()}
            loss = torch.stack([o.loss for o in outputs.values()]).sum()
        else:
            output = composite(dict.fromkeys(options, views), dict.fromkeys(options, teacher), batch)
            loss = output.loss
            result |= {f"{step}/{key}": value.double() for key, value in output.logs.items()}
        loss.backward()
        assert encoder.weight.grad is not None
        result[f"{step}/gradient"] = all_sum(encoder.weight.grad) / world_size()
    result |= {f"state/{key}": value for key, value in composite.state_dict().items()}
    return result


def data(own: slice, step: int) -> tuple[list[Tensor], BatchInfo]:
    """Three views of 8 videos, of which the teacher sees the last two, and the rows of one process."""
    generator = torch.Generator().manual_seed(step)
    views = [torch.randn(8, 3, generator=generator, dtype=torch.float64)[own] for _ in range(3)]
    anchors = [torch.randn(8, 4, generator=generator, dtype=torch.float64)[own] for _ in range(2)]
    return views, BatchInfo(torch.arange(8)[own], teacher_views=(1, 2), anchors=anchors)


@pytest.mark.parametrize("processes", [2, 3])
def test_everything_is_that_of_one_process(processes: int) -> None:
    expected = run(1)
    for result in run_on_processes(run, processes, processes):
        assert result.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                result[key], value, rtol=1e-6, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}"
            )
    assert expected["0/gradient"].abs().max() > 1e-2
    changed = [key for key in expected if key.startswith("state/") and "priors" in key]
    # per space: center and log_prior (mean, steps), sinkhorn (rows, written); and four spaces with attributes
    assert len(changed) == 2 * (2 + 2 + 2) + 4 * 2
    assert all(expected[key].abs().max() > 0 for key in changed)


def test_statistics_of_the_own_rows_would_be_noticed() -> None:
    expected, result = run(1), run_on_processes(run, 2, 2, True)[0]
    for key in ("1/gradient", "state/objectives.center.priors.category.mean"):
        assert (result[key] - expected[key]).abs().max() > 1e-4
