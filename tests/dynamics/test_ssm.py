"""Learned state-space models: their parametrisations, steps of any length, and that nothing is computed twice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.dynamics.kalman import kalman_filter
from vidssl.dynamics.ssm import NOISE_FLOOR, LinearGaussianSSM, input_noise
from vidssl.dynamics.transitions import TRANSITIONS, Rotation, discretise, log_spectral_radius
from vidssl.errors import VidsslError


def build(state_dim: int = 3, latent_dim: int = 2, seed: int = 0, **options: Any) -> LinearGaussianSSM:
    """A model in float64 away from its start values."""
    generator = torch.Generator().manual_seed(seed)
    model = LinearGaussianSSM(state_dim, latent_dim, generator=generator, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def series(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- transitions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_start_is_near_the_identity_and_stable(transition: str, n: int) -> None:
    model = LinearGaussianSSM(n, n, transition, generator=torch.Generator().manual_seed(n))
    radius = model.spectral_radius()
    assert radius <= 1 / 1.1 + 1e-5
    if transition != "orthogonal":  # there it is the largest singular value that is 1/1.1
        assert radius == pytest.approx(1 / 1.1, abs=1e-5)
    A = model.matrices().A.detach()
    assert (A - torch.eye(n) / 1.1).abs().max() < 0.5


def test_rotation_has_the_eigenvalues_that_are_read_off() -> None:
    rotation = Rotation(5).double()
    with torch.no_grad():
        rotation.angle.copy_(torch.tensor([0.3, 1.1]))
        rotation.radius_logit.copy_(torch.tensor([2.0, 0.5, -1.0]))
    radius = rotation.radius_logit.sigmoid().detach().numpy()
    expected = [r * np.exp(s * 1j * w) for r, w in zip(radius, (0.3, 1.1), strict=False) for s in (1, -1)]
    found = np.linalg.eigvals(rotation().detach().numpy())
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex([*expected, radius[2]]), atol=1e-12)


def test_every_plane_of_a_rotation_is_seen() -> None:
    model = build(4, 2, transition="rotation")
    A, C = model.matrices().A.detach(), model.matrices().C
    observability = torch.cat([C @ torch.linalg.matrix_power(A, k) for k in range(4)])
    assert torch.linalg.matrix_rank(observability) == 4
    with pytest.raises(VidsslError, match="at most 4"):
        LinearGaussianSSM(5, 2, "rotation")


@pytest.mark.parametrize("transition", ["rotation", "orthogonal"])
def test_stable_forms_stay_stable_whatever_their_parameters(transition: str) -> None:
    model = LinearGaussianSSM(4, 4, transition).double()
    with torch.no_grad():
        for parameter in model.transition.parameters():
            parameter.copy_(5 * series(*parameter.shape))
    assert model.spectral_radius() < 1
    A = model.matrices().A.detach()
    if transition == "orthogonal":
        expected = model.transition.gain_logit.sigmoid().sort(descending=True).values
        torch.testing.assert_close(torch.linalg.svdvals(A), expected.detach())


@pytest.mark.parametrize("transition", ["near_identity", "continuous"])
def test_projection_bounds_the_spectral_radius_and_only_when_needed(transition: str) -> None:
    model = LinearGaussianSSM(4, 4, transition, generator=torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in model.parameters()]
    model.project_stable_(1.02)
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old, rtol=0, atol=0)
    matrix = next(model.transition.parameters())
    with torch.no_grad():
        matrix.add_(torch.eye(4))
    assert model.spectral_radius() > 1.1
    model.project_stable_(1.02)
    assert model.spectral_radius() == pytest.approx(1.02, abs=1e-3)
    assert model.spectral_radius() < 1.02 + 1e-6
    assert matrix.grad_fn is None


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), size=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_the_bound_on_the_spectral_radius_is_tight(n: int, size: float, seed: int) -> None:
    A = size * series(n, n, seed=seed)
    radius = np.abs(np.linalg.eigvals(A.numpy())).max()
    assert log_spectral_radius(A).exp().item() == pytest.approx(radius, rel=1e-3)
    assert log_spectral_radius(A.float()).exp().item() == pytest.approx(radius, rel=2e-3)


def test_the_bound_on_the_spectral_radius_of_what_dies() -> None:
    """A nilpotent matrix has only the eigenvalue 0, and float32 does not overflow on the way."""
    A = torch.full((5, 5), 1e3).triu(1)
    assert log_spectral_radius(A).exp().item() < 0.8
    assert torch.isfinite(log_spectral_radius(torch.zeros(3, 3)))


# -- start from the scale of latents ---------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    c=st.floats(1e-3, 1e3),
    Q=st.sampled_from(["diag", "full"]),
    R=st.sampled_from(["identity", "scalar", "diag", "full"]),
)
def test_calibration_is_a_change_of_units(c: float, Q: str, R: str) -> None:
    """Of two models calibrated on z and c z, the second finds c z as likely as the first z, but for the volume."""
    z = series(4, 6, 2).cumsum(1)
    found = []
    for unit in (1.0, c):
        model = LinearGaussianSSM(
            3, 2, Q=Q, R=R, joint_scale=True, generator=torch.Generator().manual_seed(0)
        ).double()
        model.calibrate_(unit * z)
        found.append(model.filter(unit * z).log_likelihood)
    torch.testing.assert_close(found[1], found[0] - 2 * math.log(c))


def test_calibration_finds_how_wide_and_how_slow_latents_are() -> None:
    """z_t = φ z_{t-1} + noise of variance 1 - φ² has variance 1 and steps of 2 (1 - φ); padding does not count."""
    kept, wide = torch.tensor([0.9, 0.5], dtype=torch.float64), torch.tensor([3.0, 0.2], dtype=torch.float64)
    z = [series(400, 2)]
    for t in range(1, 12):
        z.append(kept * z[-1] + (1 - kept**2).sqrt() * series(400, 2, seed=t))
    z = wide * torch.stack(z, dim=1) + 7
    valid = torch.ones(400, 12, dtype=torch.bool)
    valid[:200, 8:] = False
    model = LinearGaussianSSM(3, 2, R="diag", joint_scale=True).double()
    coupling = model.transition().detach().clone()
    model.calibrate_(torch.where(valid[..., None], z, 1e6), valid)
    matrices = model.matrices()
    steps = 2 * (1 - kept) * wide**2
    assert matrices.R.diagonal().tolist() == pytest.approx((0.1 * steps).tolist(), rel=0.1)
    assert matrices.Q.diagonal()[:2].tolist() == pytest.approx((0.8 * steps).tolist(), rel=0.1)
    assert matrices.A.diagonal().tolist() == pytest.approx([0.9, 0.5, 0.7], abs=0.03)
    off = ~torch.eye(3, dtype=torch.bool)
    torch.testing.assert_close(matrices.A[off], 0.2 * coupling[off])
    assert matrices.P0.diagonal()[:2].tolist() == pytest.approx(z[valid].var(0).tolist(), rel=1e-3)
    assert model.fixed_point[:2].tolist() == pytest.approx(z[valid].mean(0).tolist())  # type: ignore[index]


def test_calibration_in_time_units_is_that_in_steps() -> None:
    z = series(50, 12, 2).cumsum(1) + series(50, 1, 2, seed=3)
    discrete, continuous = (
        LinearGaussianSSM(2, 2, kind, R="diag", joint_scale=True, time_unit=2.0).double()
        for kind in ("near_identity", "continuous")
    )
    discrete.calibrate_(z)
    continuous.calibrate_(z, step=0.25)  # steps of half a second
    here, there = discrete.matrices(), continuous.matrices(0.5 * torch.arange(12.0, dtype=torch.float64))
    torch.testing.assert_close(there.R, here.R)
    torch.testing.assert_close(there.A[-1].diagonal(), here.A.diagonal(), rtol=0.02, atol=0)
    torch.testing.assert_close(there.Q[-1].diagonal(), here.Q.diagonal(), rtol=0.1, atol=0)


def test_calibration_of_latents_that_stand_still() -> None:
    model = LinearGaussianSSM(2, 2, R="diag", joint_scale=True).double()
    model.calibrate_(series(5, 1, 2).expand(5, 4, 2))
    assert torch.isfinite(model.filter(series(5, 4, 2)).log_likelihood).all()
    model.calibrate_(torch.zeros(5, 4, 2, dtype=torch.float64))
    assert all(torch.isfinite(x).all() for x in model.matrices() if x is not None)


# -- steps of any length -------------------------------------------------------------------------------------------------


def rate_and_noise(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    F, L = series(n, n, seed=seed), series(n, n, seed=seed + 1)
    return F - 1.5 * torch.eye(n, dtype=torch.float64), L @ L.T


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 4), dt=st.floats(1e-3, 3.0), seed=st.integers(0, 50))
def test_two_half_steps_are_one_step(n: int, dt: float, seed: int) -> None:
    F, Q = rate_and_noise(n, seed)
    A, noise = discretise(F, Q, torch.tensor([dt, dt / 2], dtype=torch.float64))
    torch.testing.assert_close(A[1] @ A[1], A[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(A[1] @ noise[1] @ A[1].T + noise[1], noise[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(A[0], scipy.linalg.expm(F.numpy() * dt), rtol=1e-9, atol=1e-12)


def test_the_noise_of_a_step_is_its_integral() -> None:
    F, Q = rate_and_noise(3)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    dt = 1.7
    expected = np.zeros((3, 3))
    for node, weight in zip(nodes, weights, strict=True):
        grown = scipy.linalg.expm(F.numpy() * dt * (node + 1) / 2)
        expected += weight * dt / 2 * grown @ Q.numpy() @ grown.T
    _, noise = discretise(F, Q, torch.tensor(dt, dtype=torch.float64))
    np.testing.assert_allclose(noise, expected, rtol=1e-10)


@pytest.mark.parametrize("dt", [0.0, 0.1, 10.0, 1e4])
def test_one_decaying_dimension_in_closed_form(dt: float) -> None:
    """Ornstein-Uhlenbeck; a long step forgets everything, where the block exponential alone would overflow."""
    F = torch.tensor([[-0.7]], dtype=torch.float64)
    A, Q = discretise(F, torch.tensor([[2.0]], dtype=torch.float64), torch.tensor(dt, dtype=torch.float64))
    assert A.item() == pytest.approx(math.exp(-0.7 * dt), rel=1e-9, abs=1e-300)
    assert Q.item() == pytest.approx(2 * (1 - math.exp(-1.4 * dt)) / 1.4, rel=1e-9)


def test_constant_velocity_in_closed_form() -> None:
    """Position and velocity, noise on the acceleration: q [[dt³/3, dt²/2], [dt²/2, dt]]."""
    F = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    A, Q = discretise(F, torch.diag(torch.tensor([0.0, 3.0])).double(), torch.tensor(0.5).double())
    torch.testing.assert_close(A, torch.tensor([[1, 0.5], [0, 1]]).double())
    torch.testing.assert_close(Q, 3 * torch.tensor([[0.125 / 3, 0.125], [0.125, 0.5]]).double())


def test_gradient_of_a_step() -> None:
    F, Q = rate_and_noise(2)
    dt = torch.tensor([0.2, 2.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda f, q: discretise(f, q @ q.T, dt), (F.requires_grad_(), Q.requires_grad_())
    )


def test_frames_at_any_time_are_a_fine_grid_with_gaps() -> None:
    """Two sequences on different subsets of a grid of 0.25 s, time unit 0.5 s."""
    model = build(3, 2, transition="continuous", Q="full", R="full", time_unit=0.5)
    moments = torch.tensor([[2, 3, 7, 8, 12], [2, 5, 6, 10, 11]])
    z = series(2, 5, 2)
    coarse = model.filter(z, times=0.25 * moments.double() + 3.0)

    fine = torch.full((2, 13, 2), torch.nan, dtype=torch.float64)
    for row, where in enumerate(moments):
        fine[row, where] = z[row]
    # The prior lies one time unit, two steps of the grid, before the first frame.
    half = model.matrices(torch.tensor([0.0, 0.25], dtype=torch.float64))
    own = model.matrices()
    dense = kalman_filter(
        fine[:, 1:], half.A[1], half.Q[1], own.C, own.R, own.m0, own.P0, half.b[1], predict_first=True
    )
    index = (moments - 1)[..., None]
    for name in ("filt_mean", "pred_mean"):
        picked = torch.take_along_dim(getattr(dense, name), index, dim=1)
        torch.testing.assert_close(picked, getattr(coarse, name), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(
        torch.take_along_dim(dense.log_likelihood, moments - 1, dim=1),
        coarse.log_likelihood,
        rtol=1e-9,
        atol=1e-9,
    )


def test_time_that_does_not_go_on_is_no_step() -> None:
    model = build(2, 2, transition="continuous")
    steps = model.matrices(torch.tensor([0.0, 1.0, 1.0, 0.5, 1.5], dtype=torch.float64))
    eye = torch.eye(2, dtype=torch.float64)
    for t in (2, 3):
        torch.testing.assert_close(steps.A[t], eye)
        torch.testing.assert_close(steps.Q[t], 0 * eye)
    torch.testing.assert_close(steps.A[4] @ steps.A[4], steps.A[1])


def test_as_many_matrices_as_there_are_different_steps() -> None:
    """One for a regular grid, one per step for clips that share theirs, one per clip only when they differ."""
    model = LinearGaussianSSM(2, 2, "continuous", time_unit=0.04)
    regular = torch.arange(6) * 0.04 + torch.tensor([[0.0], [17.32], [93.0]])
    assert model.matrices(regular).A.shape == (2, 2)
    shared = torch.tensor([0.0, 0.1, 0.3, 0.4]).expand(3, 4)
    assert model.matrices(shared).A.shape == (4, 2, 2)
    each = shared * torch.tensor([[1.0], [2.0], [3.0]])
    assert model.matrices(each).A.shape == (3, 4, 2, 2)
    assert model.matrices(each).b.shape == (3, 4, 2)


def test_the_filter_shares_covariances() -> None:
    for model in (build(), build(transition="continuous")):
        result = model.filter(series(7, 10, 2))
        assert result.filt_cov.stride(0) == 0
        assert model.filter(series(7, 10, 2), R=input_noise(series(7, 10, 2))).filt_cov.stride(0) > 0


# -- noises and offsets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("R", ["identity", "scalar", "diag", "full"])
@pytest.mark.parametrize("Q", ["diag", "full"])
def test_noises_start_at_the_identity_and_stay_definite(Q: str, R: str) -> None:
    model = LinearGaussianSSM(3, 2, Q=Q, R=R)
    start = model.matrices()
    torch.testing.assert_close(start.Q, torch.eye(3), rtol=0, atol=2 * NOISE_FLOOR)
    torch.testing.assert_close(start.R, torch.eye(2), rtol=0, atol=2 * NOISE_FLOOR)
    with torch.no_grad():
        for parameter in (*model.process_noise.parameters(), *model.observation_noise.parameters()):
            parameter.fill_(-50.0)
    moved = model.matrices()
    for cov in (moved.Q, moved.R):
        assert torch.linalg.eigvalsh(cov.detach()).min() >= 0.99 * NOISE_FLOOR
    assert model.learns_scale == (R != "identity")
    assert len(list(model.observation_noise.parameters())) == (R != "identity")


@pytest.mark.parametrize("R", ["diag", "input"])
def test_the_joint_scale_is_a_change_of_units(R: str) -> None:
    """z, β and the noises in units of c: the likelihood of a number changes by -log c, nothing else."""
    model = build(3, 2, Q="full", R=R, joint_scale=True)
    z = series(4, 6, 2)
    noise = input_noise(series(4, 6, 2)) if R == "input" else None
    before = model.filter(z, noise).log_likelihood
    c = 3.7
    with torch.no_grad():
        model.log_scale.add_(2 * math.log(c))
        model.fixed_point.mul_(c)
    torch.testing.assert_close(model.filter(c * z, noise).log_likelihood, before - 2 * math.log(c))


def test_the_fixed_point_is_where_the_state_rests() -> None:
    model = build(3, 2)
    steps = model.matrices()
    torch.testing.assert_close(steps.A @ model.fixed_point + steps.b, model.fixed_point)
    assert build(3, 2, bias="none").matrices().b is None


def test_noise_from_the_input() -> None:
    raw = torch.tensor([-1e3, -1.0, 0.0, 5.0, 1e6], requires_grad=True)
    variance = torch.diagonal(input_noise(raw))
    torch.testing.assert_close(
        variance, torch.tensor([1e-5, math.log(2) / 10 + 1e-5, 1.0, 6.0, 1e4]), rtol=1e-4, atol=0
    )
    assert input_noise(raw.to(torch.bfloat16)).dtype == torch.float32
    model = build(2, 2, R="input")
    z = series(3, 5, 2)
    with pytest.raises(VidsslError, match="give the observation noise"):
        model.filter(z)
    R = input_noise(series(3, 5, 2, seed=1))
    own = model.matrices(R=R)
    expected = kalman_filter(z, own.A, own.Q, own.C, R, own.m0, own.P0, own.b)
    torch.testing.assert_close(model.filter(z, R).log_likelihood, expected.log_likelihood)
    model.smooth(model.filter(z, R))


# -- the filter and what follows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("predict_first", [True, False])
def test_likelihood_is_that_of_the_joint_gaussian(predict_first: bool) -> None:
    """All observations of a sequence in one covariance matrix, built by running the model forward."""
    model = build(3, 2, Q="full", R="full", predict_first=predict_first)
    A, Q, C, R, m0, P0, b = (x.detach().numpy() for x in model.matrices()[:7])
    steps, n = 4, 3
    means, covs = [], []
    mean, cov = m0, P0
    for t in range(steps):
        if t > 0 or predict_first:
            mean, cov = A @ mean + b, A @ cov @ A.T + Q
        means.append(mean)
        covs.append(cov)
    joint = np.zeros((steps, n, steps, n))
    for s in range(steps):
        for t in range(s, steps):
            joint[t, :, s] = np.linalg.matrix_power(A, t - s) @ covs[s]
            joint[s, :, t] = joint[t, :, s].T
    observed = np.einsum("ij,sjtk,lk->sitl", C, joint, C) + np.einsum("st,il->sitl", np.eye(steps), R)
    z = series(5, steps, 2)
    mean = np.concatenate([C @ x for x in means])
    expected = scipy.stats.multivariate_normal(mean, observed.reshape(2 * steps, 2 * steps)).logpdf(
        z.reshape(5, -1)
    )
    np.testing.assert_allclose(model.filter(z).log_likelihood.sum(-1).detach(), expected, rtol=1e-10)


def test_smoother_and_forecasts_use_the_same_matrices() -> None:
    model = build(3, 2, transition="continuous", time_unit=0.5)
    z = series(2, 6, 2)
    times = torch.tensor([0.0, 0.5, 0.7, 1.5, 2.0, 2.5], dtype=torch.float64).expand(2, 6)
    result = model.filter(z, times=times)
    smooth = model.smooth(result, times=times)
    torch.testing.assert_close(smooth.mean[:, -1], result.filt_mean[:, -1])
    assert smooth.cov[0, 2].trace() < result.filt_cov[0, 2].trace()
    ahead = model.forecast(result, 2, step=0.5)
    longer = torch.cat([times, times[:, -1:] + torch.tensor([0.5, 1.0])], dim=1)
    hidden = torch.cat([z, torch.full((2, 2, 2), torch.nan)], dim=1)
    unseen = model.filter(hidden, times=longer)
    torch.testing.assert_close(ahead.mean, unseen.pred_mean[:, -2:])
    torch.testing.assert_close(ahead.obs_cov, unseen.innovation_cov[:, -2:])
    one, two = model.multi_step(result, 2, times=times)
    torch.testing.assert_close(one.mean, result.pred_mean[:, 1:])
    gap = z.clone()
    gap[:, 3] = torch.nan
    torch.testing.assert_close(two.mean[:, 2], model.filter(gap, times=times).pred_mean[:, 4])


def test_every_parameter_learns() -> None:
    for transition in TRANSITIONS:
        model = build(3, 2, transition=transition, Q="full", R="full", joint_scale=True)
        model.filter(series(4, 6, 2)).log_likelihood.sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, (transition, name)
            assert parameter.grad.abs().max() > 0, (transition, name)


def test_learning_a_rotation_finds_its_frequency() -> None:
    """A noisy rotation by 0.3 rad per step; the eigenvalues tell the angle."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    x, frames = torch.randn(64, 2, generator=generator), []
    for _ in range(30):
        x = x @ turn.T + 0.05 * torch.randn(64, 2, generator=generator)
        frames.append(x + 0.1 * torch.randn(64, 2, generator=generator))
    z = torch.stack(frames, dim=1)
    model = LinearGaussianSSM(2, 2, R="diag", generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = -model.filter(z).log_likelihood.sum(-1).mean()
        loss.backward()
        optimizer.step()
        model.project_stable_()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert model.eigenvalues().angle().abs().numpy() == pytest.approx([0.3, 0.3], abs=0.01)
    assert model.eigenvalues().abs().numpy() == pytest.approx([1, 1], abs=0.03)


def test_matrices_are_float32_under_autocast() -> None:
    model = LinearGaussianSSM(3, 2, "continuous", Q="full")
    with torch.no_grad():
        model.fixed_point.copy_(torch.randn(3, generator=torch.Generator().manual_seed(0)))
    z = series(2, 5, 2).float()
    plain = model.filter(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.filter(z)
        ahead = model.forecast(mixed, 2)
    for a, b in zip(plain, mixed, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert ahead.obs_mean.dtype == torch.float32


def test_start_values_come_from_the_generator() -> None:
    state = torch.get_rng_state()
    models = [LinearGaussianSSM(3, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (model.matrices().A for model in models)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_saved_and_loaded() -> None:
    model = build(3, 2, transition="orthogonal", Q="full", R="full", joint_scale=True)
    other = LinearGaussianSSM(3, 2, "orthogonal", "full", "full", joint_scale=True).double()
    other.load_state_dict(model.state_dict())
    z = series(2, 5, 2)
    torch.testing.assert_close(model.filter(z).log_likelihood, other.filter(z).log_likelihood, rtol=0, atol=0)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()} | {"prior_variance"}


def test_mistakes_are_named() -> None:
    with pytest.raises(VidsslError, match="did you mean 'near_identity'"):
        LinearGaussianSSM(3, 2, "near_identiti")
    with pytest.raises(VidsslError, match="state_dim=2: must be at least latent_dim=3"):
        LinearGaussianSSM(2, 3)
    with pytest.raises(VidsslError, match="R='diagonal'"):
        LinearGaussianSSM(3, 2, R="diagonal")
    with pytest.raises(VidsslError, match="time_unit=0"):
        LinearGaussianSSM(3, 2, time_unit=0)
    with pytest.raises(VidsslError, match="times: only transition='continuous'"):
        LinearGaussianSSM(3, 2).filter(torch.zeros(2, 4, 2), times=torch.zeros(2, 4))
    model = LinearGaussianSSM(3, 2)
    with pytest.raises(VidsslError, match=r"step=0\.1: only"):
        model.forecast(model.filter(torch.zeros(2, 4, 2)), 2, step=0.1)
