from __future__ import annotations

import builtins
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import stats

from vidssl.config import load_config
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.dynamics.latents import LatentSequences, StepSpec, encode_sequences
from vidssl.evaluation.dynamics.measure import (
    SMOOTHING_FACTORS,
    chi_square_cdf,
    clock_means,
    ks_distance,
    measure_dynamics,
    smoothed,
    step_eigenvalues,
)
from vidssl.evaluation.dynamics.plots import LABEL_GAP, _spread, motion_axes, plot_dynamics
from vidssl.evaluation.dynamics.report import dynamics, dynamics_lines
from vidssl.runs import load_run
from vidssl.training import pretrain

RADIUS, ANGLE, STEP = 0.97, 0.35, 0.1


def rotating_model(process_noise: float = 0.3) -> LinearGaussianSSM:
    """x_t = 0.97 Rot(0.35) x_{t-1} + w, z_t = x_t + v, R = I: two dimensions, all seen."""
    model = LinearGaussianSSM(2, 2, generator=torch.Generator().manual_seed(0)).double()
    rotation = [[math.cos(ANGLE), -math.sin(ANGLE)], [math.sin(ANGLE), math.cos(ANGLE)]]
    with torch.no_grad():
        model.transition.A.copy_(RADIUS * torch.tensor(rotation, dtype=torch.float64))
        model.process_noise.raw.fill_(math.log(process_noise))
    return model.requires_grad_(False)


def simulate(videos: int = 60, steps: int = 40, process_noise: float = 0.3, seed: int = 1) -> LatentSequences:
    """Latents drawn from that model, in its stationary state from the first step on."""
    rng = np.random.default_rng(seed)
    A = rotating_model().transition.A.numpy()
    # Rotations commute with the identity: the stationary covariance is q / (1 - r²) I.
    x = rng.normal(size=(videos, 2)) * math.sqrt(process_noise / (1 - RADIUS**2))
    z = np.empty((videos, steps, 2))
    for t in range(steps):
        x = x @ A.T + math.sqrt(process_noise) * rng.normal(size=x.shape)
        z[:, t] = x + rng.normal(size=x.shape)
    times = torch.arange(steps).double() * STEP
    names = tuple(f"turning/{i}.mp4" for i in range(videos))
    return LatentSequences(
        torch.from_numpy(z), torch.ones(videos, steps, dtype=torch.bool), times.expand(videos, -1), names
    )


@pytest.fixture(scope="module")
def sequences() -> LatentSequences:
    return simulate()


def test_the_true_model_is_calibrated(sequences):
    found = measure_dynamics(rotating_model(), sequences).calibration
    count = len(found.nis)
    assert count == 60 * (39 - 3)
    # Innovations of the true model are independent, so plain standard errors hold; the variance of χ²_m is 2m.
    assert abs(found.mean_nis.value - 2) < 4 * math.sqrt(4 / count)
    for p, estimate in found.coverage.items():
        assert abs(estimate.value - p) < 4 * math.sqrt(p * (1 - p) / count)
        assert estimate.interval[0] < p < estimate.interval[1]
    assert found.ks < 1.63 / math.sqrt(count)  # the 1 % point
    assert found.ks == pytest.approx(stats.kstest(found.nis.numpy(), stats.chi2(2).cdf).statistic, abs=1e-12)


@pytest.mark.parametrize(("process_noise", "nis"), [(0.003, "more"), (30.0, "less")])
def test_a_wrong_process_noise_is_found_out(sequences, process_noise, nis):
    found = measure_dynamics(rotating_model(process_noise), sequences).calibration
    low, high = found.mean_nis.interval
    assert low > 2.2 if nis == "more" else high < 1.8
    assert found.ks > 5 * 1.63 / math.sqrt(len(found.nis))
    low, high = found.coverage[0.9].interval
    assert high < 0.9 if nis == "more" else low > 0.9


