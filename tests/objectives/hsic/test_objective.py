"""SSL-HSIC against NumPy double sums, its limits, and how it behaves when features collapse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.objectives.hsic import reference
from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.hsic import (
    EXACT_ROWS,
    SSLHSIC,
    bandwidth_log_gradient,
    hsic_exact,
    hsic_random_features,
)


def unit_rows(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


def views(k: int, b: int, d: int, seed: int = 0) -> list[Tensor]:
    common = unit_rows(b, d, seed=seed)
    noisy = [common + 0.5 * unit_rows(b, d, seed=seed + 1 + v) for v in range(k)]
    return [torch.nn.functional.normalize(x, dim=1).requires_grad_() for x in noisy]


def stacked(parts: list[Tensor]) -> np.ndarray:
    return torch.cat([x.detach() for x in parts]).numpy()


@settings(max_examples=25, deadline=None)
@given(k=st.integers(2, 4), b=st.integers(1, 6), d=st.integers(1, 5), c=st.floats(0.3, 3.0))
def test_exact_kernel_equals_the_double_sums(k: int, b: int, d: int, c: float) -> None:
    parts = views(k, b, d, seed=k * 100 + b)
    kernel = reference.gram(stacked(parts), c)
    xy, xx = hsic_exact(parts, c)
    assert xy.item() == pytest.approx(reference.hsic_xy_identity(kernel, np.tile(np.arange(b), k)), abs=1e-12)
    assert xx.item() == pytest.approx(reference.hsic_xx(kernel), abs=1e-12)


def test_blocks_of_the_gram_matrix_fit_together() -> None:
    """More rows than one block, and not a multiple of it."""
    parts = views(2, 170, 3)
    rows = stacked(parts)
    square = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    kernel = 1 / np.sqrt(1 + square)
    xy, xx = hsic_exact(parts, 1.0)
    assert xx.item() == pytest.approx(reference.hsic_xx(kernel), rel=1e-10)
    assert xy.item() == pytest.approx(reference.hsic_xy(kernel, np.tile(np.eye(170), (2, 2))), rel=1e-10)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("trained", [1, 2, 3])
def test_gradient_with_and_without_fixed_views(k: int, trained: int) -> None:
    parts = views(k, 4, 3)
    parts = [x if v < trained else x.detach() for v, x in enumerate(parts)]

    def both(*wanted: Tensor) -> tuple[Tensor, Tensor]:
        return hsic_exact([*wanted, *parts[len(wanted) :]], 0.8)

    assert torch.autograd.gradcheck(both, tuple(parts[: min(trained, k)]))


def test_gradient_when_a_fixed_view_comes_first() -> None:
    first, second = views(2, 4, 3)
    assert torch.autograd.gradcheck(lambda x: hsic_exact([first.detach(), x], 1.2), (second,))


def test_second_derivatives_are_refused_not_wrong() -> None:
    parts = views(2, 3, 2)
    xy, _ = hsic_exact(parts, 1.0)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(xy, parts[0], create_graph=True)


def test_random_features_equal_their_formula() -> None:
    k, b, d, features, c = 3, 4, 5, 7, 0.6
    parts = views(k, b, d)
    w_a, w_b = (
        torch.randn(features, d, dtype=torch.float64, generator=torch.Generator().manual_seed(s))
        for s in (1, 2)
    )
    b_a, b_b = (
        torch.linspace(0, 6, features, dtype=torch.float64),
        torch.linspace(1, 5, features, dtype=torch.float64),
    )
    xy, xx = hsic_random_features(parts, c, (w_a, b_a, w_b, b_b))
    phi = [
        [np.sqrt(2 / features) * np.cos(w.numpy() @ x / c + p.numpy()) for x in stacked(parts)]
        for w, p in ((w_a, b_a), (w_b, b_b))
    ]
    a, other = np.array(phi[0]), np.array(phi[1])
    per_video = sum(np.sum(sum(a[v * b + i] for v in range(k)) ** 2) for i in range(b))
    expected = per_video / (b * k * (k - 1)) - 1 / (k - 1) - np.sum(a.sum(0) ** 2) / (k * b) ** 2
    assert xy.item() == pytest.approx(expected, abs=1e-12)
    cross = sum(np.outer(other[i] - other.mean(0), a[i] - a.mean(0)) for i in range(k * b))
    assert xx.item() == pytest.approx(np.sum(cross**2) / (k * b) ** 2, abs=1e-12)
    assert torch.autograd.gradcheck(lambda *x: hsic_random_features(x, c, (w_a, b_a, w_b, b_b)), tuple(parts))


def test_bandwidth_objective_and_its_closed_form_derivative() -> None:
    rows = torch.cat(views(2, 4, 3)).detach()
    for c in (0.5, 1.0, 2.0):
        scale = torch.tensor(c, dtype=torch.float64, requires_grad=True)
        value = bandwidth_log_gradient(rows, rows, scale)
        assert value.item() == pytest.approx(reference.log_gradient(rows.numpy(), c), abs=1e-6)
        value.backward()
        s = torch.cdist(rows, rows).square()
        assert scale.grad is not None
        assert scale.grad.item() == pytest.approx((1 / c - 3 * c / (s + c**2)).mean().item(), abs=1e-6)
    # Orthogonal unit rows: s = 2, and the optimum is the initial bandwidth.
    x, y = torch.eye(4, dtype=torch.float64)[:2], torch.eye(4, dtype=torch.float64)[2:]
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    bandwidth_log_gradient(x, y, scale).backward()
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("c", [0.75, -0.75, 1.5])
def test_module_tunes_the_bandwidth_from_the_same_gram_matrix(c: float) -> None:
    parts = views(2, 6, 4)
    objective = SSLHSIC(scale=c, estimator="exact").double()
    output = objective(parts)
    rows = torch.cat(parts)
    scale = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    direct = bandwidth_log_gradient(rows, rows, scale)
    direct.backward()
    output.loss.backward()
    assert output.logs["hsic/log_gradient"].item() == pytest.approx(direct.item(), abs=1e-9)
    assert objective.scale.grad is not None
    assert scale.grad is not None
    # It is maximised, so the loss carries it with the opposite sign, and nothing else reaches the scale.
    assert objective.scale.grad.item() == pytest.approx(-scale.grad.item(), abs=1e-9)


def test_value_and_logs_with_a_target_network() -> None:
    predictions, targets = views(2, 5, 4, seed=3), views(2, 5, 4, seed=9)
    outputs = [HeadOutput(torch.full_like(p, 7.0), 3 * p, None) for p in predictions]
    teacher = [HeadOutput(2 * t, None, None) for t in targets]
    output = SSLHSIC(gamma=2.0).double()(outputs, teacher, BatchInfo(torch.arange(5)))
    rows = stacked([*predictions, *targets])
    kernel = reference.gram(rows, 1.0)
    xy, xx = reference.hsic_xy_identity(kernel, np.tile(np.arange(5), 4)), reference.hsic_xx(kernel)
    assert output.loss.item() == pytest.approx(2 * math.sqrt(xx) - xy, abs=1e-10)
    assert output.logs["hsic/loss"].item() == pytest.approx(2 * math.sqrt(xx) - xy, abs=1e-10)
    assert output.logs["hsic/hsic_xy"].item() == pytest.approx(xy, abs=1e-10)
    assert output.logs["hsic/hsic_xx"].item() == pytest.approx(xx, abs=1e-10)
    n = len(kernel)
    h = np.eye(n) - 1 / n
    eigenvalues = np.linalg.eigvalsh(h @ kernel @ h)
    rank = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert output.logs["hsic/effective_rank"].item() == pytest.approx(rank, rel=1e-9)
    assert output.logs["hsic/rho"].item() == pytest.approx(xy / (1 - kernel.mean()), rel=1e-9)
    assert output.logs["hsic/rank_needed"].item() == pytest.approx(
        (2 * (1 - kernel.mean()) / xy) ** 2, rel=1e-9
    )
    output.loss.backward()
    assert all(p.grad is not None and t.grad is None for p, t in zip(predictions, targets, strict=True))


@pytest.mark.parametrize("estimator", ["exact", "rff"])
def test_full_collapse_has_a_finite_gradient(estimator: str) -> None:
    parts = [torch.ones(6, 4, requires_grad=True) for _ in range(2)]
    output = SSLHSIC(estimator=estimator)(parts)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(0, abs=0.1 if estimator == "rff" else 1e-5)
    for x in parts:
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
    zeros = torch.zeros(3, 4, requires_grad=True)
    SSLHSIC(estimator=estimator)([zeros, zeros]).loss.backward()
    assert zeros.grad is not None
    assert torch.isfinite(zeros.grad).all()


@pytest.mark.parametrize("estimator", ["exact", "rff"])
def test_bfloat16_under_autocast_gives_a_float32_loss(estimator: str) -> None:
    rows = [x.detach().to(torch.bfloat16) for x in views(2, 8, 4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = SSLHSIC(estimator=estimator)(rows)
        xy, xx = hsic_exact(rows, 1.0)
    wide = SSLHSIC(estimator=estimator)([x.float() for x in rows])
    assert output.loss.dtype == xy.dtype == xx.dtype == torch.float32
    assert output.loss.item() == wide.loss.item()


def test_gradient_is_float32_when_backward_runs_under_autocast() -> None:
    def gradient(autocast: bool) -> Tensor:
        rows = [x.detach().float().requires_grad_() for x in views(2, 8, 4)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            SSLHSIC(estimator="exact")(rows).loss.backward()
        assert rows[0].grad is not None
        return rows[0].grad

    torch.testing.assert_close(gradient(True), gradient(False), rtol=0, atol=0)


def test_float32_is_accurate_close_to_collapse() -> None:
    """Features that differ by 1 %: squares of K, each near 1, must not be subtracted from each other."""
    base = unit_rows(1, 16)
    rows = [torch.nn.functional.normalize(base + 0.01 * unit_rows(32, 16, seed=s), dim=1) for s in (1, 2)]
    xx_wide = hsic_exact(rows, 1.0)[1].item()
    xx = hsic_exact([x.float() for x in rows], 1.0)[1].item()
    assert xx == pytest.approx(xx_wide, rel=1e-2)


def test_gamma_ramp() -> None:
    objective = SSLHSIC(gamma=3.0, gamma_start=1.0, gamma_ramp=0.5)
    seen = []
    for fraction in (0.0, 0.25, 0.5, 1.0):
        objective.set_progress(fraction)
        seen.append(objective.gamma)
    assert seen == [1.0, 2.0, 3.0, 3.0]
    fixed = SSLHSIC(gamma=3.0)
    fixed.set_progress(0.0)
    assert fixed.gamma == 3.0


def test_draws_resume_bit_for_bit() -> None:
    rows = [x.detach() for x in views(2, 6, 4)]
    first = SSLHSIC(estimator="rff", num_features=16, bandwidth_rows=4)
    first(rows)
    saved = {key: value.clone() for key, value in first.state_dict().items()}
    expected = [first(rows).logs for _ in range(2)]
    resumed = SSLHSIC(estimator="rff", num_features=16, bandwidth_rows=4, seed=99)
    resumed.load_state_dict(saved)
    repeated = [resumed(rows).logs for _ in range(2)]
    for a, b in zip(expected, repeated, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(expected[0]["hsic/hsic_xy"], expected[1]["hsic/hsic_xy"])


def test_auto_takes_the_exact_kernel_for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [x.detach() for x in views(2, 6, 4)]
    assert torch.equal(SSLHSIC(estimator="auto")(rows).loss, SSLHSIC(estimator="exact")(rows).loss)
    monkeypatch.setitem(EXACT_ROWS, "cpu", 11)
    assert torch.equal(SSLHSIC(estimator="auto")(rows).loss, SSLHSIC(estimator="rff")(rows).loss)


def test_the_bandwidth_has_its_own_optimiser_group() -> None:
    objective = SSLHSIC()
    (group,) = objective.param_groups()
    assert group["params"] == [objective.scale]
    assert (group["lr"], group["weight_decay"]) == (3e-4, 0.0)
    assert SSLHSIC(learn_scale=False).param_groups() == []
    torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.ones(2))]}, group], lr=1e-3)


def test_training_separates_videos_when_gamma_is_low() -> None:
    """A few steps on free embeddings: views of a video meet, videos part."""
    parts = [torch.randn(16, 8, generator=torch.Generator().manual_seed(s)).requires_grad_() for s in (0, 1)]
    objective = SSLHSIC(gamma=1.0, target=False)
    optimiser = torch.optim.Adam(parts, lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        output = objective(parts)
        output.loss.backward()
        optimiser.step()
    a, b = (torch.nn.functional.normalize(x.detach(), dim=1) for x in parts)
    assert (a @ b.T).argmax(dim=1).tolist() == list(range(16))
    assert output.logs["hsic/hsic_xy"] > 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "exat"}, "did you mean 'exact'"),
        ({"time_kernel": "gauss"}, "did you mean 'gaussian'"),
        ({"gamma_ramp": 0.0}, "gamma_ramp"),
        ({"time_width": -1.0}, "time_width"),
    ],
)
def test_options_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(VidsslError, match=message):
        SSLHSIC(**arguments)  # type: ignore[arg-type]


def test_views_are_checked() -> None:
    with pytest.raises(VidsslError, match="at least 2 views"):
        hsic_exact([torch.ones(3, 2)], 1.0)
    with pytest.raises(VidsslError, match="one shape"):
        hsic_exact([torch.ones(3, 2), torch.ones(2, 2)], 1.0)
