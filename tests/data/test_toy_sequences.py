"""The toy sequences are what their papers say, and the script that trains on them runs."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.synthetic import sequences as toy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turn(radians: float) -> Tensor:
    c, s = math.cos(radians), math.sin(radians)
    return torch.tensor([[c, -s], [s, c]])


# -- a blob that moves -------------------------------------------------------------------------------------------------


def test_blob_is_a_gaussian_of_one_pixel_whose_first_coordinate_runs_along_rows() -> None:
    frames = toy.blob_frames(torch.tensor([[0.6, -1.2], [0.0, 0.0]], dtype=torch.float64))
    for i in range(10):
        for j in range(10):
            # (0.6 + 3) · 10 / 6 = 6 and (-1.2 + 3) · 10 / 6 = 3
            assert frames[0, i, j].item() == pytest.approx(math.exp(-((i - 6) ** 2 + (j - 3) ** 2) / 2))
            assert frames[1, i, j].item() == pytest.approx(math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 2))


def test_blob_stays_inside_the_frame() -> None:
    far, edge = toy.blob_frames(torch.tensor([[9.0, -9.0], [2.4, -3.0]]))
    torch.testing.assert_close(far, edge)
    assert far[9, 0].item() == 1


def test_figure_eight() -> None:
    frames, latents = toy.figure_eight(50, generator=generator())
    assert frames.shape == (50, 100, 10, 10)
    assert torch.equal(latents[0], latents[-1])
    for t in (0, 3, 10, 99):
        theta = 0.1 * math.pi * t
        expected = [math.cos(theta), math.sin(theta) * math.cos(theta)]
        assert latents[0, t].tolist() == pytest.approx(expected, abs=1e-6)
    noise = frames - toy.blob_frames(latents)
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
    assert (frames - toy.blob_frames(path)).var().item() == pytest.approx(0.1, rel=0.02)
    torch.testing.assert_close(latents[0, 1:], latents[0, :-1] @ turn(0.1 * math.pi).T, atol=1e-6, rtol=0)
    assert latents[0, 0].tolist() == [1, 0]


def test_noisy_circle() -> None:
    latents, variance = toy.circle_path(300, generator=generator())
    frames = toy.with_noise(toy.blob_frames(latents), variance[..., None, None], generator(1))
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
    noise = (frames - toy.blob_frames(latents)).square().mean((-1, -2))
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
    torch.testing.assert_close(frames, toy.swirl(toy.blob_frames(latents), 10, 200))
    assert (frames - toy.blob_frames(latents)).abs().max().item() > 0.5


def skimage_swirl(image: np.ndarray, strength: float, radius: float) -> np.ndarray:
    """The definition in scikit-image's documentation, on top of SciPy's resampling."""
    height, width = image.shape
    row, column = np.mgrid[:height, :width].astype(float)
    x, y = column - width / 2, row - height / 2
    rho = np.sqrt(x**2 + y**2)
    theta = strength * np.exp(-rho / (radius / 5 * np.log(2))) + np.arctan2(y, x)
    source = [height / 2 + rho * np.sin(theta), width / 2 + rho * np.cos(theta)]
    return ndimage.map_coordinates(image, source, order=1, mode="mirror")


@given(st.integers(2, 12), st.integers(2, 12), st.floats(-12, 12), st.floats(1, 300), st.integers(0, 2**31))
def test_swirl_agrees_with_scipy(height: int, width: int, strength: float, radius: float, seed: int) -> None:
    images = np.random.default_rng(seed).standard_normal((2, height, width))
    ours = toy.swirl(torch.from_numpy(images), strength, radius).numpy()
    for image, swirled in zip(images, ours, strict=True):
        np.testing.assert_allclose(swirled, skimage_swirl(image, strength, radius), atol=1e-9)


def test_no_swirl_is_no_change() -> None:
    frames = torch.randn(3, 10, 10, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(toy.swirl(frames, 0, 200), frames)


# -- signal beside nuisance --------------------------------------------------------------------------------------------


def test_random_step_is_stationary_and_its_nuisance_is_fresh() -> None:
    R = toy.random_orthogonal(4)
    # A mixing that changes nothing shows the signal and the nuisance.
    plain = toy.Mixing([torch.eye(7)], [torch.zeros(7)])
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


@pytest.mark.parametrize(("dim", "widths"), [(10, [25, 50, 100]), (40, [40, 50, 100]), (60, [60, 60, 100])])
def test_nuisance_mixing(dim: int, widths: list[int]) -> None:
    mixing = toy.nuisance_mixing(dim, generator())
    assert [len(weight) for weight in mixing.weights] == widths
    for weight in mixing.weights:
        torch.testing.assert_close(weight.T @ weight, torch.eye(weight.shape[1]), atol=1e-5, rtol=0)
    assert torch.cat(list(mixing.biases)).std().item() == pytest.approx(0.1, rel=0.2)
    x = torch.randn(6, dim, generator=generator(1))
    layers: list[nn.Module] = []
    for weight, bias in zip(mixing.weights, mixing.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight, bias
        layers += [layer, nn.LeakyReLU(0.2)]
    torch.testing.assert_close(mixing(x), nn.Sequential(*layers[:-1])(x))


def test_a_mixing_that_would_fold_is_refused() -> None:
    with pytest.raises(VidsslError, match="dim=101"):
        toy.nuisance_mixing(101)
    with pytest.raises(VidsslError, match="outputs=2"):
        toy.injective_mixing(3, outputs=2)


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


def test_switching_rotations() -> None:
    A = torch.stack([toy.random_rotation(6, 10.0, generator(i)) for i in range(5)])
    x, mode = toy.switching_rotations(300, 100, A, noise=1e-4, switch=0.05, generator=generator())
    assert sorted(mode.unique().tolist()) == [0, 1, 2, 3, 4]
    assert (mode[:, 1:] != mode[:, :-1]).float().mean().item() == pytest.approx(0.05, abs=0.005)
    expected = torch.einsum("ntij,ntj->nti", A[mode[:, 1:]], x[:, :-1])
    assert (x[:, 1:] - expected).std().item() == pytest.approx(1e-4, rel=0.03)
    wrong = torch.einsum("ntij,ntj->nti", A[(mode[:, 1:] + 1) % 5], x[:, :-1])
    assert (x[:, 1:] - wrong).std().item() > 0.01


def test_lorenz() -> None:
    x = toy.lorenz(50, 400, generator=generator())
    a, b, c = x[:, :-1].unbind(-1)
    step = 0.01 * torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], dim=-1)
    assert (x[:, 1:] - x[:, :-1] - step).std().item() == pytest.approx(1e-3, rel=0.02)
    assert 5 < x[:, 200:, 0].abs().mean().item() < 9  # on the attractor


def test_injective_mixing() -> None:
    mixing = toy.injective_mixing(3, generator=generator())
    assert [tuple(weight.shape) for weight in mixing.weights] == [(3, 3)] * 4 + [(50, 3)]
    for weight in mixing.weights[:4]:
        torch.testing.assert_close(weight.norm(dim=0), torch.ones(3))
        assert torch.linalg.cond(weight).item() < 1.5
    x = torch.randn(20, 3, generator=generator(1))
    hidden = x
    for weight in mixing.weights[:3]:
        hidden = torch.nn.functional.leaky_relu(hidden @ weight.T, 0.2)
    torch.testing.assert_close(mixing(x), hidden @ mixing.weights[3].T @ mixing.weights[4].T)


# -- all of them -------------------------------------------------------------------------------------------------------


def test_everything_comes_from_the_generator() -> None:
    A = toy.random_rotation(3, generator=generator())
    draws = [
        lambda g: toy.figure_eight(2, generator=g).observations,
        lambda g: toy.square(2, generator=g).observations,
        lambda g: toy.noisy_circle(2, generator=g).observations,
        lambda g: toy.wobbly(2, generator=g).observations,
        lambda g: toy.random_step(2, toy.nuisance_mixing(4, g), toy.random_orthogonal(2), 2, generator=g)[0],
        lambda g: toy.rotations(2, 10, A, generator=g),
        lambda g: toy.lorenz(2, 10, generator=g),
    ]
    before = torch.get_rng_state()
    for draw in draws:
        assert torch.equal(draw(generator(3)), draw(generator(3)))
        assert not torch.equal(draw(generator(3)), draw(generator(4)))
    assert torch.equal(torch.get_rng_state(), before)


# -- the script --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
        yield importlib.import_module("identifiability")


def test_score_is_blind_to_affine_maps_and_to_nothing_else(script: ModuleType) -> None:
    g = generator()
    true, probe = torch.randn(30, 10, 2, generator=g), torch.randn(30, 10, 2, generator=g)
    A, b = torch.randn(3, 2, generator=g), torch.randn(3, generator=g)
    assert script.r2(probe @ A.T + b, probe, true @ A.T + b, true) == pytest.approx(1, abs=1e-6)
    noise = torch.randn(30, 10, 3, generator=g)
    assert script.r2(noise, probe, noise.flip(0), true) < 0.05
    assert script.r2(torch.ones(30, 10, 1), probe, torch.ones(30, 10, 1), true) < 0.01
    # Half the factors found: half the score.
    assert script.r2(probe[..., :1], probe, true[..., :1], true) == pytest.approx(0.5, abs=0.02)


def test_dynamics_are_compared_in_the_true_coordinates(script: ModuleType) -> None:
    from vidssl.dynamics.ssm import LinearGaussianSSM

    A = toy.random_rotation(3, generator=generator())
    x = toy.rotations(100, 20, A, generator=generator(1))
    L, b = torch.randn(3, 3, generator=generator(2)), torch.tensor([1.0, -2.0, 0.5])
    model = LinearGaussianSSM(3, 3, generator=generator())
    with torch.no_grad():
        model.transition.A.copy_(L @ A @ torch.linalg.inv(L))  # type: ignore[operator, union-attr]
        model.fixed_point.copy_(b)  # type: ignore[union-attr]
    with torch.inference_mode():
        scores = script.dynamics_scores(model, A, x @ L.T + b, x)
        assert scores["lds_error"] == pytest.approx(0, abs=1e-4)
        assert scores["dynamics_r2"] == pytest.approx(1, abs=1e-4)
        assert script.dynamics_scores(model, A.T, x @ L.T + b, x)["lds_error"] > 0.1


def test_script_trains_continues_and_writes_one_table(script: ModuleType, tmp_path: Path) -> None:
    runs, output = tmp_path / "runs", tmp_path / "results"
    arguments = [
        "--tasks",
        "t2-logdet",
        "t2-none",
        "--updates",
        "3",
        "--runs",
        str(runs),
        "--output",
        str(output),
    ]
    script.main(arguments)
    files = sorted(runs.iterdir())
    assert [file.name for file in files] == ["t2-logdet-seed0-3.json", "t2-none-seed0-3.json"]
    # What is finished is read, not repeated.
    run = json.loads(files[0].read_text())
    files[0].write_text(json.dumps({**run, "trained": {**run["trained"], "r2": 0.123}}))
    script.main(arguments)
    text = (output / "identifiability.md").read_text()
    assert "| t2 square | logdet | 0 | **0.123** |" in text
    assert "Without entropy" in text
    result = json.loads((output / "identifiability.json").read_text())
    assert [r["row"] for r in result["runs"]] == ["t2-logdet", "t2-none"]
    assert len(result["runs"][0]["curve"]) == 3


@pytest.mark.parametrize("name", ["t1-stopgrad", "t3-stopgrad"])
def test_rows_can_be_built_and_trained(script: ModuleType, name: str) -> None:
    (row,) = script.chosen([name])
    run = script.train(row, seed=0, updates=1)
    assert 0 <= run["trained"]["r2"] <= 1
    assert run["trained"]["updates"] == 1


def test_recurrent_rows_learn_with_published_sizes_and_rates(script: ModuleType) -> None:
    (row,) = script.chosen(["t4"])
    objective = row.objective(0)
    assert objective.model.lstm.hidden_size == 10
    groups = script.parameter_groups(row, row.encoder(), objective)
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 3e-2, 3e-2])
    assert row.decay(0) == 1
    assert row.decay(1) == pytest.approx(0.45)


def test_unknown_row_is_named(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="t9: unknown"):
        script.main(["--tasks", "t9"])