def test_the_true_model_has_the_better_likelihood(sequences):
    right, *wrong = (
        measure_dynamics(rotating_model(q), sequences).calibration.log_likelihood.value
        for q in (0.3, 0.003, 30.0)
    )
    assert right > max(wrong)


def test_forecast_errors_are_those_of_the_closed_form(sequences):
    found = measure_dynamics(rotating_model(), sequences, horizon=10).forecast
    stationary = 0.3 / (1 - RADIUS**2)
    # Settled error of the filter: p = r² p / (p + 1) + q for the prediction, p / (p + 1) after the latent is seen.
    predicted = max(np.roots([1, 1 - RADIUS**2 - 0.3, -0.3]))
    for h in range(1, 11):
        decay = RADIUS ** (2 * h)
        error = decay * predicted / (predicted + 1) + 0.3 * (1 - decay) / (1 - RADIUS**2) + 1
        turned = 2 * stationary * (1 - RADIUS**h * math.cos(h * ANGLE)) + 2
        nrmse = {name: row[h - 1].value for name, row in found.nrmse.items()}
        assert nrmse["model"] == pytest.approx(math.sqrt(error / (stationary + 1)), rel=0.08)
        assert nrmse["persistence"] == pytest.approx(math.sqrt(turned / (stationary + 1)), rel=0.08)
        assert nrmse["mean"] == pytest.approx(1, abs=1e-12)
        assert found.ratio["persistence"][h - 1].interval[1] < 1
        assert found.ratio["smoothing"][h - 1].interval[1] < 1
        assert found.ratio["persistence"][h - 1].value == pytest.approx(
            nrmse["model"] / nrmse["persistence"], rel=1e-12
        )
    assert found.pairs == [60 * (37 - h) for h in range(1, 11)]


def test_without_motion_the_model_beats_the_last_latent_but_not_the_average():
    rng = torch.Generator().manual_seed(3)
    still = 3 * torch.randn(80, 1, 2, generator=rng).double()
    z = still + torch.randn(80, 30, 2, generator=rng).double()
    sequences = simulate(80, 30)._replace(z=z)
    model = rotating_model(1e-6)
    with torch.no_grad():
        model.transition.A.copy_(torch.eye(2))
        model.fixed_point.zero_()
    found = measure_dynamics(model, sequences, horizon=6, context=10).forecast
    for h in range(6):
        assert found.ratio["persistence"][h].interval[1] < 0.8
        assert found.ratio["smoothing"][h].value == pytest.approx(1, abs=0.06)
        assert found.smoothing[h] < 0.3 and found.kept[h] > 0.9


def test_an_average_of_latents_that_are_forgotten_is_drawn_to_the_mean():
    z = torch.randn(60, 20, 2, generator=torch.Generator().manual_seed(5)).double()
    found = measure_dynamics(rotating_model(), simulate(60, 20)._replace(z=z), horizon=4).forecast
    for h in range(4):  # nothing of white noise is kept
        assert found.nrmse["smoothing"][h].value == pytest.approx(1, abs=0.01) and found.kept[h] < 0.3
        assert found.nrmse["persistence"][h].value == pytest.approx(math.sqrt(2), rel=0.05)


def test_latents_that_only_tell_the_frame_do_not_beat_the_clock():
    angle = 2 * math.pi / 16 * torch.arange(16, dtype=torch.float64)
    circle = 5 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    z = circle + 0.5 * torch.randn(50, 16, 2, generator=torch.Generator().manual_seed(0)).double()
    sequences = LatentSequences(z, torch.ones(50, 16, dtype=torch.bool), *simulate(50, 16)[2:])
    model = rotating_model(0.01)
    step = [[math.cos(2 * math.pi / 16), -math.sin(2 * math.pi / 16)]]
    step.append([-step[0][1], step[0][0]])
    with torch.no_grad():
        model.transition.A.copy_(torch.tensor(step))
    found = measure_dynamics(model, sequences).forecast
    assert found.ratio["persistence"][3].interval[1] < 0.4
    assert found.nrmse["clock"][3].value < 0.2
    assert found.ratio["clock"][3].interval[0] > 1


