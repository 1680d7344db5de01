"""gamma that follows kappa · HSIC(Z, Y) / sqrt(HSIC(Z, Z)): the gradient of the ratio form, which shrinking cannot lower."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.hsic import SSLHSIC
from vidssl.objectives.hsic.random_features import draw_features


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


def alike(k: int, b: int, d: int, noise: float = 0.5) -> list[Tensor]:
    common = unit(b, d)
    noisy = [common + noise * unit(b, d, seed=v + 1) for v in range(k)]
    return [torch.nn.functional.normalize(x, dim=1).requires_grad_() for x in noisy]


def plain_hsic(kernel: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """HSIC(Z, Y) and HSIC(Z, Z) by matrices, for autograd."""
    n = len(kernel)
    labels = (ids.repeat(k)[:, None] == ids.repeat(k)).to(kernel)
    others, marginal = labels - torch.eye(n, dtype=kernel.dtype), labels.sum(1) / labels.sum()
    xy = (others * kernel).sum() / others.sum() - 2 * (marginal @ kernel).mean() + kernel.mean()
    h = torch.eye(n, dtype=kernel.dtype) - 1 / n
    return xy, (h @ kernel @ h).square().sum() / n**2


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [0, 1, 0, 2, 3, 1]])
@pytest.mark.parametrize("kappa", [0.5, 1.0])
def test_gradient_is_that_of_the_ratio_form(ids: list[int], kappa: float) -> None:
    parts, numbers = alike(3, 6, 4), torch.tensor(ids)
    output = SSLHSIC(gamma=None, kappa=kappa, target=False, scale=0.75).double()(
        parts, None, BatchInfo(numbers)
    )
    got = torch.autograd.grad(output.loss, parts)
    rows = torch.nn.functional.normalize(torch.cat(parts), dim=1)
    square = (rows[:, None] - rows[None]).square().sum(-1)
    xy, xx = plain_hsic(0.75 / (square + 0.75**2).sqrt(), numbers, 3)
    expected = torch.autograd.grad(-xy.log() + kappa / 2 * xx.log(), parts)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, xy.detach() * b, rtol=1e-9, atol=1e-12)
    assert output.logs["hsic/gamma"].item() == pytest.approx((kappa * xy / xx.sqrt()).item(), rel=1e-9)
    # The rank that is needed is kappa² times the rank that is there.
    needed, rank = output.logs["hsic/rank_needed"].item(), output.logs["hsic/effective_rank"].item()
    assert torch.unique(numbers).numel() < 6 or needed == pytest.approx(kappa**2 * rank, rel=1e-9)


def test_gradient_with_random_features() -> None:
    parts, draws = alike(2, 5, 4), SSLHSIC(target=False, estimator="rff", num_features=7)
    got = torch.autograd.grad(draws.double()(parts).loss, parts)
    features = draw_features(
        4, 7, torch.Generator().manual_seed(0), device=parts[0].device, dtype=torch.float64
    )
    phi_a, phi_b = (
        (torch.nn.functional.normalize(torch.cat(parts), dim=1) @ w.T + b).cos() * (2 / 7) ** 0.5
        for w, b in (features[:2], features[2:])
    )
    xy, _ = plain_hsic(phi_a @ phi_a.T, torch.arange(5), 2)
    xx = ((phi_b - phi_b.mean(0)).T @ (phi_a - phi_a.mean(0))).square().sum() / 100
    expected = torch.autograd.grad(-xy.log() + 0.4 * xx.log(), parts)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, xy.detach() * b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_shrinking_never_pays(noise: float) -> None:
    """Rows close together, with high and with hardly any invariance: which way does the loss go when they draw together?"""
    base, parts = unit(1, 64), [x.detach() for x in alike(2, 32, 64, noise)]

    def slope(**options: object) -> float:
        spread = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
        objective = SSLHSIC(target=False, learn_scale=False, **options).double()  # type: ignore[arg-type]
        output = objective([base + spread * (x - x.mean(0)) for x in parts])
        assert output.logs["hsic/hsic_xy"] > 0
        return float(torch.autograd.grad(output.loss, spread)[0])

    assert slope() < 0
    assert abs(slope(gamma=None, kappa=1.0)) < 0.02 * abs(slope(gamma=None, kappa=0.0))
    # The control: a fixed gamma draws rows of little invariance together, although their rank is above its square.
    assert (slope(gamma=3.0) > 0) == (noise == 3.0)


def test_without_any_invariance_only_invariance_is_asked_for() -> None:
    parts = [unit(8, 16, seed=s).requires_grad_() for s in (0, 1)]
    negative = [parts[0], torch.nn.functional.normalize(parts[1] - 0.9 * parts[0], dim=1)]
    output = SSLHSIC(gamma=None, target=False).double()(negative)
    assert output.logs["hsic/hsic_xy"] < 0
    assert output.logs["hsic/gamma"] == 0
    assert output.loss.item() == pytest.approx(-output.logs["hsic/hsic_xy"].item())
    together = [torch.ones(6, 4, requires_grad=True) for _ in range(2)]
    SSLHSIC(gamma=None, target=False)(together).loss.backward()
    assert together[0].grad is not None
    assert torch.isfinite(together[0].grad).all()


def test_gamma_max_is_a_fixed_gamma_that_waits_for_identities() -> None:
    parts = alike(2, 6, 4)
    limited = SSLHSIC(gamma=None, kappa=50.0, gamma_max=3.0, target=False).double()
    fixed = SSLHSIC(gamma=3.0, target=False).double()
    grads = [torch.autograd.grad(objective(parts).loss, parts) for objective in (limited, fixed)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    strangers = [parts[0], parts[1].roll(1, dims=0)]
    output = limited(strangers)
    assert output.logs["hsic/hsic_xy"] < 0
    assert output.logs["hsic/gamma"] == 0
    within = SSLHSIC(gamma=None, kappa=0.5, gamma_max=100.0, target=False).double()(parts)
    plain = SSLHSIC(gamma=None, kappa=0.5, target=False).double()(parts)
    assert within.logs["hsic/gamma"] == plain.logs["hsic/gamma"]


def test_gamma_memory_is_a_running_mean_of_training_batches() -> None:
    """By hand, in float64; and a mean below zero, where single batches lie above it, leaves gamma at zero."""
    batches = [alike(2, 6, 4, noise) for noise in (0.3, 1.0, 3.0)]
    objective = SSLHSIC(gamma=None, kappa=0.7, gamma_memory=0.6, target=False).double()
    plain = SSLHSIC(gamma=None, target=False).double()
    xy, xx, total = 0.0, 0.0, 0.0
    for batch in batches:
        logs = plain(batch).logs
        xy, xx = 0.6 * xy + logs["hsic/hsic_xy"].item(), 0.6 * xx + logs["hsic/hsic_xx"].item()
        total = 0.6 * total + 1
        expected = pytest.approx(0.7 * max(xy, 0) / total / (xx / total) ** 0.5, rel=1e-9)
        before = objective.state_dict()["balance.xy"].clone()
        objective.eval()
        assert objective(batch).logs["hsic/gamma"].item() == expected
        assert torch.equal(objective.state_dict()["balance.xy"], before)
        objective.train()
        assert objective(batch).logs["hsic/gamma"].item() == expected
    wary = SSLHSIC(gamma=None, gamma_memory=0.95, target=False).double()
    for _ in range(6):
        wary([batches[0][0], -batches[0][0]])
    assert plain(batches[0]).logs["hsic/gamma"] > 0
    assert wary(batches[0]).logs["hsic/gamma"] == 0


def test_options_that_do_not_fit() -> None:
    with pytest.raises(
        VidsslError, match=r"gamma_max=3.0: is for a gamma that follows kappa, and gamma is 2"
    ):
        SSLHSIC(gamma=2.0, gamma_max=3.0)
    with pytest.raises(VidsslError, match="gamma_memory=1"):
        SSLHSIC(gamma_memory=1.0)
    with pytest.raises(VidsslError, match=r"gamma_memory=0.9: is for a gamma that follows kappa"):
        SSLHSIC(gamma=2.0, gamma_memory=0.9)
    with pytest.raises(VidsslError, match="gamma_max=0"):
        SSLHSIC(gamma_max=0.0)
    with pytest.raises(VidsslError, match="gamma_start=1"):
        SSLHSIC(gamma=None, gamma_start=1.0)
    with pytest.raises(VidsslError, match="kappa=-1"):
        SSLHSIC(gamma=None, kappa=-1.0)
