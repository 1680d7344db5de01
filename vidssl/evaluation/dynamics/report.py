"""The report on what an `ldm` run learned of motion: one call from a run and a folder of videos to numbers and figures.

>>> result = dynamics("runs/ldm_small", "videos/val", output="report")
>>> print("\\n".join(dynamics_lines(result)))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.devices import find_device
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.environment import environment
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.dynamics.consistency import compare_latents
from vidssl.evaluation.dynamics.latents import StepSpec, encode_sequences
from vidssl.evaluation.dynamics.measure import CONTEXT, Dynamics, Model, longest_horizon, measure_dynamics
from vidssl.evaluation.dynamics.plots import check_matplotlib, plot_dynamics
from vidssl.evaluation.report import data_record, result_file
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions
from vidssl.files import write_json
from vidssl.models.encoder import VideoEncoder
from vidssl.models.student import Student
from vidssl.objectives.ldm.objective import LDM
from vidssl.objectives.leaks import leaks
from vidssl.runs import Restored, Weights, load_run, objective_name

# Share of the latents' variance from which on the clock is worth a word.
CLOCK_SHARE = 0.2


def dynamics(
    checkpoint: str | Path,
    data: str | Path,
    *,
    output: str | Path | None = None,
    horizon: int | None = None,
    objective: str | None = None,
    weights: Weights = "teacher",
    context: int = CONTEXT,
    seed: int = 0,
    plots: bool = True,
    against: str | Path | None = None,
    options: EvalOptions | None = None,
) -> dict[str, Any]:
    """Look at the motion model of a run on videos it was not trained on.

    One clip of every video, from its middle, at the rate of the training: `options.frames` makes it longer at that rate
    (default: as trained); `options.seconds` together with frames, or `options.stride`, changes the rate. A video that
    ends early is used as far as it goes; one that cannot be read, or whose latents are not finite, is reported and left out. `options.clips` and
    `crops` are not used.

    Args:
        checkpoint: run folder, or one of its checkpoints.
        data: folder of videos or CSV; labels are not used.
        output: folder for `dynamics.json` and the figures; None writes nothing.
        horizon: longest forecast in steps; None: 8, or as many as the clips allow, whose repeated frames do not count.
        objective: which one, where the run trained several of the kind.
        weights: of the encoder and its head, "teacher" or "student".
        context: latents seen before the first forecast that counts.
        seed: of the resampling of videos.
        plots: draw the figures.
        against: another run with such an objective, as of another seed: how far its latents of the same clips are an affine
            map of these.

    Returns:
        JSON-able result; see docs/dynamics.md.

    Raises:
        VidsslError: for a run without this objective, one to compare with that normalises clips otherwise or has another
            number of latents in a clip, videos that are all unreadable or too short, a device that is not
            there, or missing matplotlib.
    """
    options = options or EvalOptions()
    device = find_device(options.device)
    drawn = plots and output is not None
    if drawn:
        check_matplotlib()
    name = objective_name(checkpoint, "ldm", objective)
    chosen: tuple[Weights, ...] = (weights, "initial")
    runs: dict[str, Restored] = {key: load_run(checkpoint, key, [name]) for key in chosen}
    heads = dict.fromkeys(runs, name)
    if against is not None:
        heads["against"] = objective_name(against, "ldm")
        runs["against"] = load_run(against, weights, [heads["against"]])
    models = {key: cast(LDM, dict(run.objective.items())[heads[key]]) for key, run in runs.items()}
    students = {key: (run.student.to(device), heads[key]) for key, run in runs.items()}
    student = runs[weights].student
    spec, index = step_spec(student.encoder, options), VideoIndex.read(data, options.missing)
    sequences, failures = encode_sequences(students, index, spec, options, device)
    if horizon is None:
        horizon = max(min(8, longest_horizon(sequences[weights].valid, context)), 1)
    measured = {}
    for key in chosen:
        ldm = models[key]
        z, lag = sequences[key], min(ldm.weights)
        if key == "initial" and not ldm.calibrated:
            ldm.model.calibrate_(z.z[..., : ldm.dim], z.valid)  # as its first step would have done
        longest = max(horizon, lag)
        measured[key] = measure_dynamics(ldm.model, z, longest, lag=lag, context=context, seed=seed)
    found, untrained = measured[weights], measured["initial"]
    step = found.sequences.step_seconds
    notes = leaks(student, runs[weights].objective) + _sampling_notes(student, spec) + _clock_notes(found)
    result = {
        "task": "dynamics",
        "checkpoint": str(checkpoint),
        "objective": name,
        "weights": weights,
        "model": _model_record(models[weights].model),
        "encoder": {k: v for k, v in student.encoder.spec.items() if k != "model_cfg"},
        "sampling": {
            "frames": spec.frames,
            "frame_seconds": spec.seconds,
            "stride": spec.stride,
            "latents": found.z.shape[1],
            "step_seconds": None if math.isnan(step) else step,
            "size": spec.size,
            "resize": spec.resize,
        },
        "decoder": options.backend,
        "data": data_record(data, index, failures),
        "seed": seed,
        "notes": notes,
        "calibration": found.calibration.record(),
        "whiteness": None if found.whiteness is None else found.whiteness.record(),
        "consistency": None,
        "forecast": {**found.forecast.record(), "context": context},
        "untrained": {"calibration": untrained.calibration.record(), "forecast": untrained.forecast.record()},
        "eigenvalues": None if found.eigenvalues is None else [x.record() for x in found.eigenvalues],
        "figures": [],
        "environment": {**environment(), "processes": distributed.world_size()},
    }
    if against is not None:
        pair = [
            sequences[key]._replace(z=sequences[key].z[..., : models[key].dim])
            for key in (weights, "against")
        ]
        result["consistency"] = {"checkpoint": str(against), **compare_latents(*pair)}
    result = sealed(result)
    if output is not None and distributed.rank() == 0:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        if drawn:
            result["figures"] = [file.name for file in plot_dynamics(found, folder, untrained)]
        write_json(folder / "dynamics.json", result)
    return result


def result_folder(checkpoint: str | Path, data: Path, *, options: EvalOptions, **chosen: Any) -> Path:
    """Where `dynamics` writes unless told otherwise; other videos or arguments lead to another folder.

    Args:
        chosen: arguments of `dynamics`.
    """
    shown = {key: value for key, value in asdict(options).items() if not key.startswith("cache")}
    record = {"digest": VideoIndex.read(data, options.missing).digest, "options": shown, **chosen}
    return result_file(Path(checkpoint), "dynamics", data, record).with_suffix("")


def dynamics_lines(result: Mapping[str, Any]) -> list[str]:
    """What the command prints."""
    calibration, forecast = result["calibration"], result["forecast"]
    sampling, data = result["sampling"], result["data"]
    m = calibration["expected_nis"]
    step = "unknown" if sampling["step_seconds"] is None else f"{sampling['step_seconds']:.3g}"
    lines = [
        f"{counted(data['videos'] - len(data['failed']), 'video')}, up to {counted(sampling['latents'], 'latent')} of each, "
        f"{step} s apart; {result['model']['predictor']} model of {m} dimensions",
        f"NIS {_estimate(calibration['mean_nis'])}, {m} where the model is right: covariances would be right on average at "
        f"{_estimate(calibration['covariance_scale'])} times their size; KS distance {calibration['ks_distance']:.3f}; "
        "ellipses cover "
        + ", ".join(f"{_estimate(x, 100)} of {p} %" for p, x in calibration["coverage"].items()),
        *_whiteness_lines(result["whiteness"]),
        *_consistency_lines(result["consistency"]),
        "forecast error as a share of that of the last latent (persistence), of the best average of the latents so far "
        "(smoothing), and of other videos' latents at the same place of the clip (clock):",
    ]
    for i in _shown(forecast["horizons"]):
        seconds = "" if forecast["seconds"] is None else f" ({forecast['seconds'][i]:.2f} s)"
        lines.append(
            f"  {forecast['horizons'][i]:3d} ahead{seconds}: {_estimate(forecast['ratio_to_persistence'][i])} "
            f"of persistence, {_estimate(forecast['ratio_to_smoothing'][i])} of smoothing, "
            f"{_estimate(forecast['ratio_to_clock'][i])} of clock; untrained "
            f"{_estimate(result['untrained']['forecast']['ratio_to_persistence'][i])} of persistence"
        )
    lines += result["notes"]
    lines += data["remarks"]
    return lines + [f"left out: {x['path']}: {x['reason']}" for x in data["failed"]]


def _whiteness_lines(whiteness: Mapping[str, Any] | None) -> list[str]:
    if whiteness is None:
        return []
    correlation, distance = _estimate(whiteness["autocorrelation"][0]), whiteness["distances"][0]
    apart = "one step" if distance == 1 else f"{distance} steps"
    return [
        f"errors {apart} apart correlate by {correlation}, 0 where nothing is left to predict; test of no correlation: "
        f"χ² {whiteness['statistic']:.0f} of {whiteness['degrees']} degrees, p = {whiteness['p']:.2g}"
    ]


def _consistency_lines(consistency: Mapping[str, Any] | None) -> list[str]:
    if consistency is None:
        return []
    return [
        f"an affine map of these latents explains {100 * consistency['to_second']:.1f} % of the variance of those of "
        f"{consistency['checkpoint']} on other videos, and back {100 * consistency['to_first']:.1f} %; CKA {consistency['cka']:.3f}"
    ]


def step_spec(encoder: VideoEncoder, options: EvalOptions) -> StepSpec:
    """The frames of a clip and their distance, from what the user wants and what the encoder was trained with.

    Raises:
        VidsslError: when the encoder was trained on whole videos, whose rate differs from one to the next, and the user
            names none.
    """
    trained: dict[str, Any] = encoder.spec.get("sampling", {})
    frames = options.frames or encoder.usual_frames
    size = options.size or trained.get("size") or encoder.image_size
    stride, seconds = options.stride, None
    if options.seconds == math.inf:
        raise VidsslError("seconds: whole videos have no fixed rate; give --frames for longer clips")
    if options.seconds is not None and options.frames is not None:
        seconds = options.seconds / frames
    elif stride is None:
        stride = trained.get("stride")
        if stride is None and trained.get("seconds"):
            seconds = trained["seconds"] / trained["frames"]
        if stride is None and seconds is None:
            raise VidsslError(
                "the encoder was trained on whole videos, at no fixed rate; give --frames and --seconds, or --stride"
            )
        if options.seconds is not None:
            if seconds is None:
                raise VidsslError(
                    f"seconds={options.seconds}: give frames as well, the training had a stride"
                )
            frames = max(round(options.seconds / seconds), 2)
    return StepSpec(frames, seconds, stride, size, options.resize)


def _clock_notes(found: Dynamics) -> list[str]:
    """What to say of latents that tell which frame of the clip they are."""
    errors = found.forecast.nrmse["clock"]
    explained = 1 - sum(x.value**2 for x in errors) / len(errors)
    if explained < CLOCK_SHARE:
        return []
    return [
        f"{100 * explained:.0f} % of the variance of the latents is which frame of the clip they show: the encoder is told, "
        "and the model predicts the clock; train with model.temporal=none, or with pool=per_step and many videos a step"
    ]


def _sampling_notes(student: Student, spec: StepSpec) -> list[str]:
    """What to say of clips that are not those of the training."""
    trained: dict[str, Any] = student.encoder.spec.get("sampling", {})
    notes, frames = [], trained.get("frames")
    alone = student.encoder.sees == "frame" or student.encoder.chunk_frames is not None
    if frames and spec.frames != frames and not alone:
        notes.append(
            f"clips of {counted(spec.frames, 'frame')}, trained on {frames}: an encoder that looks along time reads them otherwise"
        )
    if spec.seconds is not None and trained.get("seconds") and frames:
        step = trained["seconds"] / frames
        if abs(spec.seconds / step - 1) > 0.01:
            notes.append(
                f"frames {spec.seconds:.3g} s apart, trained on {step:.3g} s: only a continuous model knows the difference"
            )
    return notes


def _model_record(model: Model) -> dict[str, Any]:
    record: dict[str, Any] = {"predictor": "rnn", "latent_dim": model.latent_dim}
    if isinstance(model, RecurrentPredictor):
        return {**record, "state_dim": None, "spectral_radius": None}
    radius = model.spectral_radius()
    return {**record, "predictor": "kalman", "state_dim": model.state_dim, "spectral_radius": radius}


def _shown(horizons: Sequence[int]) -> list[int]:
    """Positions of 1, 2, 4, 8, … and the last."""
    return [i for i, h in enumerate(horizons) if h & (h - 1) == 0 or i == len(horizons) - 1]


def _estimate(record: Mapping[str, Any], scale: float = 1.0) -> str:
    low, high = record["interval"]
    digits = 1 if scale > 1 else 2
    return f"{scale * record['value']:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