def test_the_clock_is_the_mean_of_the_other_videos():
    z = torch.tensor([[1.0, 2, 9], [3, 4, 0], [5, 9, 0]], dtype=torch.float64)[..., None]
    valid = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    everything = float(z[valid].mean())
    assert clock_means(z, valid)[..., 0].tolist() == [[4, 4, everything], [3, 2, 9], [2, 3, 9]]


def test_smoothing_skips_what_is_missing_and_one_is_the_last_latent():
    z = torch.tensor([[1.0, 9, 3, 5]], dtype=torch.float64)[..., None]
    valid = torch.tensor([[True, False, True, True]])
    assert smoothed(z, valid, 1.0).flatten().tolist() == [1, 1, 3, 5]
    assert smoothed(z, valid, 0.5).flatten().tolist() == [1, 1, 2, 3.5]
    assert SMOOTHING_FACTORS[0] == 1.0


def test_what_is_not_there_changes_nothing(sequences):
    short = sequences._replace(z=sequences.z.clone(), valid=sequences.valid.clone())
    short.valid[::2, 25:] = False
    short.z[::2, 25:] = 1e3
    other = short._replace(z=torch.where(short.valid[..., None], short.z, -7.0))
    first, second = (measure_dynamics(rotating_model(), x) for x in (short, other))
    assert first.forecast.record() == second.forecast.record()
    assert first.calibration.record() == second.calibration.record()
    assert first.forecast.pairs[0] == 30 * 36 + 30 * (25 - 4)


def test_eigenvalues_turn_as_far_as_the_system():
    first, second = step_eigenvalues(rotating_model(), STEP)
    assert first.angle == pytest.approx(ANGLE) and second.angle == pytest.approx(-ANGLE)
    assert first.modulus == pytest.approx(RADIUS)
    assert first.angle_per_second == pytest.approx(ANGLE / STEP)
    assert first.period_seconds == pytest.approx(2 * math.pi / ANGLE * STEP)
    assert first.half_life_seconds == pytest.approx(math.log(0.5) / math.log(RADIUS) * STEP)
    assert step_eigenvalues(rotating_model(), math.nan)[0].record()["angle_per_second"] is None


def test_eigenvalues_of_a_continuous_model_are_those_of_the_step_that_was_taken():
    model = LinearGaussianSSM(2, 2, transition="continuous", time_unit=0.5)
    with torch.no_grad():
        model.transition.F.copy_(torch.tensor([[-0.1, -2.0], [2.0, -0.1]]))
    found = step_eigenvalues(model.double(), 0.25)[0]
    assert found.angle == pytest.approx(1.0) and found.angle_per_second == pytest.approx(4.0)
    assert found.modulus == pytest.approx(math.exp(-0.05))


def test_chi_square_and_ks_are_scipys():
    x = torch.linspace(0.01, 40, 50, dtype=torch.float64)
    for dim in (1, 2, 8, 16):
        np.testing.assert_allclose(chi_square_cdf(x, dim), stats.chi2(dim).cdf(x.numpy()), rtol=1e-10)
    pit = torch.rand(333, generator=torch.Generator().manual_seed(0)).double() ** 1.3
    assert ks_distance(pit) == pytest.approx(stats.kstest(pit.numpy(), "uniform").statistic, abs=1e-12)


