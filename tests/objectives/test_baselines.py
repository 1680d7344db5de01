"""The losses that come from lightly against their formulas in NumPy, and their behaviour as objectives."""

from __future__ import annotations

import builtins
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo, Objective
from vidssl.objectives.baselines import BYOL, DINO, BarlowTwins, InfoNCE, SimSiam, VICReg

Array = np.ndarray[Any, np.dtype[np.float64]]
pytest.importorskip("lightly.loss", reason="lightly is an optional extra")


def rows(b: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def infonce(a: Array, b: Array, temperature: float) -> float:
    z = unit(np.concatenate([a, b]))
    n, values = len(a), []
    for i in range(2 * n):
        logits = z @ z[i] / temperature
        others = [j for j in range(2 * n) if j != i]
        values.append(np.log(np.exp(logits[others]).sum()) - logits[(i + n) % (2 * n)])
    return float(np.mean(values))


def vicreg(a: Array, b: Array) -> float:
    d = a.shape[1]
    total = 25 * np.mean((a - b) ** 2)
    for z in (a, b):
        covariance = np.cov(z, rowvar=False)
        total += 25 * 0.5 * np.mean(np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)))
        total += (covariance**2).sum() / d - (np.diag(covariance) ** 2).sum() / d
    return float(total)


def barlow(a: Array, b: Array, weight: float) -> float:
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b))
    c = a.T @ b / len(a)
    diagonal = np.diag(c)
    return float(((1 - diagonal) ** 2).sum() + weight * ((c**2).sum() - (diagonal**2).sum()))


@pytest.mark.parametrize(
    ("objective", "formula"),
    [
        (InfoNCE, lambda a, b: infonce(a, b, 0.1)),
        (VICReg, vicreg),
        (BarlowTwins, lambda a, b: barlow(a, b, 5e-3)),
    ],
)
@pytest.mark.parametrize("k", [2, 3])
def test_pair_losses(objective: type[Objective], formula: Any, k: int) -> None:
    views = [rows(6, 4, seed).requires_grad_() for seed in range(k)]
    loss = objective()(views).loss
    values = [formula(a.detach().numpy(), b.detach().numpy()) for a, b in combinations(views, 2)]
    assert loss.item() == pytest.approx(np.mean(values), rel=1e-9)
    assert torch.autograd.gradcheck(lambda *x: objective()(list(x)).loss, tuple(views))
    with pytest.raises(VidsslError, match="at least 2 views"):
        objective()(views[:1])
    with pytest.raises(VidsslError, match="at least 2 videos"):
        objective()([v[:1] for v in views])


def cosine(a: Tensor, b: Tensor) -> float:
    return float((unit(a.detach().numpy()) * unit(b.detach().numpy())).sum(1).mean())


def outputs(k: int) -> list[HeadOutput]:
    return [
        HeadOutput(rows(5, 3, s).requires_grad_(), rows(5, 3, s + 10).requires_grad_(), None)
        for s in range(k)
    ]


def test_byol_compares_predictions_with_other_views_of_the_teacher() -> None:
    student, teacher = outputs(3), outputs(2)
    loss = BYOL()(student, teacher, BatchInfo(torch.arange(5), teacher_views=(0, 2))).loss
    pairs = [(0, 1), (1, 0), (1, 1), (2, 0)]
    values = [-cosine(student[s].prediction, teacher[t].projection) for s, t in pairs]  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(np.mean(values), abs=1e-9)
    loss.backward()
    assert all(view.projection.grad is None for view in teacher)
    with pytest.raises(VidsslError, match="teacher"):
        BYOL()(student)


def test_simsiam_holds_the_other_projection_fixed() -> None:
    student = outputs(2)
    loss = SimSiam()(student).loss
    a, b = student
    value = -(cosine(a.prediction, b.projection) + cosine(b.prediction, a.projection)) / 2  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(value, abs=1e-9)
    loss.backward()
    assert all(view.projection.grad is None and view.prediction.grad is not None for view in student)  # type: ignore[union-attr]


def test_dino_formula_centre_and_view_order() -> None:
    objective = DINO(dim=4, warmup_teacher_temperature=0.02, teacher_temperature=0.06, warmup=0.5).double()
    student, teacher = (
        [rows(3, 4, s).requires_grad_() for s in range(3)],
        [rows(3, 4, s + 5) for s in range(2)],
    )
    objective.set_progress(0.25)
    assert objective.teacher_temperature == pytest.approx(0.04)

    def softmax(x: Array) -> Array:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def formula(centre: Array) -> float:
        seen, values = (2, 0), []
        for t, view in enumerate(teacher):
            target = softmax((view.numpy() - centre) / 0.04)
            for s in range(3):
                if s != seen[t]:
                    values.append(
                        -(target * np.log(softmax(student[s].detach().numpy() / 0.1))).sum(1).mean()
                    )
        return float(np.mean(values))

    batch = BatchInfo(torch.arange(3), teacher_views=(2, 0))
    centre = np.zeros(4)
    for _ in range(2):
        loss = objective(student, teacher, batch).loss
        assert loss.item() == pytest.approx(formula(centre), abs=1e-8)
        centre = 0.9 * centre + 0.1 * torch.cat(teacher).numpy().mean(axis=0)
    loss.backward()
    np.testing.assert_allclose(objective.state_dict()["lightly.center"].squeeze().numpy(), centre, atol=1e-12)


@pytest.mark.parametrize("objective", [InfoNCE, VICReg, BarlowTwins])
def test_autocast_gives_float32(objective: type[Objective]) -> None:
    views = [rows(6, 4, seed).to(torch.bfloat16) for seed in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective()(views).loss
    assert loss.dtype == torch.float32
    assert loss.item() == objective()([v.float() for v in views]).loss.item()


def test_without_lightly_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "lightly"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "lightly":
            raise ImportError("no module named lightly")
        return real(name, *args, **kwargs)

    monkeypatch.setitem(sys.modules, "lightly", None)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(VidsslError, match=r"pip install \"vidssl\[lightly\]\""):
        InfoNCE()
