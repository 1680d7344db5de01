"""Eigenvalues of the transition A of a linear model: |λ| is what is left after a step, arg λ by how much it turns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Eigenvalues that get a label: so many, of modes that do not die at once; radians between two labels.
LABELS, FADED, LABEL_GAP = 8, 0.3, 0.16


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
    A, power = model.transition().double(), step_seconds / model.time_unit
    if model.continuous and not math.isnan(power) and power != 1.0:
        A = torch.linalg.matrix_exp(model.transition.rate().double() * power)
    found = []
    for value in torch.linalg.eigvals(A.detach().cpu()).tolist():
        modulus, angle = abs(value), math.atan2(value.imag, value.real)
        decay = math.log(modulus) if modulus > 0 else -math.inf
        period = 2 * math.pi / abs(angle) * step_seconds if abs(angle) > 1e-9 else math.inf
        half_life = math.log(0.5) / decay * step_seconds if decay < -1e-9 else math.inf
        found.append(Eigenvalue(value, modulus, angle, angle / step_seconds, period, half_life))
    return sorted(found, key=lambda x: (-round(x.modulus, 9), -x.angle))


def eigenvalues_figure(eigenvalues: list[Eigenvalue], step_seconds: float) -> Figure:
    """Eigenvalues in the unit circle; those that turn are named with their angle."""
    figure = new_figure(6.2, 6.4)
    axis = figure.subplots()
    circle = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)
    title = "|λ| = 1: neither grows nor decays"
    axis.plot(circle.cos().tolist(), circle.sin().tolist(), color=GREY, lw=1, label=title)
    axis.axhline(0, color=GREY, lw=0.5)
    axis.axvline(0, color=GREY, lw=0.5)
    turning = [x for x in eigenvalues if abs(x.value.imag) > 1e-9]
    still = [x for x in eigenvalues if abs(x.value.imag) <= 1e-9]
    for row, marker, colour, name in (
        (still, "s", BLUE, "real: does not turn"),
        (turning, "o", ORANGE, "turns by its angle in a step"),
    ):
        if row:
            real, imag = [x.value.real for x in row], [x.value.imag for x in row]
            axis.plot(real, imag, marker, color=colour, ms=7, alpha=0.8, mec="white", label=name)
    outside = max(1.0, *(x.modulus for x in eigenvalues)) + 0.12
    for x, at in _spread([x for x in turning if x.angle > 0.01 and x.modulus > FADED][:LABELS]):
        axis.plot([0, x.value.real], [0, x.value.imag], color=ORANGE, lw=0.7, alpha=0.6)
        text = f"{x.angle:.2f} rad a step"
        if math.isfinite(x.period_seconds):
            text += f"\n{x.angle_per_second:.2f} rad/s"
        place = (outside * math.cos(at), outside * math.sin(at))
        side = "left" if math.cos(at) > 0 else "right"
        style: dict[str, Any] = {"ha": side, "va": "center", "color": BLACK, "fontsize": 8}
        arrow = {"arrowstyle": "-", "color": GREY, "lw": 0.5}
        axis.annotate(text, (x.value.real, x.value.imag), place, arrowprops=arrow, **style)
    reach = outside + 0.5
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axis.set(xlabel="real part", ylabel="imaginary part")
    step = "" if math.isnan(step_seconds) else f" of {step_seconds:.3g} s"
    axis.set_title(f"Eigenvalues λ of the transition over one step{step}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _spread(modes: list[Eigenvalue]) -> list[tuple[Eigenvalue, float]]:
    """The modes with angles for their labels: their own, moved apart where they would overlap."""
    placed: list[tuple[Eigenvalue, float]] = []
    for x in sorted(modes, key=lambda x: x.angle):
        placed.append((x, max(x.angle, placed[-1][1] + LABEL_GAP) if placed else x.angle))
    return placed
