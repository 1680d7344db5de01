"""SIGReg against the closed form of its integral, NumPy loops, lightly, and what it makes of a cloud of points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.sigreg import SIGReg, draw_directions, gaussianity


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def directions(d: int, count: int, seed: int = 1) -> Tensor:
    return draw_directions(d, count, torch.Generator().manual_seed(seed), rows(1))


def expected(z: Tensor, a: Tensor, knots: int, t_max: float) -> float:
    """Over both signs of t, so that nothing is taken from the integrand's symmetry."""
    x, values = (z @ a).numpy(), []
    t = np.linspace(-t_max, t_max, 2 * knots - 1)
    for column in x.T:
        found = np.array([np.mean(np.exp(1j * at * column)) for at in t])
        values.append(np.trapezoid(np.abs(found - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2), t))
    return len(x) * float(np.mean(values))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 9), d=st.integers(1, 5), knots=st.integers(2, 20), t_max=st.floats(0.5, 6))
def test_the_statistic_is_its_definition(n: int, d: int, knots: int, t_max: float) -> None:
    z, a = 2 * rows(n, d), directions(d, 4)
    assert gaussianity(z, a, knots, t_max).item() == pytest.approx(expected(z, a, knots, t_max), rel=1e-10)


def test_many_knots_give_the_closed_form_of_epps_and_pulley() -> None:
    """∫ of the three products of Gaussians and exponentials, each a Gaussian integral."""
    x = 1.3 * rows(12, 1) + 0.4
    square = (x - x.T).square()
    closed = (
        math.sqrt(2 * math.pi) * torch.exp(-square / 2).mean()
        - 2 * math.sqrt(math.pi) * torch.exp(-x.square() / 4).mean()
        + math.sqrt(2 * math.pi / 3)
    )
    along = torch.ones(1, 1, dtype=torch.float64)
    assert gaussianity(x, along, 400, 9.0).item() == pytest.approx(12 * closed.item(), rel=1e-9)
    # What the published 17 knots up to 3 leave out.
    assert gaussianity(x, along).item() == pytest.approx(12 * closed.item(), rel=0.05)


def test_gaussian_rows_have_one_value_whatever_their_number_and_collapsed_ones_another() -> None:
    t = torch.linspace(-3, 3, 33, dtype=torch.float64)
    ideal = torch.trapezoid((1 - torch.exp(-(t**2))) * torch.exp(-(t**2) / 2), t).item()
    assert ideal == pytest.approx(1.05, abs=0.01)  # as the docs say
    for n, d in ((8, 2), (64, 16)):
        found = [gaussianity(rows(n, d, seed=s), directions(d, 32, s)).item() for s in range(400)]
        assert np.mean(found) == pytest.approx(ideal, abs=4 * np.std(found) / 20)
    a, z = directions(16, 64), rows(64, 16)
    flat = torch.trapezoid((1 - torch.exp(-(t**2) / 2)) ** 2 * torch.exp(-(t**2) / 2), t).item()
    assert gaussianity(0 * z, a).item() == pytest.approx(64 * flat, rel=1e-9)
    assert flat == pytest.approx(0.40, abs=0.01)
    assert gaussianity(3 * z, a) > 5 * ideal
    assert gaussianity(z.sign() * torch.tensor([3.0, *[0.0] * 15]), a) > 5 * ideal


def test_gradient_and_views() -> None:
    z, a = rows(3, 6, 4).requires_grad_(), directions(4, 5)
    assert torch.autograd.gradcheck(lambda x: gaussianity(x, a), z)
    each = torch.stack([gaussianity(view, a) for view in z])
    torch.testing.assert_close(gaussianity(z, a), each.mean())


@pytest.mark.parametrize("global_views", [None, 2])
def test_the_objective_is_lightlys(global_views: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    objective = SIGReg(0.2, num_directions=32, global_views=global_views, seed=3)
    views = [rows(8, 5, seed=s).requires_grad_() for s in range(3)]
    found = objective(views)
    drawn = draw_directions(5, 32, torch.Generator().manual_seed(3), views[0])
    theirs = losses.LeJEPALoss(0.2, sigreg_num_vectors=32).double()
    monkeypatch.setattr(theirs.sigreg, "_generate_unit_vectors", lambda *_: drawn)
    stack = torch.stack(views)
    if global_views is None:
        invariance = losses.lejepa_loss.lejepa_invariance_loss(all_proj=stack, global_proj=stack)
        value = 0.2 * theirs.sigreg(stack) + 0.8 * invariance
    else:
        value = theirs(local_proj=stack[2:], global_proj=stack[:2])
    # Their knots are in float32.
    torch.testing.assert_close(found.loss, value, rtol=1e-6, atol=0)
    gradients = (torch.autograd.grad(loss, views) for loss in (found.loss, value))
    for ours, other in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-7)


def test_draws_are_fresh_and_a_resumed_run_repeats_them() -> None:
    views = [rows(8, 5, seed=s) for s in range(2)]
    objective, later = SIGReg(num_directions=8), SIGReg(num_directions=8, seed=9)
    first = objective(views).loss
    later.load_state_dict(objective.state_dict())
    assert objective(views).loss == later(views).loss != first


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_it_makes_a_normal_cloud_of_an_ellipse(weight: float) -> None:
    """Two noisy views of 256 free points, so that nothing but the loss forms them."""
    angle = torch.arange(256) * (2 * math.pi / 256)
    points = torch.stack([2 * angle.cos(), 0.1 * angle.sin()], dim=1).requires_grad_()
    objective, noise = SIGReg(weight, num_directions=16), 0.1 * rows(2, 256, 2).float()
    optimiser = torch.optim.Adam([points], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        output = objective([points + noise[0], points + noise[1]])
        output.loss.backward()
        optimiser.step()
    cov = points.detach().T.cov()
    if weight:
        assert output.logs["sigreg/gaussianity"] < 0.2
        torch.testing.assert_close(cov, torch.eye(2), rtol=0, atol=0.15)
    else:  # views already agree as far as noise lets them: nothing moves
        assert cov[0, 0] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigreg_weight": 1.5}, r"sigreg_weight=1.5: must be in \[0, 1\]"),
        ({"num_directions": 0}, "num_directions=0"),
        ({"knots": 1}, "knots=1: must be at least 2"),
        ({"t_max": 0.0}, "t_max=0.0: must be positive"),
        ({"global_views": 0}, "global_views=0"),
    ],
)
def test_refused_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(VidsslError, match=message):
        SIGReg(**options)  # type: ignore[arg-type]


def test_refused_views() -> None:
    with pytest.raises(VidsslError, match="at least 2 views"):
        SIGReg()([rows(4, 2)])
    with pytest.raises(VidsslError, match="global_views=3: there are 2 views"):
        SIGReg(global_views=3)([rows(4, 2), rows(4, 2)])
