"""The recurrent predictor: it never looks ahead, feeds its own guesses back, and learns what no linear model can."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidssl.dynamics.kalman import innovation_log_likelihood
from vidssl.dynamics.recurrent import VARIANCE_FLOOR, RecurrentPredictor
from vidssl.errors import VidsslError


def build(latent_dim: int = 2, **options: object) -> RecurrentPredictor:
    generator = torch.Generator().manual_seed(0)
    return RecurrentPredictor(latent_dim, 8, (6,), generator=generator, **options).double()  # type: ignore[arg-type]


def series(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_never_looks_ahead() -> None:
    model, z = build(), series(3, 6, 2).requires_grad_()
    for h, prediction in enumerate(model.multi_step(z, 3), start=1):
        assert prediction.mean.shape == (3, 6 - h, 2)
        for frame in range(h, 6):
            (grad,) = torch.autograd.grad(prediction.mean[:, frame - h].sum(), z, retain_graph=True)
            influence = grad.abs().amax(dim=(0, 2))
            assert (influence[: frame - h + 1] > 0).all()
            assert (influence[frame - h + 1 :] == 0).all()


def test_one_step_is_the_same_with_and_without_more() -> None:
    model, z = build(), series(3, 6, 2)
    torch.testing.assert_close(model(z).mean, model.multi_step(z, 4)[0].mean, rtol=1e-12, atol=1e-12)


def test_further_steps_see_the_guess_as_the_next_frame() -> None:
    model, z = build(), series(2, 5, 2)
    third = model.multi_step(z, 3)[2].mean
    for t in range(2):
        seen = z[:, : t + 1]
        for _ in range(3):
            # The last frame of the input is never read: what is predicted of it is the guess.
            guess = model(torch.cat([seen, seen[:, :1]], dim=1)).mean[:, -1:]
            seen = torch.cat([seen, guess], dim=1)
        torch.testing.assert_close(third[:, t], seen[:, -1], rtol=1e-12, atol=1e-12)


def test_what_was_not_seen_says_nothing() -> None:
    model, z = build(), series(2, 6, 2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 2] = mask[1, 4] = False
    rubbish = torch.where(mask[..., None], z, torch.nan).requires_grad_()
    for steps in (1, 2):
        a, b = model.multi_step(z, steps, mask)[-1], model.multi_step(rubbish, steps, mask)[-1]
        torch.testing.assert_close(a.mean, b.mean, rtol=0, atol=0)
        (grad,) = torch.autograd.grad(b.mean.sum(), rubbish)
        assert torch.isfinite(grad).all()
        assert (grad[~mask] == 0).all()
    assert not torch.equal(model(z).mean, model(z, mask).mean)


@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_variance(variance: str) -> None:
    model = build(variance=variance, start_variance=0.19)
    floor = VARIANCE_FLOOR if variance == "learned" else 0
    torch.testing.assert_close(
        model(series(2, 4, 2)).cov, (0.19 + floor) * torch.eye(2, dtype=torch.float64), rtol=1e-6, atol=0
    )
    assert model.learns_scale == (variance == "learned")
    assert model.log_variance.requires_grad == (variance == "learned")


def test_gradient_reaches_every_parameter() -> None:
    model = build(variance="learned")
    z = series(3, 5, 2)
    total = z.new_zeros(())
    for h, prediction in enumerate(model.multi_step(z, 2), start=1):
        total = total + innovation_log_likelihood(z[:, h:] - prediction.mean, prediction.cov).sum()
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_it_learns_a_map_that_no_line_predicts() -> None:
    """z' = 1 - 2 z² is chaotic on [-1, 1] and its steps are uncorrelated: a linear predictor explains nothing."""
    z = torch.rand(128, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    frames = [z]
    for _ in range(7):
        frames.append(1 - 2 * frames[-1].square())
    z = torch.stack(frames, dim=1)
    assert torch.corrcoef(torch.cat([z[:, :-1].reshape(1, -1), z[:, 1:].reshape(1, -1)]))[0, 1].abs() < 0.1
    model = RecurrentPredictor(1, 16, (32,), "learned", generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        prediction = model(z)
        (-innovation_log_likelihood(z[:, 1:] - prediction.mean, prediction.cov).mean()).backward()
        optimizer.step()
    error = (z[:, 1:] - model(z).mean).square().mean() / z.var()
    assert error < 0.05
    assert model.cov().item() < z.var().item() / 2  # and it knows that it predicts well


def test_start_values_come_from_the_generator_and_have_torchs_spread() -> None:
    a, b = build(), build()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    drawn = RecurrentPredictor(8, 64, (32,), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        default = RecurrentPredictor(8, 64, (32,))
    for p, q in zip(drawn.parameters(), default.parameters(), strict=True):
        assert p.abs().max().item() == pytest.approx(q.abs().max().item(), rel=0.3)


def test_mistakes_are_named() -> None:
    model = build()
    with pytest.raises(VidsslError, match=r"must be \(B, T, 2\)"):
        model(series(4, 5, 3))
    with pytest.raises(VidsslError, match="steps=5: must be from 1 to 4"):
        model.multi_step(series(4, 5, 2), 5)
    with pytest.raises(VidsslError, match="did you mean 'learned'"):
        RecurrentPredictor(2, variance="learn")
    with pytest.raises(VidsslError, match="start_variance=0"):
        RecurrentPredictor(2, start_variance=0)
    with pytest.raises(VidsslError, match="at least 1"):
        RecurrentPredictor(2, hidden_dim=0)
