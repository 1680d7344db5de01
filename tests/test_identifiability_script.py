"""scripts/identifiability.py: its scores against scikit-learn, its rows, and one short run from data to table."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from vidssl.synthetic import sequences as toy

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = ("data", "models", "scores", "rows", "report")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """scripts/identifiability.py; the modules beside it are `script.data`, `.models`, `.scores`, `.rows`, `.report_of`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        module = importlib.import_module("identifiability")
        for name in NAMES:
            setattr(
                module,
                "report_of" if name == "report" else name,
                importlib.import_module(f"identifiability_{name}"),
            )
        yield module
        for name in ("identifiability", *(f"identifiability_{name}" for name in NAMES)):
            del sys.modules[name]


def rows(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_r2_is_that_of_least_squares_on_held_out_rows(script):
    fit, held_out = rows(20, 5, 3, seed=0), rows(30, 5, 3, seed=1)
    mix = rows(3, 2, seed=2)
    true_fit, true = fit @ mix + rows(20, 5, 2, seed=3), held_out @ mix + rows(30, 5, 2, seed=4) + 1
    model = LinearRegression().fit(fit.flatten(0, 1).double(), true_fit.flatten(0, 1).double())
    expected = r2_score(true.flatten(0, 1).double(), model.predict(held_out.flatten(0, 1).double()))
    assert script.scores.r2(fit, true_fit, held_out, true) == pytest.approx(expected, abs=1e-9)
    assert script.scores.r2(fit, fit @ mix, held_out, held_out @ mix) == pytest.approx(1)
    collapsed = torch.zeros(20, 5, 3)
    assert script.scores.r2(collapsed, true_fit, torch.zeros(30, 5, 3), true) <= 0


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
    model = script.scores.LinearGaussianSSM(3, 3, "orthogonal").double()
    own = model.matrices()
    model.matrices = lambda: own._replace(A=moved, b=c - moved @ c)
    scores = script.scores.dynamics_scores(model, A, z, x)
    assert scores["lds_error"] == pytest.approx(0, abs=1e-9)
    assert scores["dynamics_r2"] == pytest.approx(1, abs=1e-9)
    model.matrices = lambda: own._replace(A=torch.eye(3).double(), b=None)
    scores = script.scores.dynamics_scores(model, A, z, x)
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
    text = script.report([run], {}, [0, 1], tmp_path)
    # Cut short: named, and not taken for what the row says.
    assert f"|  | 0: {run['trained']['r2']:.3f} (8 updates of 16); 1 not run |" in text
    assert (tmp_path / "identifiability.json").is_file()


def test_rows_are_chosen_by_task_or_name_and_mistakes_are_named(script):
    assert [row.name for row in script.chosen(["t4", "t2-knn", "t4"])] == ["t4-knn", "t2-knn"]
    assert len(script.chosen([])) == len(script.ROWS)
    with pytest.raises(SystemExit, match="--tasks t9: unknown"):
        script.chosen(["t9"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_score_is_blind_to_affine_maps_and_to_nothing_else(script: ModuleType) -> None:
    g = generator()
    true, probe = torch.randn(30, 10, 2, generator=g), torch.randn(30, 10, 2, generator=g)
    A, b = torch.randn(3, 2, generator=g), torch.randn(3, generator=g)
    assert script.scores.r2(probe @ A.T + b, probe, true @ A.T + b, true) == pytest.approx(1, abs=1e-6)
    noise = torch.randn(30, 10, 3, generator=g)
    assert script.scores.r2(noise, probe, noise.flip(0), true) < 0.05
    assert script.scores.r2(torch.ones(30, 10, 1), probe, torch.ones(30, 10, 1), true) < 0.01
    # Half the factors found: half the score.
    assert script.scores.r2(probe[..., :1], probe, true[..., :1], true) == pytest.approx(0.5, abs=0.02)


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
        scores = script.scores.dynamics_scores(model, A, x @ L.T + b, x)
        assert scores["lds_error"] == pytest.approx(0, abs=1e-4)
        assert scores["dynamics_r2"] == pytest.approx(1, abs=1e-4)
        assert script.scores.dynamics_scores(model, A.T, x @ L.T + b, x)["lds_error"] > 0.1


def test_script_trains_continues_and_writes_one_table(script: ModuleType, tmp_path: Path) -> None:
    runs, output = tmp_path / "runs", tmp_path / "results"
    folders = ["--runs", str(runs), "--output", str(output)]
    arguments = ["--tasks", "t2-logdet", "t2-none", "--updates", "3", "--seeds", "0", *folders]
    script.main([*arguments, "--minutes", "0"])
    assert "0 not run" in (output / "identifiability.md").read_text()
    assert not list(runs.iterdir())
    script.main(arguments)
    files = sorted(runs.iterdir())
    assert [file.name for file in files] == ["t2-logdet-seed0-3.json", "t2-none-seed0-3.json"]
    # What is finished is read, not repeated.
    run = json.loads(files[0].read_text())
    files[0].write_text(json.dumps({**run, "trained": {**run["trained"], "r2": 0.123}}))
    (runs / "ceilings.json").write_text(json.dumps({"t2": {"r2": 0.5, "r2_videos": 0.6, "r2_video": 0.7}}))
    script.main(arguments)
    text = (output / "identifiability.md").read_text()
    assert "Without entropy" in text
    assert "|  | 0: 0.123 (3 updates of 8) |" in text
    assert "| 0.500, 0.700 |" in text
    files[0].write_text(json.dumps({**run, "updates": 400}))
    script.main(["--report", "--seeds", "0", *folders])
    assert (
        f"| **{run['trained']['r2']:.3f}** | 0: {run['trained']['r2']:.3f} |"
        in (output / "identifiability.md").read_text()
    )
    result = json.loads((output / "identifiability.json").read_text())
    assert [r["row"] for r in result["runs"]] == ["t2-logdet", "t2-none"]
    assert len(result["runs"][0]["curve"]) == 3


def test_verdict_goes_by_the_published_protocol_and_names_the_ceiling(script: ModuleType) -> None:
    (row,) = script.chosen(["t4"])
    runs = [{"trained": {"r2": 0.88, "r2_video": value}} for value in (0.92, 0.95)]
    assert script.report_of.verdict(row, runs, None) == "yes"  # 0.935 of 0.94 on the video
    short = [{"trained": {"r2": 0.99, "r2_video": 0.9}}]
    assert script.report_of.verdict(row, short, None) == "no, 0.040 short"
    ceiling = {"r2": 1.0, "r2_video": 0.905}
    assert script.report_of.verdict(row, short, ceiling) == "no, 0.040 short; 0.005 below the ceiling"
    assert script.report_of.verdict(row, [], None) == ""


@pytest.mark.parametrize(
    "name", ["t1-stopgrad-released", "t3-stopgrad-released", "t6-knn-oracle", "t6-knn-orthogonal"]
)
def test_rows_can_be_built_and_trained(script: ModuleType, name: str) -> None:
    (row,) = script.chosen([name])
    run = script.train(replace(row, batch=8), seed=0, updates=1)
    assert 0 <= run["trained"]["r2"] <= 1
    assert run["trained"]["updates"] == 1


def test_published_settings_are_all_stated(script: ModuleType) -> None:
    """A new option of the objective, or a new default, must not reach a published model unnoticed."""
    of_the_model = {"state_dim", "hidden_dim", "time_unit", "lr_multiplier", "bandwidth"}
    options = inspect.signature(script.LDM.__init__).parameters
    said = {
        "self",
        "dim",
        "dynamics",
        "entropy",
        "seed",
        *script.models.PUBLISHED_LOSS,
        *script.models.KALMAN,
    }
    assert set(options) - said <= of_the_model


def test_pixel_variance_is_that_of_the_pixels_at_first_and_passes_through_the_objective(script) -> None:
    x = 0.5 * rows(30, 100, seed=0) + 0.1
    head = script.models.PixelVariance(100, 2)
    noise = script.scores.input_noise(head(x)).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(noise, x.var(-1, correction=0)[:, None].expand(-1, 2) + 1e-5)
    raw = script.models.noise_to_raw(torch.tensor([0.0, 1e-3, 0.05, 0.5, 30.0]))
    found = script.scores.input_noise(raw).diagonal(dim1=-2, dim2=-1) - 1e-5
    torch.testing.assert_close(found, torch.tensor([1e-5, 1e-3, 0.05, 0.5, 30.0]), rtol=1e-3, atol=1e-6)


def test_released_loss_is_that_of_a_filter_written_down_again(script: ModuleType) -> None:
    """Float64, one sequence after another, P = (I - K C) P^-; R of the frame and Q share exp(1), the prior is N(0, I)."""
    (row,) = script.chosen(["t3-stopgrad-released"])
    objective, encoder = row.objective(3).double(), row.encoder().double()
    x = rows(3, 12, 100, seed=0).double()
    loss = objective([encoder(x)]).loss
    A, scale = objective.model.transition.A.detach(), math.e
    z = encoder.latents(x).detach()
    R = scale * (encoder.noise.variance(x).detach().clamp_min(1e-5) + 1e-5)
    total = 0.0
    for b in range(3):
        state, P = torch.zeros(2).double(), torch.eye(2).double()
        for t in range(12):
            state, P = A @ state, A @ P @ A.T + scale * (1 + 1e-5) * torch.eye(2).double()
            S, error = P + torch.diag(R[b, t]), z[b, t] - state
            total += 0.5 * (S.logdet() + error @ torch.linalg.inv(S) @ error + 2 * math.log(2 * math.pi))
            K = P @ torch.linalg.inv(S)
            state, P = state + K @ error, P - K @ P
    assert loss.item() == pytest.approx(float(total) / 3, rel=1e-6)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.model.parameters())
    # Weight decay on everything, as released; on the encoder and its noise only elsewhere.
    assert [g["weight_decay"] for g in script.parameter_groups(row, encoder, objective)] == [1e-6] * 3
    (ours,) = script.chosen(["t3-knn"])
    groups = script.parameter_groups(ours, ours.encoder(), ours.objective(0))
    assert [g["weight_decay"] for g in groups] == [1e-6, 1e-6, 0.0]


def test_published_videos_are_the_ones_of_which_a_linear_read_out_explains_95_and_89_percent(script) -> None:
    """Of the first of 32 wobbly videos, and of all; fresh ones have another spread, and the first is no typical one."""
    ceiling = script.scores.wobbly_ceiling(1000)
    assert ceiling["r2_video"] == pytest.approx(0.951, abs=0.003)
    assert ceiling["r2_videos"] == pytest.approx(0.888, abs=0.003)
    frames, position = script.data.published_same_path(toy.square)
    assert (frames.shape, position.shape) == ((8, 100, 100), (8, 100, 2))
    clean = toy.square(1, variance=0.0).observations.flatten(2)
    assert (frames - clean).var().item() == pytest.approx(0.1, rel=0.02)
    frames, position = script.data.published_circle()
    torch.testing.assert_close(position.norm(dim=-1), torch.ones(8, 100))


def test_the_exact_filter_on_the_circle(script: ModuleType) -> None:
    """Its step is that of the data; without noise it knows the position, and without frames it knows the start alone."""
    angle = 2 * torch.pi * torch.arange(script.scores.ANGLES, dtype=torch.float64) / script.scores.ANGLES
    move = script.scores.circle_transition(angle)
    path, _ = toy.circle_path(200_000, steps=2, generator=generator())
    points = torch.stack([angle.cos(), angle.sin()], dim=-1)
    torch.testing.assert_close(move[0] @ points, path[:, 1].double().mean(0), rtol=0, atol=0.003)
    path, variance = toy.circle_path(4, generator=generator())
    frames = script.scores.blob_frames(path)
    clear = script.scores.circle_filter(frames, torch.zeros_like(variance))
    assert script.scores.explained(clear, path) > 0.999
    blind = script.scores.circle_filter(torch.zeros_like(frames), torch.full_like(variance, 1e9))
    torch.testing.assert_close(blind[:, 0], points[:1].expand(4, 2), rtol=0, atol=1e-6)
    assert script.scores.explained(blind, path) < 0.3


def test_a_known_rotation_is_the_one_of_the_data_and_is_not_learned(script: ModuleType) -> None:
    (row,) = script.chosen(["t6-knn-oracle"])
    objective, encoder = row.objective(5), row.encoder()
    torch.testing.assert_close(objective.model.transition(), script.data.rotation_of(5))
    data = row.data(8, 5)
    torch.testing.assert_close(data.transition, objective.model.transition())
    learned = [p for group in script.parameter_groups(row, encoder, objective) for p in group["params"]]
    assert not any(p is objective.model.transition.A for p in learned)
    (none,) = script.chosen(["t6-knn-none"])
    torch.testing.assert_close(none.objective(5).model.transition(), torch.eye(3))


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
