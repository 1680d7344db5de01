"""Eigenvalues of the transition A of a linear model: |λ| is what is left after a step, arg λ by how much it turns."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from vidssl.dynamics.ssm import LinearGaussianSSM


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
