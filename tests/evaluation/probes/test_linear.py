from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from torch import nn

from tests.distributed_runner import run_on_processes
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.features import FeatureSet
from vidssl.evaluation.probes.few import chosen_rows
from vidssl.evaluation.probes.holdout import grouped_split, stratified_split
from vidssl.evaluation.probes.logistic import choose_l2, fit_logistic, probe
from vidssl.evaluation.probes.splits import Splits
from vidssl.evaluation.setup import Subject

probes = import_module("vidssl.evaluation.probes.linear")


def blobs(rng: np.random.Generator, n: int, d: int = 6, k: int = 3, spread: float = 1.0):
    centres = rng.normal(size=(k, d)) * 2
    labels = rng.integers(k, size=n)
    x = centres[labels] + spread * rng.normal(size=(n, d)) * rng.uniform(0.5, 20, size=d)
    return torch.from_numpy(x), torch.from_numpy(labels)


@pytest.mark.parametrize("l2", [1e-3, 1e-1, 10.0])
def test_equals_scikit_learn(l2):
    x, y = blobs(np.random.default_rng(0), 200)
    model = fit_logistic(x, y, 3, l2)
    standardised = ((x - x.mean(0)) / x.std(0, unbiased=False)).numpy()
    reference = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000).fit(standardised, y)
    ours = model(x).numpy()
    np.testing.assert_allclose(
        log_softmax(ours, axis=1), reference.predict_log_proba(standardised), atol=2e-5
    )
    assert (ours.argmax(1) == reference.predict(standardised)).all()
    penalties = (model.weight.numpy(), reference.coef_)
    losses = [
        l2 / 2 * np.square(w).sum() - rows[np.arange(len(x)), y].mean()
        for w, rows in zip(penalties, (log_softmax(ours, axis=1), reference.predict_log_proba(standardised)), strict=True)
    ]  # fmt: skip
    assert abs(losses[0] - losses[1]) < 1e-6
    assert losses[0] <= losses[1] + 1e-9


@pytest.mark.parametrize("change", [{"CHUNK": 60}, {"CHUNK": 60, "LARGE": 0}])
def test_rows_looked_at_in_chunks_have_the_same_optimum(monkeypatch, change):
    x, y = blobs(np.random.default_rng(8), 200)
    whole = fit_logistic(x, y, 3, 1e-2)
    for name, value in change.items():
        monkeypatch.setattr(f"vidssl.evaluation.probes.logistic.{name}", value)
    torch.testing.assert_close(
        fit_logistic(x, y, 3, 1e-2)(x).log_softmax(1),
        whole(x).log_softmax(1),
        atol=2e-3 if "LARGE" in change else 2e-5,
        rtol=0,
    )


def test_a_watcher_sees_the_objective_and_the_largest_number_of_its_gradient():
    x, y = blobs(np.random.default_rng(3), 80, spread=2.0)
    seen: list[tuple[float, float]] = []
    model = fit_logistic(x, y, 3, 0.1, watch=lambda value, gradient: seen.append((value, gradient)))
    loss = torch.nn.functional.cross_entropy(model(x), y) + 0.05 * model.weight.square().sum()
    share = torch.bincount(y) / len(y)
    first = (
        -(share * share.log()).sum().item()
    )  # without weights the best scores are how frequent the classes are
    assert seen[0][0] == pytest.approx(first) and seen[-1][0] == pytest.approx(loss.item(), abs=1e-9)
    residual = model(x).softmax(1) - torch.nn.functional.one_hot(y, 3)
    weight = residual.T @ ((x - model.mean) / model.std) / len(x) + 0.1 * model.weight
    largest = max(weight.abs().max().item(), residual.mean(0).abs().max().item())
    assert seen[-1][1] == pytest.approx(largest, abs=1e-8) and seen[-1][1] < 1e-6 < seen[0][1]


