"""Latent distribution matching against NumPy, its two gauge rules, padding, targets, and what it learns from frames."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor, nn

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.entropy import kde_entropy, knn_entropy
from vidssl.objectives.ldm import LDM, PUBLISHED


def build(dim: int = 2, seed: int = 0, **options: Any) -> LDM:
    """An objective in float64 away from its start values, as published unless told otherwise."""
    objective = LDM(dim, **{**PUBLISHED, **options}).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    objective.after_step()
    return objective


def rows(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


def info(times: list[Tensor], teacher_views: tuple[int, ...] | None = None) -> BatchInfo:
    return BatchInfo(torch.arange(len(times[0])), times, teacher_views)


def seconds(batch: int, frames: int) -> Tensor:
    return torch.arange(frames, dtype=torch.float64).expand(batch, frames).clone()


# -- an independent evaluation -------------------------------------------------------------------------------------------


def numpy_log_likelihood(objective: LDM, z: np.ndarray, R: np.ndarray | None = None) -> np.ndarray:
    """(B, T): textbook Kalman filter, one sequence after another."""
    model = objective.model
    assert isinstance(model, LinearGaussianSSM)
    matrices = model.matrices(R=None if R is None else torch.as_tensor(R))
    A, Q, C, own_R, m0, P0, b = (x.detach().numpy() for x in matrices[:7])
    out = np.zeros(z.shape[:2])
    for i, sequence in enumerate(z):
        x, P = m0, P0
        for t, observed in enumerate(sequence):
            noise = own_R if R is None else R[i, t]
            x, P = A @ x + b, A @ P @ A.T + Q
            S = C @ P @ C.T + noise
            e = observed - C @ x
            out[i, t] = -0.5 * (e @ np.linalg.inv(S) @ e + np.linalg.slogdet(2 * np.pi * S)[1])
            K = P @ C.T @ np.linalg.inv(S)
            x, P = x + K @ e, P - K @ C @ P
    return out


def numpy_entropy(name: str, z: np.ndarray, h: float = 1.0) -> float:
    n, d = z.shape
    gauss = d / 2 * (1 + np.log(2 * np.pi))
    cov = np.atleast_2d(np.cov(z.T))
    if name == "logdet":
        return gauss + 0.5 * np.linalg.slogdet(cov + 1e-8 * np.trace(cov) / d * np.eye(d))[1]
    if name == "taylor":
        r = np.corrcoef(z.T)
        return gauss + 0.5 * np.log(np.diag(cov)).sum() - 0.25 * ((r**2).sum() - d)
    if name == "knn":
        distance = cKDTree(z).query(z, k=4)[0][:, 3]
        distance = np.minimum(distance, np.quantile(distance, 0.9))
        volume = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1)
        return d * np.log(distance).mean() + volume + digamma(n) - digamma(3)
    square = ((z[:, None] - z[None]) ** 2).sum(-1)
    kernel = np.exp(-square / (2 * h**2)) / (2 * np.pi * h**2) ** (d / 2)
    np.fill_diagonal(kernel, 0)
    return -np.log(kernel.sum(1) / (n - 1)).mean()


@pytest.mark.parametrize("entropy", ["logdet", "knn", "kde", "taylor"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_loss_equals_numpy(entropy: str, weight: float) -> None:
    """-mean_b Σ_t log N(e_t; 0, S_t) - w T H, H of all B·T rows with its factor D; the mean over two views."""
    objective = build(
        entropy=entropy, entropy_weight=weight, state_dim=3, process_noise="full", bandwidth=0.8
    )
    views = [rows(5, 6, 2, seed=s, scale=0.7) for s in (1, 2)]
    output = objective(views)
    losses = []
    for view in views:
        z = view.detach().numpy()
        alignment = numpy_log_likelihood(objective, z).sum(1).mean()
        losses.append(-alignment - weight * 6 * numpy_entropy(entropy, z.reshape(30, 2), 0.8))
    assert output.loss.item() == pytest.approx(np.mean(losses), abs=1e-9)
    logs = output.logs
    assert logs["ldm/loss"].item() == pytest.approx(
        (-logs["ldm/alignment"] - weight * 6 * logs["ldm/entropy"]).item()
    )
    assert logs["ldm/alignment_per_dim"].item() == pytest.approx(logs["ldm/alignment"].item() / 12)


def test_learned_and_input_dependent_noise_equal_numpy() -> None:
    objective = build(4, observation_noise="input", entropy="logdet", scale="fixed")
    view = rows(5, 6, 4)
    z, raw = view.detach()[..., :2], view.detach()[..., 2:]
    alignment = numpy_log_likelihood(objective, z.numpy(), input_noise(raw).numpy()).sum(1).mean()
    expected = -alignment - 6 * numpy_entropy("logdet", z.reshape(30, 2).numpy())
    output = objective([view])
    assert output.loss.item() == pytest.approx(expected, abs=1e-9)
    (grad,) = torch.autograd.grad(output.loss, view)
    assert grad[..., 2:].abs().max() > 0
    expected = input_noise(raw).logdet().mean().item()
    assert output.logs["ldm/log_det_R"].item() == pytest.approx(expected)


def test_kde_follows_the_noise_of_the_prediction() -> None:
    objective = build(entropy="kde")
    view = rows(5, 6, 2)
    covs = objective.model.filter(view).innovation_cov  # type: ignore[union-attr]
    h = covs[0].diagonal(dim1=-2, dim2=-1).mean().sqrt().item()
    expected = numpy_entropy("kde", view.detach().reshape(30, 2).numpy(), h)
    assert objective([view]).logs["ldm/entropy"].item() == pytest.approx(expected, abs=1e-9)


def test_per_step_entropy_equals_numpy() -> None:
    objective = build(entropy="logdet", pool="per_step")
    view = rows(9, 4, 2)
    expected = np.mean([numpy_entropy("logdet", view.detach()[:, t].numpy()) for t in range(4)])
    assert objective([view]).logs["ldm/entropy"].item() == pytest.approx(expected, abs=1e-9)
    pooled = build(entropy="logdet")([view]).logs["ldm/entropy"].item()
    assert pooled > expected


@pytest.mark.parametrize("entropy", ["logdet", "taylor"])
def test_within_clips_what_tells_them_apart_has_no_entropy(entropy: str) -> None:
    """Means of clips are taken out, and with them degrees of freedom; padding does not count."""
    objective = build(entropy=entropy, pool="within_clip")
    view, times = rows(6, 9, 2), seconds(6, 9)
    times[2:, 5:] = 0
    z, real = view.detach().numpy(), (times > 0).numpy() | (np.arange(9) == 0)
    left = np.concatenate([x[kept] - x[kept].mean(0) for x, kept in zip(z, real, strict=True)])
    free = real.sum() - 6
    expected = numpy_entropy(entropy, left) + np.log((real.sum() - 1) / free)
    found = objective([view], None, info([times])).logs["ldm/entropy"]
    assert found.item() == pytest.approx(expected, abs=1e-9)
    far = view + 1e3 * rows(6, 1, 2, seed=4)
    assert objective([far], None, info([times])).logs["ldm/entropy"].item() == pytest.approx(
        expected, abs=1e-6
    )
    with pytest.raises(VidsslError, match="pool='within_clip': entropy is one of logdet, taylor, not 'knn'"):
        LDM(2, entropy="knn", pool="within_clip")


@pytest.mark.parametrize("entropy", ["knn", "kde"])
def test_frames_of_other_videos_are_neighbours(entropy: str) -> None:
    """The first two clips are of one video."""
    objective = build(entropy=entropy, bandwidth=0.8, other_clips=True, clip_quantile=1.0)
    view, video = rows(6, 5, 2), torch.tensor([7, 7, 1, 2, 3, 4])
    estimate = partial(knn_entropy, k=3) if entropy == "knn" else partial(kde_entropy, bandwidth=0.8)
    expected = estimate(view.detach().flatten(0, 1), groups=video.repeat_interleave(5))
    found = objective([view], None, BatchInfo(video, [])).logs["ldm/entropy"]
    torch.testing.assert_close(found, expected)
    assert found != objective([view]).logs["ldm/entropy"]


def test_recurrent_predictor_starts_with_the_second_frame() -> None:
    """T - 1 frames are predicted, with unit variance, and as many entropies counted."""
    objective = build(dynamics="rnn", hidden_dim=6, entropy="logdet")
    view = rows(5, 6, 2)
    error = (view[:, 1:] - objective.model(view).mean).detach()  # type: ignore[operator]
    alignment = (-0.5 * error.square().sum(-1) - math.log(2 * math.pi)).sum(1).mean().item()
    expected = -alignment - 5 * numpy_entropy("logdet", view.detach().reshape(30, 2).numpy())
    assert objective([view]).loss.item() == pytest.approx(expected, abs=1e-9)


def test_mean_over_frames_is_the_sum_divided() -> None:
    view = rows(5, 6, 2)
    both = [build(reduction=r)([view]) for r in ("sum", "mean")]
    assert both[1].loss.item() == pytest.approx(both[0].loss.item() / 6)


def test_auto_chooses_by_dimension() -> None:
    assert [LDM(dim).entropy for dim in (2, 8, 9, 16)] == ["knn", "knn", "logdet", "logdet"]


# -- the two gradients of z ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamics", ["kalman", "rnn"])
@pytest.mark.parametrize("entropy", ["stopgrad", "logdet", "knn"])
def test_a_stopped_target_moves_nothing_but_the_past(dynamics: str, entropy: str) -> None:
    """The last frame is only ever a target; every earlier one is also somebody's past."""
    view = rows(4, 5, 2)
    (grad,) = torch.autograd.grad(build(dynamics=dynamics, entropy=entropy)([view]).loss, view)
    size = grad.abs().amax(dim=(0, 2))
    assert (size[:-1] > 1e-6).all()
    assert (size[-1] == 0) if entropy == "stopgrad" else (size[-1] > 1e-6)