def test_motion_axes_ignore_where_a_video_is():
    generator = torch.Generator().manual_seed(0)
    z = torch.zeros(20, 30, 5, dtype=torch.float64)
    z[..., 3] = torch.randn(20, 30, generator=generator).double()
    z[..., 1] = 0.5 * torch.randn(20, 30, generator=generator).double()
    z[..., 0] = 100 * torch.randn(20, 1, generator=generator).double()
    axes, shares = motion_axes(z, torch.ones(20, 30, dtype=torch.bool))
    assert axes[3, 0] > 0.99 and axes[1, 1] > 0.99
    assert shares[0] == pytest.approx(0.8, abs=0.05) and sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_a_recurrent_model_has_no_eigenvalues(sequences, variance):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RecurrentPredictor(2, 8, (8,), variance)
    found = measure_dynamics(model, sequences, horizon=3)
    assert found.eigenvalues is None
    with torch.no_grad():
        direct = model.double().multi_step(sequences.z, 3)[2]
    error = (direct.mean - sequences.z[:, 3:])[:, 3:]
    mean = sequences.z.flatten(0, 1).mean(0)
    wanted = error.square().sum().sqrt() / (mean - sequences.z[:, 6:]).square().sum().sqrt()
    assert found.forecast.nrmse["model"][2].value == pytest.approx(wanted.item(), rel=1e-9)


def test_noise_from_the_frames_is_read_from_the_second_half(sequences):
    model = LinearGaussianSSM(2, 2, R="input").double()
    raw = torch.zeros_like(sequences.z)
    found = measure_dynamics(model, sequences._replace(z=torch.cat([sequences.z, raw], dim=-1)))
    own = LinearGaussianSSM(2, 2).double()
    own.load_state_dict(model.state_dict())
    same = measure_dynamics(own, sequences)
    assert found.calibration.mean_nis.value == pytest.approx(same.calibration.mean_nis.value, rel=1e-3)
    with pytest.raises(VidsslError, match="2 dimensions, the model 4"):
        measure_dynamics(model, sequences)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 37}, "horizon=37.*from 1 to 36"),
        ({"horizon": 0}, "horizon=0"),
        ({"horizon": 2, "lag": 3}, "predict 3 steps ahead"),
    ],
)
def test_impossible_horizons_are_refused(sequences, options, message):
    with pytest.raises(VidsslError, match=message):
        measure_dynamics(rotating_model(), sequences, **options)


def test_videos_too_short_for_the_horizon_are_named(sequences):
    valid = sequences.valid.clone()
    valid[:, 8:] = False
    with pytest.raises(VidsslError, match="long enough for 5 steps"):
        measure_dynamics(rotating_model(), sequences._replace(valid=valid), horizon=8)


def assert_picture(file: Path) -> None:
    """A PNG that decodes, of some size, with some ink and several colours."""
    with Image.open(file) as image:
        assert image.format == "PNG" and min(image.size) > 400
        pixels = np.asarray(image.convert("RGB"))
    assert 0.01 < (pixels < 250).any(-1).mean() < 0.9
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_figures_are_drawn_but_for_eigenvalues_that_are_not_there(sequences, tmp_path):
    found = replace(measure_dynamics(rotating_model(), sequences), eigenvalues=None)
    files = plot_dynamics(found, tmp_path, found)
    assert [file.name for file in files] == [
        "dynamics_trajectories.png",
        "dynamics_calibration.png",
        "dynamics_forecast.png",
    ]
    for file in files:
        assert_picture(file)


def test_labels_of_eigenvalues_keep_their_distance():
    modes = [step_eigenvalues(rotating_model(), STEP)[0]] * 3
    angles = [at for _, at in _spread(modes)]
    assert angles[0] == pytest.approx(ANGLE) and min(np.diff(angles)) >= LABEL_GAP - 1e-12


# -- from videos -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory, sprites, tiny_clip) -> Path:
    """A few steps of ldm on the rendered videos."""
    folder = tmp_path_factory.mktemp("ldm")
    data = {
        "output": str(folder / "run"),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 6, "seconds": 1.0, "size": 32, "blur_p": 0.0}],
        "model": {
            "name": f"local-dir:{tiny_clip}",
            "pretrained": f"local-dir:{tiny_clip}",
            "options": {"causal": True},
        },
        "objective": {"ldm": {"entropy": "logdet", "projector": [16, 2]}},
        "train": {"batch_size": 8, "steps": 3, "precision": "fp32"},
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(data))
    return pretrain(load_config(file))