def test_a_strong_penalty_on_many_classes_does_not_take_long():
    """Its weights are far steeper than its bias: without a scale of their own, 40 steps end 2e-3 above the optimum or more."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(100, (800,), generator=generator)
    x = torch.randn(100, 30, generator=generator)[y] + 2 * torch.randn(800, 30, generator=generator)
    for l2 in (1.0, 100.0):
        few, many = (
            objective(fit_logistic(x, y, 100, l2, max_iterations=steps), x, y, l2) for steps in (40, 1000)
        )
        assert abs(few - many) < 1e-5


def objective(model, x, y, l2):
    return torch.nn.functional.cross_entropy(model(x), y).item() + l2 / 2 * model.weight.square().sum().item()


def test_warm_start_reaches_the_same_optimum():
    x, y = blobs(np.random.default_rng(1), 150)
    cold = fit_logistic(x, y, 3, 1e-2)
    warm = fit_logistic(x, y, 3, 1e-2, start=fit_logistic(x, y, 3, 10.0))
    torch.testing.assert_close(warm(x).log_softmax(1), cold(x).log_softmax(1), atol=1e-5, rtol=0)


def test_separable_data_is_solved_and_noise_is_not():
    rng = np.random.default_rng(2)
    x, y = blobs(rng, 300, d=8, spread=0.01)
    scores, _ = probe(x[:200], y[:200], x[200:], 3)
    assert (scores.argmax(1) == y[200:]).double().mean() == 1.0
    noise = torch.from_numpy(rng.normal(size=(300, 50)))
    scores, l2 = probe(noise[:200], y[:200], noise[200:], 3)
    assert (scores.argmax(1) == y[200:]).double().mean() < 0.55
    assert l2 >= 0.1  # pure noise asks for the strongest penalties


def test_constant_dimensions_do_not_matter():
    x, y = blobs(np.random.default_rng(3), 100)
    padded = torch.cat([x, torch.full((100, 2), 1e6) + 1e-4 * torch.randn(100, 2).double()], 1)
    torch.testing.assert_close(fit_logistic(padded, y, 3, 0.1)(padded), fit_logistic(x, y, 3, 0.1)(x))


def test_stratified_split_holds_out_some_of_every_class():
    labels = torch.tensor([0] * 10 + [1] * 2 + [2])
    kept, out = stratified_split(labels, 0.2, np.random.default_rng(0))
    assert sorted(kept.tolist() + out.tolist()) == list(range(13))
    assert torch.bincount(labels[out], minlength=3).tolist() == [2, 1, 0]


def test_one_infinity_among_the_training_rows_is_an_error():
    x, y = blobs(np.random.default_rng(4), 60)
    x[7, 2] = torch.inf
    with pytest.raises(VidsslError, match="1 of 60 training rows are not finite, first row 7"):
        probe(x, y, x, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_has_the_results_of_a_cpu():
    x, y = blobs(np.random.default_rng(5), 300, d=20, spread=3.0)
    expected, l2 = probe(x[:200], y[:200], x[200:], 3)
    found, there = probe(x[:200].cuda(), y[:200], x[200:].cuda(), 3)
    assert there == l2
    torch.testing.assert_close(found.cpu().log_softmax(1), expected.log_softmax(1), atol=1e-6, rtol=0)


def fit_once(
    x: torch.Tensor, y: torch.Tensor, groups: torch.Tensor | None = None, **how: Any
) -> tuple[int, dict]:
    """The scores of a probe on made-up features, and how often this process fitted one."""
    ok = torch.ones(len(x), dtype=torch.bool)
    features = FeatureSet({"trained": x, "untrained": x.flip(1)}, {"trained": ok, "untrained": ok}, (), 0)
    said = {"notes": [], "train": {} if groups is None else {"groups": len(groups.unique())}}
    splits = Splits(("a", "b", "c"), features, features, y, y, said, groups)
    subject = Subject(Path("x"), nn.Identity(), None, EvalOptions(), torch.device("cpu"))
    fitted = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("load_subject", subject),
            ("read_splits", splits),
            ("result_header", {"task": "linear-probe"}),
        ):
            patch.setattr(probes, name, lambda *_, value=value: value)
        patch.setattr(probes, "probe", lambda *given, **options: fitted.append(1) or probe(*given, **options))
        result = probes.linear_probe("x", "x", "x", fit=probes.LinearOptions(**how))
    return len(fitted), result


def test_only_the_first_process_fits_and_all_have_the_result():
    x, y = blobs(np.random.default_rng(6), 60)
    [(first, result), (second, same)] = run_on_processes(fit_once, 2, x.float(), y)
    assert (first, second) == (2, 0)
    assert result == same == fit_once(x.float(), y)[1]
    assert result["comparisons"]["trained"]["to"] == "untrained"


def test_a_penalty_at_the_edge_of_the_grid_is_said():
    noise = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    _, result = fit_once(noise, torch.arange(60) % 3)
    assert result["l2"]["trained"] == 100
    assert "trained: the penalty, 100, lies at the edge of the grid, 1e-05 to 100" in result["notes"][0]
    x, y = blobs(np.random.default_rng(7), 60, spread=3.0)
    assert not any("edge of the grid" in line for line in fit_once(x.float(), y)[1]["notes"])


def test_nothing_to_hold_out_is_an_error():
    with pytest.raises(VidsslError, match="held out"):
        choose_l2(torch.randn(3, 4), torch.arange(3), 3)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_groups_stay_together_and_no_class_loses_its_last_one(data):
    total = data.draw(st.integers(1, 40))
    labels, groups = (
        torch.tensor(data.draw(st.lists(st.integers(0, top), min_size=total, max_size=total)))
        for top in (3, data.draw(st.integers(0, 12)))
    )
    kept, out = grouped_split(labels, groups, 0.2, np.random.default_rng(data.draw(st.integers(0, 9))))
    assert sorted(kept.tolist() + out.tolist()) == list(range(total))
    assert not set(groups[kept].tolist()) & set(groups[out].tolist())
    assert set(labels[kept].tolist()) == set(labels.tolist())
    several = [label for label in labels.unique() if len(groups[labels == label].unique()) > 1]
    within_a_class = len(torch.stack([labels, groups]).unique(dim=1)[1]) == len(groups.unique())
    if several and within_a_class:
        assert set(labels[out].tolist()) == {int(label) for label in several}


def test_about_the_fraction_of_every_class_is_held_out():
    groups = torch.arange(300) // 3  # 10 groups of 3 of each of 10 classes
    _, out = grouped_split(groups // 10, groups, 0.2, np.random.default_rng(0))
    assert torch.bincount(groups[out] // 10).tolist() == [6] * 10
    assert len(grouped_split(groups // 10, torch.arange(300), 0.2, np.random.default_rng(0))[1]) == 60
    uneven = torch.tensor([0] * 9 + [1])
    assert grouped_split(torch.zeros(10, dtype=int), uneven, 0.2, np.random.default_rng(0))[1].tolist() == [9]


@pytest.fixture(scope="module")
def persons() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, labels and groups: 12 persons in 4 near copies, whose looks are clear and whose class is not."""
    generator = torch.Generator().manual_seed(0)
    labels, looks = torch.arange(12) % 2, torch.randn(12, 20, generator=generator)
    looks[:, 0] += 2 * labels - 1
    rows = looks.repeat_interleave(4, 0) + 0.05 * torch.randn(48, 20, generator=generator)
    return rows, labels.repeat_interleave(4), torch.arange(12).repeat_interleave(4)


