"""How well scripts/identifiability.py finds the true latents: R² of a linear read-out, and what it could be at most."""

from __future__ import annotations

from typing import Any

import torch
from identifiability_data import (
    Data,
    Sample,
    published_circle,
    published_circle_path,
    published_wobbly_path,
)
from torch import Generator, Tensor, nn

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.objectives.ldm.objective import LDM
from vidssl.synthetic import sequences as toy
from vidssl.synthetic.blobs import FRAME_SIZE, HALF_WIDTH, blob_frames, with_noise

ANGLES = 180  # of the grid on the circle


@torch.inference_mode()
def evaluate(
    encoder: nn.Module, objective: LDM, data: Data, angles: tuple[float, ...] = ()
) -> dict[str, Any]:
    """R² from what the predictor believes (`r2`; its filtered state), from the encoder alone (`r2_z`), and for a recurrent
    predictor, whose `r2` is that of the encoder, from both the latents and what it predicted for them (`r2_both`).

    The same read-out is scored on the published test videos: `r2_video` on the one whose R² was published, `r2_videos`
    on all of them.
    """
    (x_fit, true_fit), (x, true) = data.fit, data.held_out
    found_fit, found = encode(encoder, objective, x_fit), encode(encoder, objective, x)
    scores: dict[str, Any] = {
        "r2": r2(found_fit[0], true_fit, found[0], true),
        "r2_z": r2(found_fit[1], true_fit, found[1], true),
        "std_z": float(found[1].flatten(0, 1).std(0).mean()),
    }
    if data.published is not None:
        frames, positions = data.published
        seen, one = encode(encoder, objective, frames)[0], slice(data.video, data.video + 1)
        scores["r2_video"] = r2(found_fit[0], true_fit, seen[one], positions[one])
        scores["r2_videos"] = r2(found_fit[0], true_fit, seen, positions)
    model = objective.model
    if isinstance(model, RecurrentPredictor):
        both_fit, both = (torch.cat([z[:, 1:], model(z).mean], dim=-1) for z in (found_fit[1], found[1]))
        scores["r2_both"] = r2(both_fit, true_fit[:, 1:], both, true[:, 1:])
    if isinstance(model, LinearGaussianSSM):
        scores["angles"] = [nearest_angle(model.eigenvalues(), angle) for angle in angles]
        if data.transition is not None:
            scores |= dynamics_scores(model, data.transition, found[1], true)
    return scores


def encode(encoder: nn.Module, objective: LDM, x: Tensor) -> Sample:
    """(N, T, n) states and (N, T, m) latents; the same for a recurrent predictor, which has no belief about now."""
    rows = torch.cat([encoder(part) for part in x.split(200)])
    z, raw = rows[..., : objective.dim], rows[..., objective.dim :]
    if isinstance(objective.model, LinearGaussianSSM):
        noise = input_noise(raw) if objective.noise_from_input else None
        return objective.model.filter(z, noise).filt_mean, z
    return z, z


def r2(found_fit: Tensor, true_fit: Tensor, found: Tensor, true: Tensor) -> float:
    """Coefficient of determination on held-out rows, the mean over factors; least squares with intercept, float64."""
    return explained(with_intercept(found) @ least_squares(found_fit, true_fit), true)


def explained(predicted: Tensor, true: Tensor) -> float:
    """1 - squared error over the variance of the truth, the mean over factors."""
    truth = true.flatten(0, -2).double()
    residual = (truth - predicted.flatten(0, -2)).square().sum(0)
    return float((1 - residual / (truth - truth.mean(0)).square().sum(0)).mean())


def with_intercept(x: Tensor) -> Tensor:
    rows = x.flatten(0, -2).double()
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """(D + 1, d) so that [x, 1] W is nearest to y; of the smallest norm where x has collapsed."""
    return torch.linalg.lstsq(with_intercept(x), y.flatten(0, -2).double(), driver="gelsd").solution


def nearest_angle(eigenvalues: Tensor, angle: float) -> float:
    """Of the eigenvalues, the angle nearest to a true one, in radians per step."""
    angles = eigenvalues.angle().abs()
    return float(angles[(angles - angle).abs().argmin()])


