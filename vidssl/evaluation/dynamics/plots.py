"""The report's figures as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.calibration import calibration_figure
from vidssl.evaluation.dynamics.eigenvalues import eigenvalues_figure
from vidssl.evaluation.dynamics.forecasts import forecast_figure
from vidssl.evaluation.dynamics.measure import Dynamics
from vidssl.evaluation.dynamics.trajectories import trajectories_figure
from vidssl.files import whole_file, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130


def check_matplotlib() -> None:
    """
    Raises:
        VidsslError: when matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise VidsslError(
            f'figures need matplotlib, which cannot be imported ({error}); pip install "vidssl[plots]", or leave '
            "them out with --no-plots"
        ) from None


def write_drawn(
    result: Mapping[str, Any],
    folder: str | Path,
    name: str,
    figure: Callable[[Mapping[str, Any]], Figure],
    plots: bool,
) -> list[str]:
    """Write a result as `name`.json into `folder` and, for `plots`, its figure as `name`.png; the names of the files.

    Raises:
        VidsslError: for `plots` without matplotlib.
    """
    folder, figures = Path(folder), [f"{name}.png"] * plots
    if plots:
        check_matplotlib()
        with whole_file(folder / figures[0]) as partial:
            figure(result).savefig(partial, dpi=DPI, format="png")
    write_json(folder / f"{name}.json", {**result, "figures": figures})
    return [f"{name}.json", *figures]


def plot_dynamics(dynamics: Dynamics, folder: Path, untrained: Dynamics | None = None) -> list[Path]:
    """Write the figures into `folder`; a model without eigenvalues has no figure of them.

    Args:
        dynamics: of `measure_dynamics`.
        untrained: the same before training, drawn beside the forecasts.

    Raises:
        VidsslError: when matplotlib is not installed.
    """
    check_matplotlib()
    figures = {
        "trajectories": trajectories_figure(dynamics),
        "calibration": calibration_figure(dynamics.calibration),
        "forecast": forecast_figure(dynamics.forecast, None if untrained is None else untrained.forecast),
    }
    if dynamics.eigenvalues is not None:
        figures["eigenvalues"] = eigenvalues_figure(dynamics.eigenvalues, dynamics.sequences.step_seconds)
    files = []
    for name, figure in figures.items():
        files.append(folder / f"dynamics_{name}.png")
        with whole_file(files[-1]) as partial:
            figure.savefig(partial, dpi=DPI, format="png")
    return files
