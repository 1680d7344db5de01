"""Why two orders of the same sums end in weights that differ by more than rounding, at a rate where they do.

The gradient of some weights is zero but for rounding: a bias of the keys, which softmax takes off again, or one before a batch
norm. AdamW divides it by its own size, so that such a weight moves by the rate in a direction that rounding chose, unless eps is larger.

    python -m pytest -s -m slow tests/training/test_rounding.py
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor

from tests.training.test_processes import RECIPE
from vidssl.config import load_config
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train_step
from vidssl.training.report import Report
from vidssl.training.setup import set_up

pytestmark = pytest.mark.slow
EPS = 1e-8  # AdamW's


class Trained(NamedTuple):
    """Losses of ten steps, all weights behind them, and the smallest gradient that each of them had."""

    losses: Tensor
    weights: Tensor
    gradients: Tensor


class Quiet:
    """Takes what a step would say in its report."""

    def say(self, message: str) -> None:
        raise AssertionError(message)

    def is_due(self, step: int) -> bool:
        return False


def trained(recipe: Path, output: Path, pieces: int, eps: float = EPS, double: bool = False) -> Trained:
    """Ten steps at 1e-3 on one process, of a batch in so many pieces, whose gradients are added in another order then."""
    changes = ["train.lr=1e-3", f"train.accumulation={pieces}", f"train.eps={eps}", f"output={output}"]
    config = load_config(recipe, [*RECIPE, *changes])
    run: Any = set_up(config, make_accelerator(config))
    if double:
        for module in (run.student, run.teacher, run.objective):
            module.double()
        render = run.render
        run.render = lambda batch: [view.double() for view in render(batch)]
    learned = [p for p in run.student.parameters() if p.requires_grad]
    sizes: list[Tensor] = []
    step = run.optimizer.step

    def seen() -> None:
        sizes.append(torch.cat([cast(Tensor, p.grad).abs().flatten() for p in learned]))
        step()

    run.optimizer.step = seen
    with closing(run), closing(run.batches()) as batches:
        losses = [train_step(run, batch, cast(Report, Quiet()))["loss"].double() for batch, _ in batches]
    weights = torch.cat([p.detach().flatten() for p in learned]).double()
    assert len(losses) == len(sizes) == 10
    return Trained(torch.stack(losses), weights, torch.stack(sizes).amin(dim=0))


def apart(recipe: Path, folder: Path, **options: Any) -> tuple[Tensor, float, Trained]:
    """The differences of weights and (the largest) of losses, of a batch in one and in eight pieces."""
    whole, pieces = (trained(recipe, folder / "-".join([str(n), *options]), n, **options) for n in (1, 8))
    weights, losses = (whole.weights - pieces.weights).abs(), (whole.losses - pieces.losses).abs()
    print(f"{options}: weights {weights.max():.1e}, losses {losses.max():.1e}")
    return weights, float(losses.max()), whole


def test_only_weights_whose_gradient_is_rounding_end_apart(recipe: Path, tmp_path: Path) -> None:
    weights, losses, run = apart(recipe, tmp_path)
    nothing = run.gradients < EPS
    print(f"gradients below eps: {nothing.sum()} of {len(nothing)} weights")
    assert losses < 1e-5  # they matter to nothing
    assert weights.max() > 1e-5
    assert 0 < nothing.sum() < len(nothing) / 2
    assert weights[~nothing].max() < 1e-6
    assert weights[~nothing].max() < weights[nothing].max() / 30


def test_a_larger_eps_or_more_digits_leave_rounding(recipe: Path, tmp_path: Path) -> None:
    """Were the sums other ones, more digits would change nothing."""
    large, _, _ = apart(recipe, tmp_path, eps=1e-5)
    assert large.max() < 1e-5
    exact, losses, _ = apart(recipe, tmp_path, double=True)
    assert exact.max() < 1e-9
    assert losses < 1e-12
