"""What the CLIP will say next: a linear state-space model of how it places a moving shape, frame by frame, and its forecasts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.models.encoder import VideoEncoder
from vidssl.models.load import load_encoder
from vidssl.synthetic.motions import MOTION_CLASSES
from vidssl.synthetic.sprites import Sprite, render_clip

TRAIN, TEST = 96, 48  # clips of one moving shape each, without a wrap round the frame's edges
FRAMES, SEEN, SIZE = 16, 8, 32
# A frame's latents are how much more its features agree with the second words of a pair than with the first.
PLACES = (
    ("a shape, near the left.", "a shape, near the right."),
    ("a shape, near the top.", "a shape, near the bottom."),
)
STATES = 2 * len(PLACES)  # the places and their velocities
STEPS, LR = 200, 0.05
MOVING = ("moving_right", "moving_left", "moving_up", "moving_down")


@dataclass(frozen=True)
class FrameForecast:
    """Errors, and one test clip to draw.

    Attributes:
        model, persistence: (H,) root mean square errors of the forecasts 1 … H frames ahead, and of the last frame seen.
        truth: (T,) first latent of the clip's frames, "right" less "left". mean, std: (H,) of its forecast.
    """

    model: Tensor
    persistence: Tensor
    truth: Tensor
    mean: Tensor
    std: Tensor

    def record(self) -> dict[str, Any]:
        """JSON-able."""
        return {"rmse": self.model.tolist(), "persistence": self.persistence.tolist(), "seen": SEEN}

    def line(self) -> str:
        """For a person."""
        first, last = (float(self.model[i] / self.persistence[i]) for i in (0, -1))
        return (
            f"forecast: error against that of the last frame seen: {first:.2f} after 1 frame, {last:.2f} after "
            f"{len(self.model)} (below 1: better), {TEST} clips"
        )


def forecast_frames(clip: Path, seed: int) -> FrameForecast:
    """Fit to training clips, forecast test clips from their first frames.

    Args:
        clip: folder of the CLIP.
        seed: of the clips.
    """
    rng = np.random.default_rng((seed, 2))
    z = _places(load_encoder(clip), [_draw(rng) for _ in range(TRAIN + TEST)])
    z = (z - z[:TRAIN].mean(dim=(0, 1))) / z[:TRAIN].std(dim=(0, 1))
    ssm = _fit(z[:TRAIN], seed)
    test = z[TRAIN:]
    with torch.no_grad():
        ahead = ssm.forecast(ssm.filter(test[:, :SEEN]), FRAMES - SEEN)
    last, future = test[:, SEEN - 1 : SEEN], test[:, SEEN:]

    def error(guess: Tensor) -> Tensor:
        return (guess - future).square().sum(dim=2).mean(dim=0).sqrt()

    # The clip whose first latent changes most is the one to look at.
    shown = int((future[:, -1, 0] - last[:, 0, 0]).abs().argmax())
    std = ahead.obs_cov.diagonal(dim1=-2, dim2=-1)[..., 0].sqrt().expand(TEST, -1)[shown]
    return FrameForecast(
        error(ahead.obs_mean), error(last), test[shown, :, 0], ahead.obs_mean[shown, :, 0], std
    )


def _draw(rng: np.random.Generator) -> Sprite:
    """A shape that crosses part of the frame."""
    motion = MOTION_CLASSES[MOVING[int(rng.integers(len(MOVING)))]]
    while True:
        sprite = motion.draw(rng, FRAMES)
        ends = sprite.x + sprite.vx * (FRAMES - 1), sprite.y + sprite.vy * (FRAMES - 1)
        if min(ends) >= 0 and max(ends) < 1:
            return sprite


@torch.no_grad()
def _places(encoder: VideoEncoder, sprites: list[Sprite]) -> Tensor:
    """(N, T, 2) of single frames."""
    assert encoder.text is not None
    words = F.normalize(encoder.text.encode([text for pair in PLACES for text in pair]), dim=-1)
    axes = words[1::2] - words[::2]
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (encoder.mean, encoder.std))
    rows = []
    for sprite in sprites:
        frames = torch.from_numpy(render_clip(sprite, FRAMES, SIZE, texture=0.0)).permute(3, 0, 1, 2)
        rows.append(F.normalize(encoder(((frames / 255 - mean) / std)[None]).frames[0], dim=-1) @ axes.T)
    return torch.stack(rows)


def _fit(z: Tensor, seed: int) -> LinearGaussianSSM:
    """Maximum likelihood, by gradient."""
    generator = torch.Generator().manual_seed(seed)
    ssm = LinearGaussianSSM(STATES, len(PLACES), R="diag", generator=generator)
    optimizer = torch.optim.Adam(ssm.parameters(), lr=LR)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        loss = -ssm.filter(z).log_likelihood.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ssm.project_stable_()
    return ssm