def dynamics_scores(model: LinearGaussianSSM, A: Tensor, z: Tensor, true: Tensor) -> dict[str, float]:
    """How near the learned transition is to the true one, in the coordinates of either.

    lds_error is ||A - L^-1 Â L||_F with z = L x + b; dynamics_r2 compares the learned step of z with the true step
    of what z is mapped onto, mapped back.
    """
    matrices = model.matrices()
    learned, offset = matrices.A.double(), matrices.b.double() if matrices.b is not None else 0.0
    L = least_squares(true, z)[:-1].T
    error = torch.linalg.matrix_norm(A.double() - torch.linalg.solve(L, learned @ L))
    rows = z.flatten(0, 1).double()
    believed = rows @ learned.T + offset
    forward, back = least_squares(z, true), least_squares(true, z)
    moved = with_intercept(with_intercept(with_intercept(z) @ forward)[:, :-1] @ A.double().T) @ back
    residual = (believed - moved).square().sum(0) / (believed - believed.mean(0)).square().sum(0)
    return {"lds_error": float(error), "dynamics_r2": float((1 - residual).mean())}


# -- ceilings ----------------------------------------------------------------------------------------------------------


def ceilings() -> dict[str, dict[str, float]]:
    """By task: what no read-out of its kind exceeds, on fresh sequences (`r2`) and on the published videos."""
    return {"t3": circle_ceiling(), "t4": wobbly_ceiling()}


def wobbly_ceiling(sequences: int = 4000) -> dict[str, float]:
    """Of latents that are affine in what a frame shows: the position, or the edge of the frame where it lies outside."""
    g = Generator().manual_seed(1000)
    fit, fresh = toy.wobbly(sequences, generator=g).latents, toy.wobbly(sequences, generator=g).latents
    videos = published_wobbly_path()
    return {
        name: r2(shown(fit), fit, shown(path), path)
        for name, path in (("r2", fresh), ("r2_videos", videos), ("r2_video", videos[:1]))
    }


def shown(position: Tensor) -> Tensor:
    """Where `blob_frames` draws the centre of a blob."""
    last = HALF_WIDTH - 2 * HALF_WIDTH / FRAME_SIZE
    return position.clamp(-HALF_WIDTH, last)


def circle_ceiling(sequences: int = 64) -> dict[str, float]:
    """Of whoever sees the frames up to now, and knows the motion, the blob, and how noisy every frame is.

    That is the mean of the exact filter, here on a grid of angles. Nothing causal has a higher R² in expectation.
    """
    g = Generator().manual_seed(1000)
    path, variance = toy.circle_path(sequences, generator=g)
    fresh = circle_filter(with_noise(blob_frames(path), variance[..., None, None], g), variance)
    videos, variances, _ = published_circle_path()
    seen = circle_filter(published_circle()[0].unflatten(-1, (FRAME_SIZE, FRAME_SIZE)), variances)
    return {
        "r2": explained(fresh, path),
        "r2_videos": explained(seen, videos),
        "r2_video": explained(seen[2:3], videos[2:3]),
    }


def circle_filter(frames: Tensor, variance: Tensor) -> Tensor:
    """(N, T, 2) expected positions given the frames (N, T, H, W) so far and the variances (N, T) of their noise."""
    angle = 2 * torch.pi * torch.arange(ANGLES, dtype=torch.float64) / ANGLES
    points = torch.stack([angle.cos(), angle.sin()], dim=-1)
    squares = (frames.double()[:, :, None] - blob_frames(points)).square().flatten(3).sum(-1)
    # A frame without noise gives the position away; a variance of 1e-4 is as good on this grid.
    likelihood = (-0.5 * squares / variance.double().clamp_min(1e-4)[..., None]).softmax(dim=-1)
    move = circle_transition(angle)
    belief = torch.zeros(len(frames), ANGLES, dtype=torch.float64)
    belief[:, 0] = 1  # every sequence starts at (1, 0)
    means = []
    for t in range(frames.shape[1]):
        belief = belief if t == 0 else belief @ move
        belief = belief * likelihood[:, t]
        belief = belief / belief.sum(-1, keepdim=True).clamp_min(1e-300)
        means.append(belief @ points)
    return torch.stack(means, dim=1)


def circle_transition(angle: Tensor, variance: float = 0.05) -> Tensor:
    """(ANGLES, ANGLES) to each angle from each: a step of `CIRCLE_STEP`, a Gaussian kick, and back onto the circle.

    With c and s the cosine and sine of the turn and σ² the variance, the density of the direction of (1, 0) + kick is
    exp(-1 / 2σ²) / 2π · (1 + (c/σ) Φ(c/σ) / φ(c/σ)) (Mardia & Jupp 2000, projected normal distribution, eq. 3.5.48).
    """
    turn = angle[None, :] - angle[:, None] - toy.CIRCLE_STEP
    c = turn.cos() / variance**0.5
    normal = torch.distributions.Normal(0.0, 1.0)
    density = 1 + c * normal.cdf(c) / normal.log_prob(c).exp()
    return density / density.sum(-1, keepdim=True)
