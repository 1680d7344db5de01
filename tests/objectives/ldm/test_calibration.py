"""The start of a model of motion from the scale of the first batch's latents, and steps that do not wait for a GPU."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.errors import VidsslError
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.ldm import LDM
from vidssl.objectives.ldm.objective import CHECKED_STEPS


def walk(batch: int = 6, frames: int = 8, dim: int = 2, scale: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, frames, dim, generator=generator).cumsum(1)


def test_the_default_starts_in_the_unit_of_the_latents() -> None:
    """Whatever the unit of the encoder, the first loss is the same: what the likelihood loses the entropy gains."""
    losses = []
    for unit in (1e-3, 1.0, 1e3):
        objective = LDM(2, entropy="logdet")
        losses.append(objective([walk(scale=unit)]).loss.item())
        assert objective.calibrated
    assert losses == pytest.approx([losses[1]] * 3, rel=1e-4)
    wild = LDM(2, entropy="logdet", calibrate=False)([walk(scale=1e3)]).loss.item()
    assert wild > losses[1] + 100


def test_only_the_first_batch_of_training_calibrates_and_a_resumed_run_knows() -> None:
    objective = LDM(2, entropy="logdet")
    objective.eval()
    objective([walk()])
    assert not objective.calibrated
    objective.train()
    objective([walk(scale=5.0)])
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    objective([walk(scale=50.0)])
    assert all(torch.equal(before[key], value) for key, value in objective.state_dict().items())
    resumed = LDM(2, entropy="logdet", seed=3)
    resumed.load_state_dict(before)
    assert resumed.calibrated
    assert resumed([walk(seed=1)]).loss == objective([walk(seed=1)]).loss


def test_a_model_that_cannot_learn_the_scale_is_left_as_it_is() -> None:
    for options in ({"observation_noise": "identity"}, {"calibrate": False}):
        objective = LDM(2, entropy="logdet", **options)
        before = [p.clone() for p in objective.parameters()]
        objective([walk(scale=9.0)])
        assert all(torch.equal(a, b) for a, b in zip(before, objective.parameters(), strict=True))


def test_calibration_reads_real_frames_of_the_longest_view() -> None:
    view, times = walk(), torch.arange(8.0).repeat(6, 1)
    times[3:, 5:] = 0
    garbage = view.clone()
    garbage[3:, 5:] = 1e4
    short = walk(frames=4, scale=7.0)
    found = []
    for z in (view, garbage):
        objective = LDM(2, entropy="logdet")
        objective([short, z], None, BatchInfo(torch.arange(6), [times[:, :4], times]))
        found.append(objective.model.log_scale)  # type: ignore[union-attr]
    expected = LinearGaussianSSM(2, 2, R="diag", joint_scale=True)
    expected.calibrate_(view, torch.arange(8) < torch.tensor([8, 8, 8, 5, 5, 5])[:, None])
    assert found[0] == found[1] == expected.log_scale


def test_continuous_and_recurrent_models_are_calibrated_too() -> None:
    times = 0.5 * torch.arange(8.0).repeat(6, 1)
    objective = LDM(2, entropy="logdet", transition="continuous")
    objective([walk(scale=5.0)], None, BatchInfo(torch.arange(6), [times]))
    expected = LinearGaussianSSM(
        2, 2, "continuous", R="diag", joint_scale=True, generator=torch.Generator().manual_seed(0)
    )
    expected.calibrate_(walk(scale=5.0), step=0.5)
    torch.testing.assert_close(objective.model.state_dict(), expected.state_dict())
    objective = LDM(2, "rnn", "logdet", observation_noise="diag")
    objective([walk(scale=5.0)])
    assert isinstance(objective.model, RecurrentPredictor)
    torch.testing.assert_close(
        objective.model.log_variance.exp(), walk(scale=5.0).flatten(0, 1).var(0, correction=0)
    )


def test_noise_that_frames_report_is_in_the_unit_of_the_model() -> None:
    objective = LDM(4, entropy="logdet", observation_noise="input")
    objective([torch.cat([walk(scale=50.0), torch.zeros(6, 8, 2)], dim=2)])
    R = objective.model.matrices(R=torch.eye(2)).R.detach()  # type: ignore[union-attr]
    torch.testing.assert_close(R, walk(scale=50.0).diff(dim=1).square().mean() * torch.eye(2))


# -- without waiting -------------------------------------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: a number read from a tensor, and eigenvalues."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        for what in ("_local_scalar_dense", "eig", "unique", "nonzero"):
            self.count[what] += what in name
        return function(*args, **(kwargs or {}))


def recipe_steps(count: int, **options: Any) -> tuple[LDM, Counter[str]]:
    """Steps with the views of `configs/hsic_lss_kalman.yaml`, and what the last one waited for."""
    objective = LDM(16, state_dim=32, entropy="logdet", horizon=4, reduction="mean", **options)
    optimiser = torch.optim.SGD(objective.parameters(), lr=1e-4)
    for step in range(count):
        views = [walk(8, t, 16, seed=step).requires_grad_() for t in (16, 16, 8, 8)]
        times = [0.15 * torch.arange(float(z.shape[1])).repeat(8, 1) for z in views]
        with Waits() as waits:
            objective(views, None, BatchInfo(torch.arange(8), times)).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            objective.after_step()
    return objective, waits.count


def test_a_step_waits_once() -> None:
    """For which frames are real. While values are checked it is 70 times and more."""
    assert recipe_steps(1)[1]["_local_scalar_dense"] > 60
    _, waits = recipe_steps(CHECKED_STEPS + 1)
    assert waits["_local_scalar_dense"] <= 1
    assert waits["eig"] == waits["unique"] == waits["nonzero"] == 0


def test_checks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for checked in (0, 100):
        monkeypatch.setattr("vidssl.objectives.ldm.objective.CHECKED_STEPS", checked)
        found.append(recipe_steps(3)[0].state_dict())
    assert all(torch.equal(found[0][key], value) for key, value in found[1].items())


@pytest.mark.parametrize("entropy", ["logdet", "stopgrad"])
def test_what_was_an_error_is_a_loss_that_is_not_finite(
    entropy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken covariance, an undefined latent behind a mask: never a finite loss, and the trainer skips the step."""
    times = [torch.arange(8.0).repeat(6, 1)]
    times[0][0, 5:] = 0
    for break_it in ("model", "latent"):
        objective, view = LDM(2, entropy=entropy, calibrate=False), walk()
        if break_it == "model":
            with torch.no_grad():
                objective.model.process_noise.raw.fill_(torch.nan)  # type: ignore[union-attr]
            with pytest.raises(VidsslError, match="Q"):
                objective([view])
        else:
            view[1, 2] = torch.nan
        monkeypatch.setattr("vidssl.objectives.ldm.objective.CHECKED_STEPS", 0)
        assert not torch.isfinite(objective([view]).loss)
        assert not torch.isfinite(objective([view], None, BatchInfo(torch.arange(6), times)).loss)
        monkeypatch.undo()