def test_a_stopped_target_has_the_value_and_the_model_gradient_of_the_likelihood() -> None:
    view = rows(4, 5, 2)
    stopped, plain = build(entropy="stopgrad", scale="fixed"), build(entropy="logdet", entropy_weight=0.0)
    a, b = stopped([view]).loss, plain([view]).loss
    torch.testing.assert_close(a, b)
    for p, q in zip(stopped.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(*torch.autograd.grad([a, b], [p, q], retain_graph=True))


def test_gradient_of_the_loss() -> None:
    for options in (
        {"entropy": "logdet"},
        {"entropy": "kde", "bandwidth": 0.5},
        {"dynamics": "rnn", "hidden_dim": 4},
    ):
        objective = build(entropy_weight=1.0, clip_quantile=1.0, **options)
        assert torch.autograd.gradcheck(lambda z, f=objective: f([z]).loss, (rows(4, 4, 2),), fast_mode=True)


# -- scale ---------------------------------------------------------------------------------------------------------------


def rescale(objective: LDM, c: float) -> None:
    """The same model for z in units of 1/c."""
    model = objective.model
    with torch.no_grad():
        if isinstance(model, LinearGaussianSSM):
            assert model.log_scale is not None
            assert model.fixed_point is not None
            model.log_scale.add_(2 * math.log(c))
            model.fixed_point.mul_(c)


@pytest.mark.parametrize("entropy", ["logdet", "knn", "kde", "taylor"])
@pytest.mark.parametrize(("horizon", "lag", "pool"), [(1, 1, "batch_time"), (3, 2, "per_step")])
def test_units_do_not_matter_with_learned_scales(entropy: str, horizon: int, lag: int, pool: str) -> None:
    objective = build(
        entropy=entropy, scale="learned", observation_noise="diag", horizon=horizon, lag=lag, pool=pool
    )
    view = rows(9, 6, 2)
    before = objective([view]).loss.item()
    rescale(objective, 2.5)
    assert objective([2.5 * view]).loss.item() == pytest.approx(before, abs=1e-8)


def test_units_matter_with_any_other_weight() -> None:
    """F changes by (w - 1) T D log c: with w = 2 the loss falls for ever. The constructor refuses; here it is forced."""
    objective = build(entropy="logdet", scale="learned")
    objective.entropy_weight = 2.0
    view = rows(5, 6, 2)
    before = objective([view]).loss.item()
    rescale(objective, 2.5)
    assert objective([2.5 * view]).loss.item() == pytest.approx(before - 6 * 2 * math.log(2.5))


@pytest.mark.parametrize(
    "options",
    [
        {"observation_noise": "scalar"},
        {"observation_noise": "input"},
        {"scale": "learned"},
        {"dynamics": "rnn", "observation_noise": "diag"},
    ],
)
def test_learned_scale_needs_weight_one(options: dict[str, Any]) -> None:
    LDM(4, **options)
    LDM(4, entropy="stopgrad", **options)
    with pytest.raises(VidsslError, match=r"entropy_weight=0\.5: must be exactly 1"):
        LDM(4, entropy_weight=0.5, **options)
    LDM(4, observation_noise="identity", entropy_weight=0.5)


# -- padding, dropped frames, times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"entropy": "logdet"},
        {"entropy": "knn", "pool": "per_step", "neighbours": 1},
        {"entropy": "kde", "horizon": 2, "lag": 2},
        {"entropy": "stopgrad"},
        {"dynamics": "rnn", "horizon": 2},
        {"transition": "continuous", "time_unit": 0.5},
        {"entropy": "logdet", "burn_in": 1},
        {"target": "teacher"},
    ],
)
def test_padding_with_garbage_changes_nothing(options: dict[str, Any]) -> None:
    """Two clips of 6 frames and two of 4; the same with three more frames of garbage; times stand still or run back."""
    view = rows(4, 6, 2)
    times = seconds(4, 6)
    times[2:, 4:] = times[2:, 3:4]
    longer = torch.cat([view, torch.full((4, 3, 2), 1e3)], dim=1).detach()
    longer[2:, 4:6] = torch.nan
    longer.requires_grad_()
    longer_times = torch.cat([times, torch.tensor([0.0, 3.0, 1.0]).expand(4, 3)], dim=1)
    grads, losses = [], []
    for z, t in ((view, times), (longer, longer_times)):
        objective = build(**options)
        output = objective([z], [2 * z.detach()], info([t]))
        losses.append(output.loss)
        grads.append(
            torch.autograd.grad(output.loss, [z, *[p for p in objective.parameters() if p.requires_grad]])
        )
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grads[1][0][:, :6], grads[0][0], rtol=1e-9, atol=1e-12)
    assert (grads[1][0][:, 6:] == 0).all()
    assert (grads[1][0][2:, 4:] == 0).all()
    for a, b in zip(grads[1][1:], grads[0][1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    # Negative control: taken for real, the same frames change the loss.
    assert build(**options)([view], [2 * view.detach()], info([seconds(4, 6)])).loss != losses[0]


def test_padded_clips_count_by_their_frames() -> None:
    """Likelihood and entropy both count 20 real frames over 4 clips."""
    objective = build(entropy="logdet")
    view, times = rows(4, 6, 2), seconds(4, 6)
    times[2:, 4:] = 0
    z = view.detach().numpy()
    likelihood = numpy_log_likelihood(objective, z)
    real = np.ones((4, 6), dtype=bool)
    real[2:, 4:] = False
    expected = -likelihood[real].sum() / 4 - 20 / 4 * numpy_entropy("logdet", z[real])
    assert objective([view], None, info([times])).loss.item() == pytest.approx(expected, abs=1e-9)


def test_frames_without_real_times_are_refused() -> None:
    with pytest.raises(VidsslError, match="times must increase"):
        build(burn_in=1)([rows(4, 6, 2)], None, info([torch.zeros(4, 6)]))


def test_tubelets_have_the_mean_time_of_their_frames() -> None:
    """Twelve video frames behind six feature frames."""
    objective = build(transition="continuous")
    view, times = rows(4, 6, 2), seconds(4, 12) ** 1.5
    own = times.reshape(4, 6, 2).mean(-1)
    a, b = (objective([view], None, info([t])).loss for t in (times, own))
    torch.testing.assert_close(a, b)
    assert objective([view], None, info([seconds(4, 6)])).loss != b
    with pytest.raises(VidsslError, match="the batch gives no times"):
        objective([view])


def test_hidden_frames_are_still_predicted() -> None:
    """The filter is not shown them, but its prediction across the gap counts."""
    objective = build(entropy="logdet", drop_frames=0.4)
    view = rows(4, 6, 2)
    draw = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) >= 0.4
    objective.generator.manual_seed(0)
    output = objective([view])
    model = objective.model
    assert isinstance(model, LinearGaussianSSM)
    result = model.filter(view, mask=draw[..., None])
    e = view - result.pred_mean
    S = result.innovation_cov
    expected = -0.5 * ((e * torch.linalg.solve(S, e)).sum(-1) + (2 * math.pi * S).logdet())
    assert output.logs["ldm/alignment"].item() == pytest.approx(expected.sum(1).mean().item(), abs=1e-9)
    objective.eval()
    assert objective([view]).loss.item() == pytest.approx(build(entropy="logdet")([view]).loss.item())


def test_draws_resume() -> None:
    view = rows(8, 40, 2)
    options = {"entropy": "knn", "drop_frames": 0.3, "max_rows": 64}
    first = build(**options)
    first([view])
    state = first.state_dict()
    second = build(seed=5, **options)
    second.load_state_dict(state)
    losses = [objective([view]).loss for objective in (first, second)]
    assert losses[0] == losses[1]
    assert first([view]).loss != losses[0]


# -- several steps, teacher, views -----------------------------------------------------------------------------------------


def test_two_steps_ahead_is_one_step_over_a_missing_frame() -> None:
    objective = build(entropy="logdet", lag=2, state_dim=3)
    view = rows(5, 4, 2)
    expected = 0.0
    for t in (2, 3):
        hidden = view.detach().clone()
        hidden[:, t - 1] = torch.nan
        expected += objective.model.filter(hidden).log_likelihood[:, t].mean().item()  # type: ignore[union-attr]
    output = objective([view])
    assert output.logs["ldm/alignment"].item() == pytest.approx(expected, abs=1e-9)
    loss = -expected - 2 * numpy_entropy("logdet", view.detach().reshape(20, 2).numpy())
    assert output.loss.item() == pytest.approx(loss, abs=1e-9)


@pytest.mark.parametrize("dynamics", ["kalman", "rnn"])
def test_horizons_add_up_with_their_weights(dynamics: str) -> None:
    view = rows(5, 6, 2)
    options = {"dynamics": dynamics, "entropy": "logdet"}
    single = [build(lag=lag, **options)([view]).loss.item() for lag in (1, 2, 3)]
    together = build(horizon=3, horizon_decay=0.5, **options)([view]).loss.item()
    assert together == pytest.approx(single[0] + 0.5 * single[1] + 0.25 * single[2])


def test_burn_in_drops_the_first_frames() -> None:
    objective = build(entropy="logdet", burn_in=2)
    view = rows(5, 6, 2)
    z = view.detach().numpy()
    expected = -numpy_log_likelihood(objective, z)[:, 2:].sum(1).mean() - 4 * numpy_entropy(
        "logdet", z.reshape(30, 2)
    )
    assert objective([view]).loss.item() == pytest.approx(expected, abs=1e-9)
    with pytest.raises(VidsslError, match="burn_in=6 leaves none of 6 frames"):
        build(burn_in=6)([view])


def test_a_teacher_is_the_target_of_the_same_view() -> None:
    objective = build(target="teacher", scale="fixed")
    assert objective.needs_teacher
    views = [rows(5, 6, 2, seed=s) for s in range(3)]
    targets = [rows(5, 6, 2, seed=s) for s in (11, 12)]
    batch = info([seconds(5, 6)] * 3, teacher_views=(2, 0))
    output = objective(views, targets, batch)
    grads = torch.autograd.grad(output.loss, [*views, *targets], allow_unused=True)
    assert [grad is None for grad in grads] == [False, True, False, True, True]
    losses = []
    for view, target in ((views[0], targets[1]), (views[2], targets[0])):
        result = objective.model.filter(view)  # type: ignore[union-attr]
        e, S = (target - result.pred_mean).detach(), result.innovation_cov.detach()
        alignment = -0.5 * ((e * torch.linalg.solve(S, e)).sum(-1) + (2 * math.pi * S).logdet()).sum(1).mean()
        losses.append(-alignment.item())
    assert output.loss.item() == pytest.approx(np.mean(losses), abs=1e-9)
    # Its last frame is nobody's past and no target, and there is no entropy that would move it.
    assert grads[0][:, -1].abs().max() == 0
    assert grads[0][:, :-1].abs().max() > 0
    with pytest.raises(VidsslError, match="needs the rows of a teacher"):
        objective(views)


@pytest.mark.parametrize("entropy", ["logdet", "knn", "kde", "taylor"])
def test_an_entropy_with_a_teacher_is_refused(entropy: str) -> None:
    with pytest.raises(VidsslError, match=f"entropy='{entropy}': must be 'stopgrad' with target='teacher'"):
        build(target="teacher", entropy=entropy)
    assert build(target="teacher").entropy == "stopgrad"


def trained_std(objective: LDM) -> float:
    """Mean standard deviation of the latents after 150 steps of a small encoder and a teacher that follows it."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    student = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2))
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW([*student.parameters(), *objective.parameters()], lr=1e-2, weight_decay=0.0)
    mix = torch.randn(2, 6, generator=generator)
    for _ in range(150):
        state, frames = torch.randn(16, 2, generator=generator), []
        for _ in range(8):
            state = 0.9 * state + 0.43 * torch.randn(16, 2, generator=generator)
            frames.append(state @ mix)
        clips = torch.stack(frames, dim=1)
        z = student(clips)
        optimizer.zero_grad()
        objective([z], [teacher(clips)]).loss.backward()
        optimizer.step()
        objective.after_step()
        for own, new in zip(teacher.parameters(), student.parameters(), strict=True):
            own.lerp_(new.detach(), 0.1)
    return z.detach().std().item()


def test_why_it_is_refused() -> None:
    """The likelihood of the student's own rows holds the scale, and without an entropy nothing drives it; the refused pair runs off."""
    refused = LDM(2, target="teacher", scale="fixed", observation_noise="identity")
    refused.entropy = "logdet"
    held = [LDM(2, entropy="logdet", observation_noise="identity"), LDM(2, target="teacher", **PUBLISHED)]
    assert trained_std(refused) > 3 * max(trained_std(objective) for objective in held)


def test_reads_the_frames_of_head_outputs() -> None:
    view = rows(5, 6, 2)
    clip = rows(5, 2)
    objective = build()
    output = objective([HeadOutput(clip, None, view)])
    assert output.loss.item() == pytest.approx(objective([view]).loss.item())
    with pytest.raises(VidsslError, match="frames=True"):
        objective([clip])


# -- precision, optimiser, mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamics", ["kalman", "rnn"])
def test_float32_under_autocast(dynamics: str) -> None:
    objective = LDM(2, dynamics=dynamics, entropy="logdet")
    view = rows(5, 6, 2).detach().to(torch.bfloat16)
    plain = objective([view.float()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = objective([view])
    assert mixed.loss.dtype == torch.float32
    torch.testing.assert_close(mixed.loss, plain.loss, rtol=0, atol=0)


def test_a_latent_that_is_not_finite_gives_a_loss_that_is_not() -> None:
    """The trainer skips such a step; a filter that took NaN for a missing frame would train on."""
    view = rows(5, 6, 2).detach()
    view[1, 2, 0] = torch.nan
    assert not torch.isfinite(build()([view]).loss)
    view[1, 2, 0] = torch.inf
    assert not torch.isfinite(build()([view]).loss)
    noise = torch.cat([rows(5, 6, 2).detach(), torch.nan * view], dim=2)
    assert not torch.isfinite(build(4, observation_noise="input")([noise]).loss)


def test_the_model_learns_faster_and_stays_stable() -> None:
    objective = LDM(2, calibrate=False)
    (group,) = objective.param_groups()
    assert group["lr_scale"] == 100
    assert group["weight_decay"] == 0
    assert "lr" not in group
    assert {id(p) for p in group["params"]} == {id(p) for p in objective.parameters()}
    assert LDM(2, dynamics="rnn").param_groups()[0]["lr_scale"] == 30
    assert LDM(2, lr_multiplier=7.0).param_groups()[0]["lr_scale"] == 7
    model = objective.model
    assert isinstance(model, LinearGaussianSSM)
    with torch.no_grad():
        next(model.transition.parameters()).mul_(3)
    objective.after_step()
    assert model.spectral_radius() == pytest.approx(1.02, abs=1e-4)
    assert objective([rows(5, 6, 2)]).logs["ldm/spectral_radius"].item() == pytest.approx(1.02, abs=1e-4)
    LDM(2, dynamics="rnn").after_step()


def test_logs_say_when_the_filter_ignores_its_input() -> None:
    objective = build(entropy="logdet")
    view = rows(5, 6, 2)
    awake = objective([view]).logs
    assert set(awake) == {
        f"ldm/{key}"
        for key in ("loss", "alignment", "alignment_per_dim", "entropy", "std", "spectral_radius", "gain")
    }
    assert all(not value.requires_grad for value in awake.values())
    assert awake["ldm/std"].item() == pytest.approx(view.reshape(30, 2).std(0).mean().item())
    gains = objective.model.filter(view)  # type: ignore[union-attr]
    K = gains.pred_cov[0] @ torch.linalg.inv(gains.innovation_cov[0])
    assert awake["ldm/gain"].item() == pytest.approx(K.abs().mean().item())


def test_mistakes_are_named() -> None:
    for options, message in (
        ({"dynamics": "kalmann"}, "did you mean 'kalman'"),
        ({"entropy": "log_det"}, "did you mean 'logdet'"),
        ({"pool": "time"}, "pool='time'"),
        ({"lag": 0}, "lag=0: must be at least 1"),
        ({"horizon_decay": 0.0}, "horizon_decay=0"),
        ({"drop_frames": 1.0}, "drop_frames=1"),
        ({"neighbours": 0}, "neighbours=0"),
        ({"bandwidth": 0.0}, "bandwidth=0"),
        ({"observation_noise": "input", "dim": 3}, "even number of dimensions, got 3"),
        ({"dynamics": "rnn", "transition": "rotation"}, "are for 'kalman'"),
        ({"state_dim": 1}, "state_dim=1: must be at least latent_dim=2"),
    ):
        with pytest.raises(VidsslError, match=message):
            LDM(**{"dim": 2, **options})
    with pytest.raises(VidsslError, match="predicting 4 frames ahead needs more than 4 frames"):
        build(lag=2, horizon=3)([rows(4, 4, 2)])
    with pytest.raises(VidsslError, match="rows have 3 dimensions; the model was built for 2"):
        build()([rows(4, 4, 3)])
    with pytest.raises(VidsslError, match="needs 4 videos, got 3"):
        build(entropy="knn", pool="per_step")([rows(3, 4, 2)])


# -- what it learns --------------------------------------------------------------------------------------------------------


def square_walk(steps: int = 100) -> tuple[Tensor, Tensor]:
    """A point that walks around a square in 20 frames, and the sinusoid that follows it; (T, 2) both."""
    t = 0.2 * torch.arange(steps)
    along, side = 2 * (t % 1) - 1, t.floor().long() % 4
    one = torch.ones_like(along)
    sides = [(one, along), (-along, one), (-one, -along), (along, -one)]
    position = torch.stack([torch.stack(xy, dim=-1) for xy in sides])[side, torch.arange(steps)]
    position[0] = torch.tensor([1.0, 0.0])
    phase = 2 * math.pi * t / 4
    return position, torch.stack([phase.cos(), phase.sin()], dim=-1)


def render(position: Tensor) -> Tensor:
    """(T, 100): a blob of width 1 on 10 x 10 pixels."""
    pixel = ((position + 3) * 10 / 6).clamp(0, 9)
    grid = torch.arange(10.0)
    square = (grid[None, :, None] - pixel[:, 0, None, None]) ** 2 + (
        grid[None, None] - pixel[:, 1, None, None]
    ) ** 2
    return torch.exp(-square / 2).flatten(1)


def r_squared(train: Tensor, held_out: Tensor, target: Tensor) -> float:
    """Of a least-squares map with intercept from (B, T, m) to the target (T, 2) of every sequence, on held-out ones."""

    def rows_of(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        design = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1).flatten(0, 1).double().numpy()
        return design, target.expand(len(x), -1, -1).flatten(0, 1).double().numpy()

    weights = np.linalg.lstsq(*rows_of(train), rcond=None)[0]
    design, truth = rows_of(held_out)
    residual = ((truth - design @ weights) ** 2).sum(0)
    return float((1 - residual / ((truth - truth.mean(0)) ** 2).sum(0)).mean())


class SquareRun:
    """Encoder and objective on noisy frames of the square walk (variance 0.1, drawn anew for every batch)."""

    def __init__(self, **options: Any) -> None:
        self.generator = torch.Generator().manual_seed(0)
        position, self.target = square_walk()
        self.clean = render(position)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(
                nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 2)
            )
        self.objective = LDM(2, **options)

    def frames(self, sequences: int) -> Tensor:
        noise = torch.randn(sequences, *self.clean.shape, generator=self.generator)
        return self.clean + math.sqrt(0.1) * noise

    def train(self, updates: int, lr: float = 6.25e-4) -> list[dict[str, Tensor]]:
        groups = [
            {"params": group["params"], "lr": lr * group["lr_scale"]}
            for group in self.objective.param_groups()
        ]
        optimizer = torch.optim.Adam([{"params": self.encoder.parameters()}, *groups], lr=lr)
        logs = []
        for _ in range(updates):
            optimizer.zero_grad()
            output = self.objective([self.encoder(self.frames(8))])
            output.loss.backward()
            optimizer.step()
            self.objective.after_step()
            logs.append(output.logs)
        return logs

    @torch.no_grad()
    def scores(self) -> tuple[float, float]:
        """R² of the sinusoid from filtered means and from single latents."""
        model = self.objective.model
        assert isinstance(model, LinearGaussianSSM)
        z = [self.encoder(self.frames(16)) for _ in range(2)]
        h = [model.filter(x).filt_mean for x in z]
        return r_squared(*h, self.target), r_squared(*z, self.target)


def test_the_square_is_found_in_noise() -> None:
    """Mikulasch & Zenke 2026, fig. A3: frames at pixel noise 0.1 become a rotation by 2π/20 per step."""
    run = SquareRun(entropy="logdet")
    assert run.scores()[0] < 0.3
    run.train(300)
    filtered, single = run.scores()
    assert filtered > 0.95
    assert single > 0.8
    assert run.objective.model.eigenvalues().angle().abs().numpy() == pytest.approx(
        2 * math.pi / 20, abs=0.02
    )  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_stopped_target_finds_the_square_too() -> None:
    run = SquareRun(entropy="stopgrad")
    run.train(400)
    assert run.scores()[0] > 0.85


def test_without_entropy_it_collapses_while_the_likelihood_rises() -> None:
    """A falling loss proves nothing."""
    run = SquareRun(entropy="logdet", entropy_weight=0.0, observation_noise="identity")
    logs = run.train(120)
    first, last = logs[0], logs[-1]
    assert last["ldm/alignment"] > first["ldm/alignment"] + 10
    assert last["ldm/std"] < first["ldm/std"] / 5
    assert run.scores()[0] < 0.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dynamics", ["kalman", "rnn"])
@pytest.mark.parametrize("entropy", ["logdet", "knn", "kde", "stopgrad"])
def test_a_gpu_has_the_loss_and_gradient_of_a_cpu(dynamics: str, entropy: str) -> None:
    results = []
    for device in ("cpu", "cuda"):
        objective = build(dynamics=dynamics, entropy=entropy).to(device)
        view = rows(6, 8, 2).detach().to(device).requires_grad_()
        loss = objective([view]).loss
        learned = [p for p in objective.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [view, *learned], allow_unused=True)
        results.append([x.detach().cpu() for x in (loss, *gradients) if x is not None])
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-8)


def test_a_model_of_ones_own_is_made_from_the_generator_of_the_objective() -> None:
    """What the options of a recipe cannot say: the sizes and the variance of a recurrent predictor."""
    make = partial(RecurrentPredictor, 3, hidden_dim=5, head=(), start_variance=0.19)
    objective = LDM(3, make, "logdet", seed=4)
    expected = make(generator=torch.Generator().manual_seed(4))
    assert all(
        torch.equal(a, b) for a, b in zip(objective.model.parameters(), expected.parameters(), strict=True)
    )
    assert objective.lr_multiplier == 30
    assert LDM(3, partial(LinearGaussianSSM, 6, 3), "logdet").lr_multiplier == 100
    assert LDM(6, partial(LinearGaussianSSM, 6, 3, R="input"), "stopgrad").noise_from_input
    with pytest.raises(VidsslError, match="rows of 3 dimensions, not of 4"):
        LDM(4, make, "logdet")