def test_a_penalty_that_knows_persons_by_heart_is_chosen_only_without_their_groups(persons):
    x, y, groups = persons
    _, apart = fit_once(x, y)
    _, together = fit_once(x, y, groups)
    assert apart["l2"]["trained"] <= 0.01 and together["l2"]["trained"] >= 0.1
    assert together["groups_kept_together"] == 12
    assert together["notes"][0] == "recorded groups kept together in choosing the penalties: 12"
    assert "groups_kept_together" not in apart and not any("group" in note for note in apart["notes"])


def test_one_group_of_each_class_is_nothing_to_hold_out():
    with pytest.raises(VidsslError, match="one readable training group of videos; none can be held out"):
        choose_l2(torch.randn(6, 4), torch.arange(6) % 3, 3, groups=torch.arange(6) % 3)


def test_settings_chosen_on_the_test_are_said_to_be():
    x, y = blobs(np.random.default_rng(7), 60, spread=3.0)
    for head in ("lbfgs", "sgd"):
        _, result = fit_once(x.float(), y, head=head, select="val")
        assert "WARNING: the settings were chosen on the test videos themselves" in result["notes"][-1]
        assert result["select"] == "val"
    assert result["sgd"]["trained"]["rate"] in result["rate_grid"]


def test_one_shot_leaves_nothing_to_hold_out_and_takes_a_fixed_penalty():
    x, y = blobs(np.random.default_rng(9), 90, spread=0.4)
    _, result = fit_once(x.float(), y, shots=(1,), draws=2)
    assert result["scores"]["trained, 1 shots"]["top1"] > result["scores"]["chance"]["top1"] + 0.1


def test_few_shots_are_drawn_alike_for_all_encoders_and_more_of_them_help():
    x, y = blobs(np.random.default_rng(9), 90, spread=0.4)
    _, result = fit_once(x.float(), y, head="sgd", shots=(1, 6), draws=2)
    scores = result["scores"]
    for shots in (1, 6):
        score = scores[f"trained, {shots} shots"]
        assert score["top1"] == pytest.approx(np.mean(score["top1_draws"])) and len(score["top1_draws"]) == 2
        assert score["top1_std"] == pytest.approx(np.std(score["top1_draws"], ddof=1))
    assert scores["trained, 6 shots"]["top1"] > scores["trained, 1 shots"]["top1"] > scores["chance"]["top1"]
    _, many = fit_once(x.float(), y, head="sgd", shots=(1000,), draws=2)
    assert many["scores"]["trained, 1000 shots"]["top1_std"] == 0
    sizes = ", ".join(f"{'abc'[k]} ({n})" for k, n in enumerate(torch.bincount(y).tolist()))
    assert many["notes"] == [
        f"1000 shots: 3 classes have fewer training videos, all of which are taken: {sizes}",
        "1000 shots: no class has more, so that all draws are the same videos and do not differ",
    ]


def test_chosen_rows_are_so_many_of_each_class():
    labels = torch.tensor([0] * 10 + [1] * 2 + [2])
    rows = chosen_rows(labels, torch.ones(13, dtype=torch.bool), 4, np.random.default_rng(0))
    assert torch.bincount(labels[rows]).tolist() == [4, 2, 1] and rows.tolist() == sorted(set(rows.tolist()))
