"""scripts/identifiability.py: its scores against scikit-learn, its rows, and one short run from data to table."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from vidssl.synthetic import sequences as toy

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        spec = importlib.util.spec_from_file_location("identifiability", SCRIPTS / "identifiability.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "identifiability", module)
        spec.loader.exec_module(module)
        return module


def rows(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_r2_is_that_of_least_squares_on_held_out_rows(script):
    fit, held_out = rows(20, 5, 3, seed=0), rows(30, 5, 3, seed=1)
    mix = rows(3, 2, seed=2)
    true_fit, true = fit @ mix + rows(20, 5, 2, seed=3), held_out @ mix + rows(30, 5, 2, seed=4) + 1
    model = LinearRegression().fit(fit.flatten(0, 1).double(), true_fit.flatten(0, 1).double())
    expected = r2_score(true.flatten(0, 1).double(), model.predict(held_out.flatten(0, 1).double()))
    assert script.r2(fit, true_fit, held_out, true) == pytest.approx(expected, abs=1e-9)
    assert script.r2(fit, fit @ mix, held_out, held_out @ mix) == pytest.approx(1)
    collapsed = torch.zeros(20, 5, 3)
    assert script.r2(collapsed, true_fit, torch.zeros(30, 5, 3), true) <= 0


def test_latents_start_with_unit_variance(script):
    encoder = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).double()
    x = 0.01 * rows(50, 4, 6, seed=0).double()
    script.start_at_unit_variance(encoder, x)
    z = encoder(x).flatten(0, 1)
    torch.testing.assert_close(z.std(0), torch.ones(3).double(), rtol=1e-9, atol=0)
    torch.testing.assert_close(z.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-9)


def test_a_right_transition_has_no_error_in_other_coordinates(script):
    """z = L x + c of rotating x, and a model of it, L A L^-1 with the offset that keeps c where it is."""
    from vidssl.synthetic.sequences import random_rotation, rotations

    generator = torch.Generator().manual_seed(0)
    A = random_rotation(3, generator=generator).double()
    x = rotations(50, 20, A.float(), generator=generator).double()
    L, c = rows(3, 3, seed=1).double(), rows(3, seed=2).double()
    z, moved = x @ L.T + c, L @ A @ torch.linalg.inv(L)
    model = script.LinearGaussianSSM(3, 3, "orthogonal").double()
    own = model.matrices()
    model.matrices = lambda: own._replace(A=moved, b=c - moved @ c)
    scores = script.dynamics_scores(model, A, z, x)
    assert scores["lds_error"] == pytest.approx(0, abs=1e-9)
    assert scores["dynamics_r2"] == pytest.approx(1, abs=1e-9)
    model.matrices = lambda: own._replace(A=torch.eye(3).double(), b=None)
    scores = script.dynamics_scores(model, A, z, x)
    assert scores["lds_error"] == pytest.approx(torch.linalg.matrix_norm(A - torch.eye(3)).item(), abs=1e-9)
    assert scores["dynamics_r2"] < 0.999


@pytest.mark.parametrize("name", ["t3-knn", "t5d5-logdet"])
def test_a_short_run_learns_and_is_tabulated(script, name, tmp_path):
    row = next(row for row in script.ROWS if row.name == name)
    row = replace(row, batch=min(row.batch, 16))
    run = script.train(row, seed=0, updates=8, checkpoints=2)
    assert [point["updates"] for point in run["curve"]] == [1, 4, 8]
    assert run["curve"][-1]["loss"] < run["curve"][0]["loss"]
    assert all(-1 < point["r2"] <= 1 for point in run["curve"])
    recurrent = name.startswith("t5")
    assert ("r2_both" in run["trained"]) == recurrent
    if recurrent:  # no worse than from the latents alone, but for what is held out
        assert run["trained"]["r2_both"] > run["trained"]["r2_z"] - 0.01
    text = script.report([run], tmp_path)
    assert f"| {row.task} {row.title} | {row.entropy} | 0 | **{run['trained']['r2']:.3f}**" in text
    assert (tmp_path / "identifiability.json").is_file()


def test_rows_are_chosen_by_task_or_name_and_mistakes_are_named(script):
    assert [row.name for row in script.chosen(["t2-knn", "t4"])] == ["t2-knn", "t4-knn"]
    assert len(script.chosen([])) == len(script.ROWS)
    with pytest.raises(SystemExit, match="--tasks t9: unknown"):
        script.chosen(["t9"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
