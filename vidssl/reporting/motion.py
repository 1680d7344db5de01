"""A Kalman run's report on the page: forecasts beside what knows no motion, and eigenvalues."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidssl.evaluation.dynamics.report import dynamics_lines
from vidssl.reporting.charts import Line, circle, lines
from vidssl.reporting.scores import Block, title_of

NAMES = {
    "model": "the model",
    "persistence": "the last latent (persistence)",
    "smoothing": "best average so far (smoothing)",
    "clock": "other videos at this place (clock)",
}


def block(file: Path, result: Mapping[str, Any]) -> Block:
    """What is shown of the result of ``vidssl dynamics``.

    Raises:
        KeyError, TypeError, ValueError: for a result of another form.
    """
    forecast = result["forecast"]
    horizons = forecast["horizons"]
    series = [
        _line(NAMES[name], horizons, forecast["nrmse"][name], name != "model")
        for name in NAMES
        if name in forecast["nrmse"]
    ]
    before = result.get("untrained", {}).get("forecast")
    if before:
        series.append(_line("the model, untrained", horizons, before["nrmse"]["model"], True))
    charts = [lines(series, "forecast error, as a share of that of the mean latent", "steps ahead")]
    if result.get("eigenvalues"):
        points = [(complex(x["real"], x["imag"]), _eigenvalue(x)) for x in result["eigenvalues"]]
        step = result["sampling"].get("step_seconds")
        charts.append(
            circle(points, "eigenvalues of the transition over one step" + (f" of {step:.3g} s" * bool(step)))
        )
    return Block(
        title_of(result), str(file), [chart for chart in charts if chart], notes=dynamics_lines(result)
    )


def _line(name: str, horizons: list[float], estimates: list[Mapping[str, Any]], dashed: bool) -> Line:
    values = [float("nan") if x["value"] is None else float(x["value"]) for x in estimates][: len(horizons)]
    if dashed:
        return Line(name, horizons, values, dashed=True)
    low, high = zip(*(x["interval"] for x in estimates), strict=True)
    return Line(name, horizons, values, list(low), list(high))


def _eigenvalue(x: Mapping[str, Any]) -> str:
    said = [f"{x['real']:.3f} {x['imag']:+.3f} i", f"modulus {x['modulus']:.3f}"]
    if x.get("period_seconds") is not None:
        said.append(f"turns once in {x['period_seconds']:.3g} s")
    if x.get("half_life_seconds") is not None:
        said.append(f"halves in {x['half_life_seconds']:.3g} s")
    return ", ".join(said)
