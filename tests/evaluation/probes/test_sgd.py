"""Linear heads trained at once are those trained one by one, and torch's own SGD."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.evaluation.probes.test_linear import blobs
from vidssl.errors import VidsslError
from vidssl.evaluation.probes.selection import Setting, best_head
from vidssl.evaluation.probes.sgd import fit_heads, losses_of, probe_sgd

GRID = [Setting(1e-3, 0.0), Setting(0.1, 1e-2), Setting(1.0, 1e-4)]
HOW = {"epochs": 3, "batch_size": 16, "seed": 3}


def test_heads_trained_at_once_are_those_trained_alone():
    x, y = blobs(np.random.default_rng(0), 50)
    together = fit_heads(x, y, 3, GRID, **HOW)
    for number, setting in enumerate(GRID):
        alone = fit_heads(x, y, 3, [setting], **HOW)
        torch.testing.assert_close(together(x)[number], alone(x)[0], atol=1e-10, rtol=0)


def test_a_head_is_what_torch_makes_of_it():
    x, y = blobs(np.random.default_rng(1), 40)
    setting = Setting(0.1, 1e-2)
    generator = torch.Generator().manual_seed(3)
    rows = (x - x.mean(0)) / x.std(0, unbiased=False)
    weight = (0.01 * torch.randn(3, x.shape[1], generator=generator, dtype=torch.float64)).requires_grad_()
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    parts = [{"params": [weight], "weight_decay": setting.decay}, {"params": [bias], "weight_decay": 0}]
    optimizer = torch.optim.SGD(parts, lr=setting.rate, momentum=0.9)
    for epoch in range(3):
        for number, chosen in enumerate(torch.randperm(40, generator=generator).split(16)):
            for group in optimizer.param_groups:
                group["lr"] = setting.rate * 0.5 * (1 + math.cos(math.pi * (3 * epoch + number) / 9))
            optimizer.zero_grad()
            F.cross_entropy(rows[chosen] @ weight.T + bias, y[chosen]).backward()
            optimizer.step()
    found = fit_heads(x, y, 3, [setting], **HOW)
    torch.testing.assert_close(found(x)[0], rows @ weight.detach().T + bias.detach(), atol=1e-10, rtol=0)


def test_the_best_head_is_that_of_the_lowest_loss_and_never_one_that_diverged():
    labels = torch.tensor([0, 1])
    right = torch.tensor([[4.0, 0], [0, 4]])
    assert best_head(torch.stack([right.flip(0), right, 0.1 * right]), labels) == 1
    assert best_head(torch.stack([right * math.nan, right * math.inf, 0 * right]), labels) == 2


def test_the_setting_is_chosen_on_held_out_rows_and_the_head_trained_anew():
    x, y = blobs(np.random.default_rng(2), 120, spread=0.05)
    logits, setting = probe_sgd(x[:80], y[:80], x[80:], 3, grid=GRID, **HOW)
    assert (logits.argmax(1) == y[80:]).double().mean() > 0.9 and setting in GRID
    torch.testing.assert_close(logits, fit_heads(x[:80], y[:80], 3, [setting], **HOW)(x[80:])[0])
    with pytest.raises(VidsslError, match="none can be held out"):
        probe_sgd(x[:3], torch.arange(3), x, 3, grid=GRID)
    x[5, 0] = math.nan
    with pytest.raises(VidsslError, match="1 of 120 training rows are not finite, first row 5"):
        probe_sgd(x, y, x, 3)


def test_a_constant_dimension_does_not_matter():
    x, y = blobs(np.random.default_rng(3), 40)
    padded = torch.cat([x, torch.full((40, 1), 7.0)], 1)
    assert bool(fit_heads(padded, y, 3, GRID, **HOW)(padded).isfinite().all())


def test_losses_are_those_of_all_rows_at_once_and_infinite_where_a_head_diverged(monkeypatch):
    x, y = blobs(np.random.default_rng(5), 90)
    heads = fit_heads(x, y, 3, [*GRID, Setting(1e300, 1.0)], **HOW)
    expected = F.cross_entropy(heads(x).transpose(1, 2), y.expand(4, -1), reduction="none").mean(1)[:3]
    monkeypatch.setattr("vidssl.evaluation.probes.sgd.JUDGED", 7)
    found = losses_of(heads, x, y)
    torch.testing.assert_close(found[:3], expected, atol=1e-9, rtol=0)
    assert found[3] == math.inf and int(found.argmin()) == best_head(heads(x), y)
