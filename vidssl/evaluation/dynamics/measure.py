"""What a model of motion is worth: its forecasts beside those that know no motion, and whether its doubts are right.

    calibration    with NIS_t = e_tᵀ S_t^{-1} e_t, e_t the error of a prediction and S_t its stated covariance: a model that
                   is right has NIS ~ χ²_m, so the mean is m, the 95 % ellipse covers 95 %, and F(NIS) is uniform
                   (Bar-Shalom, Li & Kirubarajan 2001, section 5.4)
    forecasts      root mean squared error h steps ahead, in units of that of the mean latent, beside that of the last
                   frame's latent and of an exponential average of all latents so far, drawn towards the mean
    eigenvalues    of A: |λ| is what is left after a step, arg λ by how much it turns

Two baselines know no motion and still beat the last latent. The average does wherever latents are noisy or forgotten;
its factor, and how far it is drawn, are chosen for each horizon on the very latents it is measured on, which favours
it. The clock does where latents say which
frame of the clip they are, as those of an encoder that is told so may: it is the mean of the other videos' latents at
the same place of the clip. A model that does not beat it has found the clip's own clock, not how anything moves.

    >>> dynamics = measure_dynamics(objective.model, sequences, horizon=8)
    >>> dynamics.forecast.record()["ratio_to_persistence"]
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.latents import LatentSequences

Model = LinearGaussianSSM | RecurrentPredictor
Interval = tuple[float, float]
COVERAGES = (0.5, 0.9, 0.95)
BASELINES = ("persistence", "smoothing", "clock", "mean")
# Weights of the newest latent in the exponential average; 1 is the last latent itself.
SMOOTHING_FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)
DRAWS = 2000
# Latents seen before the first forecast that counts.
CONTEXT = 4


class Prediction(NamedTuple):
    """Gaussians h steps ahead: mean (N, T - h, m) and cov (N, T - h, m, m); entry t is of latent t + h, made at t."""

    mean: Tensor
    cov: Tensor


class Estimate(NamedTuple):
    """A number and its 95 % interval from resampled videos."""

    value: float
    interval: Interval

    def record(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval)}


@dataclass(frozen=True)
class Calibration:
    """Of the predictions `horizon` steps ahead.

    Attributes:
        nis: (P,) of all predictions that count, `dim` is what it should be on average.
        pit: (P,) its value under the χ² distribution function, uniform on [0, 1] for a model that is right.
        ks: largest distance of the distribution of `pit` from the uniform one.
        coverage: share of latents inside the ellipse of each probability in `COVERAGES`.
        log_likelihood: nats of a prediction, per dimension.
    """

    horizon: int
    dim: int
    nis: Tensor
    pit: Tensor
    mean_nis: Estimate
    ks: float
    coverage: dict[float, Estimate]
    log_likelihood: Estimate

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "horizon": self.horizon,
            "predictions": len(self.nis),
            "expected_nis": self.dim,
            "mean_nis": self.mean_nis.record(),
            "ks_distance": self.ks,
            "coverage": {f"{100 * p:.0f}": x.record() for p, x in self.coverage.items()},
            "log_likelihood_per_dim": self.log_likelihood.record(),
        }


@dataclass(frozen=True)
class ForecastErrors:
    """Of forecasts 1 … H steps ahead, every entry one for each horizon.

    Attributes:
        pairs: number of forecasts.
        nrmse: by "model" and `BASELINES`: RMSE over that of the mean latent.
        ratio: of the model's RMSE to that of each baseline.
        smoothing, kept: factor of the exponential average s, and the share c of it that is kept: μ + c (s - μ).
    """

    step_seconds: float
    pairs: list[int]
    nrmse: dict[str, list[Estimate]]
    ratio: dict[str, list[Estimate]]
    smoothing: list[float]
    kept: list[float]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        horizons = range(1, len(self.pairs) + 1)
        seconds = None if math.isnan(self.step_seconds) else [h * self.step_seconds for h in horizons]
        return {
            "horizons": list(horizons),
            "seconds": seconds,
            "pairs": self.pairs,
            "nrmse": {name: [x.record() for x in row] for name, row in self.nrmse.items()},
            **{f"ratio_to_{name}": [x.record() for x in row] for name, row in self.ratio.items()},
            "smoothing_factor": self.smoothing,
            "smoothing_kept": self.kept,
        }


class Eigenvalue(NamedTuple):
    """Of A over one step; angles and times of a mode that turns or decays, inf where it never does."""

    value: complex
    modulus: float
    angle: float  # radians a step
    angle_per_second: float  # radians; nan without times
    period_seconds: float
    half_life_seconds: float

    def record(self) -> dict[str, Any]:
        """As JSON, null for what has no number."""
        numbers = {key: x for key, x in self._asdict().items() if key != "value"}
        finite = {key: x if math.isfinite(x) else None for key, x in numbers.items()}
        return {"real": self.value.real, "imag": self.value.imag, **finite}


@dataclass(frozen=True)
class Dynamics:
    """Everything that the report shows.

    Attributes:
        z: (N, T, m) latents; `sequences.z` may hold their noise as well.
        predictions: 1 … H steps ahead.
        eigenvalues: largest modulus first; None for a model without any.
    """

    sequences: LatentSequences
    z: Tensor
    predictions: list[Prediction]
    calibration: Calibration
    forecast: ForecastErrors
    eigenvalues: list[Eigenvalue] | None


@torch.no_grad()
def measure_dynamics(
    model: Model,
    sequences: LatentSequences,
    horizon: int = 8,
    *,
    lag: int = 1,
    context: int = CONTEXT,
    seed: int = 0,
) -> Dynamics:
    """Judge a model on sequences it was not fitted to.

    Args:
        model: of m dimensions.
        sequences: of m dimensions, or of 2m where the second half says how noisy a latent is (R="input").
        horizon: H, the longest forecast.
        lag: the forecast whose calibration is looked at: the nearest that the model was trained for.
        context: latents seen before the first forecast that counts.
        seed: of the resampling of videos.

    Raises:
        VidsslError: for a horizon or context that the sequences are too short for, or of another number of dimensions.
    """
    steps, m = sequences.z.shape[1], model.latent_dim
    if horizon < lag:
        raise VidsslError(f"horizon={horizon}: the model was trained to predict {lag} steps ahead")
    if not 1 <= horizon <= steps - context:
        raise VidsslError(
            f"horizon={horizon}: with {steps} latents of a video, {context} of them seen first, it must be from 1 to "
            f"{steps - context}"
        )
    noisy = isinstance(model, LinearGaussianSSM) and model.R == "input"
    if sequences.z.shape[2] != m * (1 + noisy):
        raise VidsslError(f"latents have {sequences.z.shape[2]} dimensions, the model {m * (1 + noisy)}")
    model = copy.deepcopy(model).double().cpu().eval()
    z = sequences.z[..., :m]
    R = input_noise(sequences.z[..., m:]) if noisy else None
    predictions = predict_ahead(model, z, sequences.valid, sequences.times, horizon, R)
    if not all(bool(x.mean.isfinite().all()) for x in predictions):
        raise VidsslError("the model's predictions are not finite")
    counted = [_counted(sequences.valid, h, context) for h in range(1, horizon + 1)]
    for h, pairs in enumerate(counted, start=1):
        if not bool(pairs.any()):
            raise VidsslError(
                f"horizon={horizon}: no video is long enough for {h} steps after {context} seen"
            )
    resamples = _resamples(len(z), torch.Generator().manual_seed(seed))
    calibration = _calibrate(z, predictions[lag - 1], counted[lag - 1], lag, resamples)
    forecast = _forecast_errors(sequences, z, predictions, counted, resamples)
    eigenvalues = None
    if isinstance(model, LinearGaussianSSM):
        eigenvalues = step_eigenvalues(model, sequences.step_seconds)
    return Dynamics(sequences, z, predictions, calibration, forecast, eigenvalues)


def predict_ahead(
    model: Model, z: Tensor, valid: Tensor, times: Tensor, horizon: int, R: Tensor | None = None
) -> list[Prediction]:
    """Forecasts from every step, 1, 2, … `horizon` ahead.

    Args:
        z: (N, T, m) latents. valid: (N, T) bool, which of them the model may see. times: (N, T) seconds.
        R: (N, T, m, m) noise of the latents, where the model does not hold it.
    """
    if isinstance(model, RecurrentPredictor):
        ahead = model.multi_step(z, horizon, valid)
        return [Prediction(x.mean, x.cov.expand(*x.mean.shape, x.mean.shape[-1])) for x in ahead]
    seconds = times if model.continuous else None
    result = model.filter(z, R, None if bool(valid.all()) else valid[..., None], seconds)
    forecasts = model.multi_step(result, horizon, R, seconds)
    return [
        Prediction(x.obs_mean, x.obs_cov.expand(*x.obs_mean.shape, x.obs_mean.shape[-1])) for x in forecasts
    ]


def step_eigenvalues(model: LinearGaussianSSM, step_seconds: float) -> list[Eigenvalue]:
    """Eigenvalues of A over a step of the sequences, largest modulus first, a pair's positive angle before its negative.

    Args:
        step_seconds: of one step; nan when not known. With a continuous model A is that of this time (of one time unit
            where it is not known).
    """
    power = 1.0
    if model.continuous and not math.isnan(step_seconds):
        power = step_seconds / model.time_unit
    A = model.transition().double()
    if power != 1.0:
        A = torch.linalg.matrix_exp(model.transition.rate().double() * power)
    found = []
    for value in torch.linalg.eigvals(A.detach().cpu()).tolist():
        modulus, angle = abs(value), math.atan2(value.imag, value.real)
        decay = math.log(modulus) if modulus > 0 else -math.inf
        found.append(
            Eigenvalue(
                value,
                modulus,
                angle,
                angle / step_seconds,
                2 * math.pi / abs(angle) * step_seconds if abs(angle) > 1e-9 else math.inf,
                math.log(0.5) / decay * step_seconds if decay < -1e-9 else math.inf,
            )
        )
    return sorted(found, key=lambda x: (-round(x.modulus, 9), -x.angle))


def chi_square_cdf(x: Tensor, dim: int) -> Tensor:
    """Probability that a χ² variable of `dim` degrees of freedom is below x."""
    probability: Tensor = torch.special.gammainc(torch.full_like(x, dim / 2), x / 2)
    return probability


def ks_distance(pit: Tensor) -> float:
    """Largest distance of the empirical distribution of (P,) numbers in [0, 1] from the uniform one (Kolmogorov 1933)."""
    ordered = pit.sort().values
    ranks = torch.arange(1, len(pit) + 1, dtype=ordered.dtype)
    above, below = ranks / len(pit) - ordered, ordered - (ranks - 1) / len(pit)
    return float(torch.maximum(above, below).max())


def smoothed(z: Tensor, valid: Tensor, factor: float) -> Tensor:
    """(N, T, m) exponential average s_t = s_{t-1} + factor (z_t - s_{t-1}) of the latents that are there, from the first."""
    state, started, states = torch.zeros_like(z[:, 0]), torch.zeros_like(valid[:, :1]), []
    for latent, there in zip(z.unbind(1), valid[..., None].unbind(1), strict=True):
        moved = torch.where(started, state + factor * (latent - state), latent)
        state, started = torch.where(there, moved, state), started | there
        states.append(state)
    return torch.stack(states, dim=1)


def clock_means(z: Tensor, valid: Tensor) -> Tensor:
    """(N, T, m) mean of the latents at the same step of all other videos; of all latents where no other gets so far."""
    there = valid[..., None].double()
    kept = torch.where(valid[..., None], z, 0)
    others = there.sum(0) - there
    return torch.where(others > 0, (kept.sum(0) - kept) / others.clamp_min(1), z[valid].mean(0))


# -- parts -------------------------------------------------------------------------------------------------------------


def _counted(valid: Tensor, h: int, context: int) -> Tensor:
    """(N, T - h) bool, which forecasts count: both ends are there, and `context` latents up to the first."""
    seen = valid.cumsum(dim=1) >= context
    return (valid & seen)[:, :-h] & valid[:, h:]


def _resamples(videos: int, generator: torch.Generator) -> Tensor:
    """(DRAWS, N) how often each video is drawn in a resample of N videos (Efron 1979)."""
    drawn = torch.randint(videos, (DRAWS, videos), generator=generator)
    weights = torch.zeros(DRAWS, videos, dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones_like(weights))


def _ratio(above: Tensor, below: Tensor, resamples: Tensor, root: bool = False) -> Estimate:
    """Σ above / Σ below over videos (N,), with its interval; its square root where wanted."""
    value = above.sum() / below.sum()
    draws = (resamples @ above) / (resamples @ below)
    draws = draws[draws.isfinite()]
    if root:
        value, draws = value.sqrt(), draws.sqrt()
    low, high = (float(draws.quantile(p)) for p in (0.025, 0.975))
    return Estimate(float(value), (low, high))


def _calibrate(z: Tensor, prediction: Prediction, counts: Tensor, lag: int, resamples: Tensor) -> Calibration:
    m = z.shape[2]
    error = (z[:, lag:] - prediction.mean)[..., None]
    factor = torch.linalg.cholesky(prediction.cov)
    nis = torch.linalg.solve_triangular(factor, error, upper=False).square().sum((-2, -1))
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_likelihood = -0.5 * (nis + log_det + m * math.log(2 * math.pi)) / m
    pit = chi_square_cdf(nis, m)

    def mean(x: Tensor) -> Estimate:
        return _ratio(torch.where(counts, x, 0).sum(1), counts.sum(1).double(), resamples)

    return Calibration(
        horizon=lag,
        dim=m,
        nis=nis[counts],
        pit=pit[counts],
        mean_nis=mean(nis),
        ks=ks_distance(pit[counts]),
        coverage={p: mean((pit <= p).double()) for p in COVERAGES},
        log_likelihood=mean(log_likelihood),
    )


def _forecast_errors(
    sequences: LatentSequences,
    z: Tensor,
    predictions: list[Prediction],
    counted: list[Tensor],
    resamples: Tensor,
) -> ForecastErrors:
    average, clock = z[sequences.valid].mean(dim=0), clock_means(z, sequences.valid)
    averages = {factor: smoothed(z, sequences.valid, factor) for factor in SMOOTHING_FACTORS}
    nrmse: dict[str, list[Estimate]] = {name: [] for name in ("model", *BASELINES)}
    ratio: dict[str, list[Estimate]] = {name: [] for name in BASELINES}
    factors, shares = [], []
    for h, (prediction, counts) in enumerate(zip(predictions, counted, strict=True), start=1):
        truth = z[:, h:]

        def squared(guess: Tensor, truth: Tensor = truth, counts: Tensor = counts) -> Tensor:
            """(N,) summed over the forecasts of a video."""
            return torch.where(counts, (guess - truth).square().sum(-1), 0).sum(1)

        drawn = {factor: _drawn(s[:, :-h], truth, average, counts) for factor, s in averages.items()}
        smoothing = {factor: squared(guess) for factor, (guess, _) in drawn.items()}
        best = min(smoothing, key=lambda factor: float(smoothing[factor].sum()))
        factors.append(best)
        shares.append(drawn[best][1])
        errors = {
            "model": squared(prediction.mean),
            "persistence": squared(averages[1.0][:, :-h]),
            "smoothing": smoothing[best],
            "clock": squared(clock[:, h:]),
            "mean": squared(average.expand_as(truth)),
        }
        for name, row in nrmse.items():
            row.append(_ratio(errors[name], errors["mean"], resamples, root=True))
        for name, row in ratio.items():
            row.append(_ratio(errors["model"], errors[name], resamples, root=True))
    pairs = [int(counts.sum()) for counts in counted]
    return ForecastErrors(sequences.step_seconds, pairs, nrmse, ratio, factors, shares)


def _drawn(guess: Tensor, truth: Tensor, average: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """The guess drawn towards the average by the share, in [0, 1], that leaves the least error; and what is kept."""
    from_average, wanted = (x[counts] - average for x in (guess, truth))
    kept = float((from_average * wanted).sum() / from_average.square().sum().clamp_min(1e-300))
    kept = min(max(kept, 0.0), 1.0)
    return average + kept * (guess - average), kept