def test_the_report_is_written_and_says_what_it_is(run, sprites, tmp_path):
    data = tmp_path / "videos"
    shutil.copytree(sprites / "val", data)
    broken = data / "growing" / "broken.mp4"
    broken.write_bytes(b"no video")
    options = EvalOptions(workers=0, device="cpu")
    result = dynamics(run, data, output=tmp_path / "report", horizon=2, options=options)
    for name in result["figures"]:
        assert_picture(tmp_path / "report" / name)
    assert sorted(result["figures"]) == [
        f"dynamics_{x}.png" for x in ("calibration", "eigenvalues", "forecast", "trajectories")
    ]
    assert json.loads((tmp_path / "report" / "dynamics.json").read_text()) == json.loads(json.dumps(result))
    assert result["data"]["videos"] == 10
    assert [Path(x["path"]).name for x in result["data"]["failed"]] == ["broken.mp4"]
    assert len(result["eigenvalues"]) == 2 and result["calibration"]["expected_nis"] == 2
    assert result["forecast"]["horizons"] == [1, 2] == result["untrained"]["forecast"]["horizons"]
    assert any("broken.mp4" in line for line in dynamics_lines(result))
    again = dynamics(run, data, horizon=2, options=options)
    assert again["forecast"] == result["forecast"] and again["figures"] == []


def test_latents_are_those_of_the_encoder_and_short_videos_end(run, sprites):
    from vidssl.data.clips import ClipSpec
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.data.views.evaluation import EvalSpec

    restored = load_run(run)
    index = VideoIndex.read(sprites / "val")
    # 12 frames a video: a clip of all of them, then one of twice as many at the same rate.
    found, failures = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(12, stride=1, size=32), workers=0
    )
    assert not failures and bool(found["x"].valid.all())
    longer, _ = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(24, stride=1, size=32), workers=0
    )
    assert longer["x"].valid.sum(1).tolist() == [12] * len(index)
    assert EvalSpec(ClipSpec(12, stride=1)).clips_per_video == 1
    seconds = found["x"].step_seconds
    steady, _ = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(12, seconds=seconds, size=32), workers=0
    )
    torch.testing.assert_close(steady["x"].z, found["x"].z)
    slower, _ = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(12, seconds=3 * seconds, size=32), workers=0
    )
    assert slower["x"].valid.sum(1).tolist() == [4] * len(index)
    assert slower["x"].step_seconds == pytest.approx(3 * seconds, rel=1e-6)
    # More frames than the video has: each counts once.
    faster, _ = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(24, seconds=seconds / 2, size=32), workers=0
    )
    assert faster["x"].valid.sum(1).tolist() == [12] * len(index)


def test_whole_videos_have_no_rate(run):
    from vidssl.evaluation.dynamics.report import step_spec

    encoder = load_run(run).student.encoder
    assert step_spec(encoder, EvalOptions()).seconds == pytest.approx(1 / 6)
    assert step_spec(encoder, EvalOptions(frames=30)).frames == 30
    assert step_spec(encoder, EvalOptions(seconds=2.0)) == step_spec(encoder, EvalOptions(frames=12))
    assert step_spec(encoder, EvalOptions(frames=4, seconds=2.0)).seconds == 0.5
    assert step_spec(encoder, EvalOptions(stride=3)).stride == 3
    with pytest.raises(VidsslError, match="whole videos have no fixed rate"):
        step_spec(encoder, EvalOptions(seconds=math.inf))
    encoder.spec["sampling"] = {"frames": 6, "seconds": None, "stride": None, "size": 32}
    with pytest.raises(VidsslError, match="no fixed rate"):
        step_spec(encoder, EvalOptions(seconds=2.0))


def test_a_missing_matplotlib_is_one_line(run, sprites, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VidsslError, match=r"vidssl\[plots\]"):
        dynamics(run, sprites / "val", output=tmp_path / "report")
    assert not (tmp_path / "report").exists()
