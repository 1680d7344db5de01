"""The toy sequences are what their papers say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.synthetic import sequences as toy
from vidssl.synthetic.blobs import blob_frames, swirl, with_noise
from vidssl.synthetic.mixing import Mixing, nuisance_mixing


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turn(radians: float) -> Tensor:
    c, s = math.cos(radians), math.sin(radians)
    return torch.tensor([[c, -s], [s, c]])


# -- a blob that moves -------------------------------------------------------------------------------------------------


def test_figure_eight() -> None:
    frames, latents = toy.figure_eight(50, generator=generator())
    assert frames.shape == (50, 100, 10, 10)
    assert torch.equal(latents[0], latents[-1])
    for t in (0, 3, 10, 99):
        theta = 0.1 * math.pi * t
        expected = [math.cos(theta), math.sin(theta) * math.cos(theta)]
        assert latents[0, t].tolist() == pytest.approx(expected, abs=1e-6)
    noise = frames - blob_frames(latents)
    assert noise.var().item() == pytest.approx(0.01, rel=0.02)
    assert noise[0].sub(noise[1]).var().item() == pytest.approx(0.02, rel=0.05)  # not shared by sequences


def test_figure_eight_is_a_linear_system_of_four_dimensions() -> None:
    """Two frequencies: rank 4 of the matrix of lagged positions, which 3 states could not have."""
    path = toy.figure_eight(1).latents[0].double()
    hankel = torch.cat([path[lag : 80 + lag] for lag in range(8)], dim=1)
    assert torch.linalg.matrix_rank(hankel, rtol=1e-5).item() == 4


def test_square() -> None:
    frames, latents = toy.square(40, generator=generator())
    path = toy.square_path(100)
    assert path[0].tolist() == [1, 0]
    for t in range(1, 100):
        time = t / 5
        s, edge = 2 * (time % 1) - 1, int(time % 4)
        assert path[t].tolist() == pytest.approx([(1, s), (-s, 1), (-1, -s), (s, -1)][edge], abs=1e-6)
    torch.testing.assert_close(path[20:40], torch.cat([torch.tensor([[1.0, -1.0]]), path[1:20]]))
    assert (frames - blob_frames(path)).var().item() == pytest.approx(0.1, rel=0.02)
    torch.testing.assert_close(latents[0, 1:], latents[0, :-1] @ turn(0.1 * math.pi).T, atol=1e-6, rtol=0)
    assert latents[0, 0].tolist() == [1, 0]


def test_noisy_circle() -> None:
    latents, variance = toy.circle_path(300, generator=generator())
    frames = with_noise(blob_frames(latents), variance[..., None, None], generator(1))
    torch.testing.assert_close(latents.norm(dim=-1), torch.ones(300, 100))
    assert torch.equal(latents[:, 0], torch.tensor([1.0, 0.0]).expand(300, 2))
    ahead = latents[:, :-1] @ turn(0.1 * math.pi).T
    angle = torch.atan2(
        ahead[..., 0] * latents[:, 1:, 1] - ahead[..., 1] * latents[:, 1:, 0],
        (ahead * latents[:, 1:]).sum(-1),
    )
    kicked = np.array([1.0, 0.0]) + math.sqrt(0.05) * np.random.default_rng(0).standard_normal((100_000, 2))
    assert angle.mean().item() == pytest.approx(0, abs=0.005)
    assert angle.var().item() == pytest.approx(np.arctan2(kicked[:, 1], kicked[:, 0]).var(), rel=0.03)
    assert torch.equal(variance[:, 0], torch.full((300,), 0.3))
    later = variance[:, 1:]
    # An exponential of mean 0.3 lies below 0.09 with probability 1 - exp(-0.3), and has no memory.
    assert (later == 0).float().mean().item() == pytest.approx(1 - math.exp(-0.3), abs=0.01)
    assert later[later > 0].mean().item() == pytest.approx(0.3, rel=0.03)
    noise = (frames - blob_frames(latents)).square().mean((-1, -2))
    assert (noise[variance == 0] < 1e-12).all()
    assert (noise / variance)[variance > 0].mean().item() == pytest.approx(1, rel=0.01)


def test_wobbly_orbit_has_the_closed_form_radius() -> None:
    """ṙ = a k cos(k (θ - θ_0)) and θ̇ = 1 integrate to r_0 + a sin(k (θ - θ_0)) - a sin(k (θ_start - θ_0))."""
    start = 0.4
    x = torch.tensor([math.cos(start), math.sin(start)], dtype=torch.float64) * 2
    for _ in range(300):
        x = toy.runge_kutta_step(toy.wobble_velocity, x, 0.01)
    theta, phase = start + 3, -3 * math.pi / 8
    radius = 2 + 0.5 * (math.sin(4 * (theta - phase)) - math.sin(4 * (start - phase)))
    assert x.tolist() == pytest.approx([radius * math.cos(theta), radius * math.sin(theta)], abs=1e-6)


def test_wobbly() -> None:
    frames, latents = toy.wobbly(400, steps=60, generator=generator())
    assert frames.shape == (400, 60, 10, 10)
    torch.testing.assert_close(latents[:, 0].norm(dim=-1), torch.ones(400))
    assert latents[:, 0].mean(0).abs().max().item() < 0.1
    kicks = latents[:, 1:] - toy.runge_kutta_step(toy.wobble_velocity, latents[:, :-1], 0.3)
    covariance = torch.cov(kicks.flatten(0, 1).T)
    torch.testing.assert_close(covariance, 0.1 * torch.eye(2), atol=0.003, rtol=0)
    torch.testing.assert_close(frames, swirl(blob_frames(latents), 10, 200))
    assert (frames - blob_frames(latents)).abs().max().item() > 0.5


# -- signal beside nuisance --------------------------------------------------------------------------------------------


def test_random_step_is_stationary_and_its_nuisance_is_fresh() -> None:
    R = toy.random_orthogonal(4)
    # A mixing that changes nothing shows the signal and the nuisance.
    plain = Mixing([torch.eye(7)], [torch.zeros(7)])
    observed, signal = toy.random_step(40_000, plain, R, nuisance=3, generator=generator())
    assert torch.equal(observed[..., :4], signal)
    for t in range(5):
        torch.testing.assert_close(torch.cov(signal[:, t].T), torch.eye(4), atol=0.03, rtol=0)
    for t in range(1, 5):
        lagged = signal[:, t].T @ signal[:, t - 1] / len(signal)
        torch.testing.assert_close(lagged, 0.9 * R, atol=0.03, rtol=0)
        kicks = signal[:, t] - 0.9 * signal[:, t - 1] @ R.T
        torch.testing.assert_close(torch.cov(kicks.T), 0.19 * torch.eye(4), atol=0.01, rtol=0)
    nuisance = observed[..., 4:].flatten(1)
    torch.testing.assert_close(torch.cov(nuisance.T), torch.eye(15), atol=0.03, rtol=0)
    assert (nuisance.T @ signal.flatten(1) / len(signal)).abs().max().item() < 0.03


def test_rotation_of_the_random_step() -> None:
    R = toy.random_orthogonal(5)
    expected = np.linalg.qr(np.random.default_rng(1729).standard_normal((5, 5)))[0]
    np.testing.assert_allclose(R.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(R @ R.T, torch.eye(5))


# -- dynamical systems -------------------------------------------------------------------------------------------------


def test_random_rotation() -> None:
    A = toy.random_rotation(3, generator=generator()).double()
    torch.testing.assert_close(A @ A.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(A).item() == pytest.approx(1, abs=1e-6)
    # Three turns of 5 degrees about perpendicular axes: one turn of about sqrt(3) · 5 degrees.
    angle = math.degrees(math.acos((torch.trace(A).item() - 1) / 2))
    assert angle == pytest.approx(5 * math.sqrt(3), abs=0.4)
    plane = toy.random_rotation(2, 10.0, generator()).double()
    assert abs(math.degrees(math.asin(plane[1, 0].item()))) == pytest.approx(10, abs=1e-5)


def test_rotations() -> None:
    A = toy.random_rotation(3, generator=generator())
    x = toy.rotations(200, 100, A, generator=generator(1))
    assert x.shape == (200, 100, 3)
    torch.testing.assert_close(x[:, 0].norm(dim=-1), torch.ones(200))
    kicks = (x[:, 1:] - x[:, :-1] @ A.T).flatten(0, 1)
    torch.testing.assert_close(torch.cov(kicks.T), 1e-4 * torch.eye(3), atol=3e-6, rtol=0)


# -- all of them -------------------------------------------------------------------------------------------------------


def test_everything_comes_from_the_generator() -> None:
    A = toy.random_rotation(3, generator=generator())
    draws = [
        lambda g: toy.figure_eight(2, generator=g).observations,
        lambda g: toy.square(2, generator=g).observations,
        lambda g: toy.noisy_circle(2, generator=g).observations,
        lambda g: toy.wobbly(2, generator=g).observations,
        lambda g: toy.random_step(2, nuisance_mixing(4, g), toy.random_orthogonal(2), 2, generator=g)[0],
        lambda g: toy.rotations(2, 10, A, generator=g),
    ]
    before = torch.get_rng_state()
    for draw in draws:
        assert torch.equal(draw(generator(3)), draw(generator(3)))
        assert not torch.equal(draw(generator(3)), draw(generator(4)))
    assert torch.equal(torch.get_rng_state(), before)
