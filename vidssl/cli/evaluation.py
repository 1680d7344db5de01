"""``vidssl zero-shot | linear-probe | knn | …``: what is done with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from vidssl.cli.options import (
    Checkpoint,
    Folder,
    Plots,
    Published,
    Result,
    Select,
    Templates,
    finish,
    with_eval_options,
)


@with_eval_options
def zero_shot(
    checkpoint: Checkpoint,
    data: Annotated[Path, Argument(help="folder <class>/<file> or CSV path,label")],
    classes: Annotated[
        str | None,
        Option(
            help="class list, concept file, or vocabulary such as ucf101 (default: classes.csv beside the data)"
        ),
    ] = None,
    templates: Templates = None,
    texts: Annotated[str, Option(help="what stands for a class: category, description or both")] = "category",
    pooling: Annotated[
        Literal["unit", "clip"],
        Option(help="unit: frames are scored and their scores averaged; clip: the encoder's own mean"),
    ] = "unit",
    halves: Annotated[
        int,
        Option(help="so many times half of the classes, drawn as Text4Vis draws them; 0: all classes once"),
    ] = 0,
    protocol: Published = None,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Recognise actions from the text of their names."""
    from vidssl.evaluation import zero_shot as run

    asked: Any = {"classes": classes, "templates": templates, "texts": texts, "pooling": pooling}
    asked["halves"] = halves
    result = run(checkpoint, data, **asked, options=options)
    finish(result, "zero-shot", checkpoint, data, output, protocol)


@with_eval_options
def linear_probe(
    checkpoint: Checkpoint,
    train: Annotated[Path, Argument(help="labelled folder or CSV to fit on")],
    val: Annotated[Path, Argument(help="labelled folder or CSV to test on")],
    head: Annotated[
        Literal["lbfgs", "sgd"],
        Option(help="lbfgs: logistic regression at its optimum; sgd: a grid of rates and decays"),
    ] = "lbfgs",
    shots: Annotated[
        list[int], Option(help="so many training videos of each class; may be given several times")
    ] = [],  # noqa: B006
    draws: Annotated[int, Option(help="of the videos of few shots")] = 3,
    select: Select = "train",
    seed: Annotated[int, Option(help="of the held-out part that chooses the penalty")] = 0,
    protocol: Published = None,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Fit a linear classifier on frozen features."""
    from vidssl.evaluation import LinearOptions
    from vidssl.evaluation import linear_probe as run

    fit = LinearOptions(head, shots, draws, select, seed)
    result = run(checkpoint, train, val, fit=fit, options=options)
    finish(result, "linear probe", checkpoint, val, output, protocol)


@with_eval_options
def knn(
    checkpoint: Checkpoint,
    train: Annotated[Path, Argument(help="labelled folder or CSV of neighbours")],
    val: Annotated[Path, Argument(help="labelled folder or CSV to test on")],
    k: Annotated[list[int], Option(help="neighbours; may be given several times")] = [1, 5, 20],  # noqa: B006
    temperature: Annotated[float, Option(help="of the votes' weights")] = 0.07,
    protocol: Published = None,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Classify by the nearest training videos."""
    from vidssl.evaluation import knn as run

    result = run(checkpoint, train, val, k=k, temperature=temperature, options=options)
    finish(result, "k-NN", checkpoint, val, output, protocol)


@with_eval_options
def classify(
    checkpoint: Checkpoint,
    video: Annotated[Path, Argument(help="a video file")],
    labels: Annotated[str, Option(help="class names, separated by commas, or a class list file")],
    templates: Templates = None,
    window: Annotated[
        float | None, Option(help="seconds of windows that are classified one by one, in place of --clips")
    ] = None,
    every: Annotated[
        float | None, Option(help="seconds from window to window (default: half of one)")
    ] = None,
    plot: Annotated[Path | None, Option(help="with --window: draw the scores over time, .png")] = None,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Say which of the given actions a video shows, with --window over its time."""
    from vidssl.errors import VidsslError
    from vidssl.evaluation import classify as run
    from vidssl.evaluation.answers.timeline import plot_over_time
    from vidssl.evaluation.dynamics.plots import check_matplotlib
    from vidssl.evaluation.notes import cut_texts_note
    from vidssl.files import write_json

    if plot is not None and window is None:
        raise VidsslError(f"--plot {plot}: is of scores over time; give --window too")
    if plot is not None:
        check_matplotlib()
    shown: Any = {"templates": templates, "window": window, "every": every}
    result = run(checkpoint, video, labels, **shown, options=options)
    matches = result.get("matches", {})
    for name, probability in result["probabilities"].items():
        alone = f"  (by itself {100 * matches[name]:.1f} %)" if matches else ""
        typer.echo(f"{100 * probability:5.1f} %  {name}{alone}")
    for part in result.get("over_time", ()):
        best, probability = max(part["probabilities"].items(), key=lambda pair: pair[1])
        typer.echo(f"{part['start']:7.2f} to {part['end']:.2f} s: {best} ({100 * probability:.1f} %)")
    for line in cut_texts_note(result["cut_texts"]):
        typer.echo(line)
    if plot is not None:
        typer.echo(f"drawn to {plot_over_time(result['over_time'], plot)}")
    if output is not None:
        write_json(output, result)


@with_eval_options
def dynamics(
    checkpoint: Annotated[str, Argument(help="run folder or one of its checkpoints")],
    data: Annotated[Path, Argument(help="folder of videos or CSV; labels are not used")],
    horizon: Annotated[
        int | None, Option(min=1, help="longest forecast, in steps (default: 8 where clips allow)")
    ] = None,
    objective: Annotated[str | None, Option(help="name of the ldm objective, of several")] = None,
    weights: Annotated[Literal["teacher", "student"], Option(help="whose latents")] = "teacher",
    plots: Plots = True,
    against: Annotated[
        str | None,
        Option(help="another run, as of another seed: how far its latents are an affine map of these"),
    ] = None,
    *,
    options: Any,
    output: Folder = None,
) -> None:
    """Show what a model of motion learned: forecasts, calibration, eigenvalues, as PNG files and JSON."""
    from vidssl import distributed
    from vidssl.evaluation.dynamics.report import dynamics as run
    from vidssl.evaluation.dynamics.report import dynamics_lines, result_folder

    chosen: dict[str, Any] = {"horizon": horizon, "objective": objective, "weights": weights, "plots": plots}
    if against is not None:  # the folder of results is named after what was chosen
        chosen["against"] = against
    folder = output or result_folder(checkpoint, data, options=options, **chosen)
    result = run(checkpoint, data, output=folder, options=options, **chosen)
    if distributed.rank() == 0:
        for line in dynamics_lines(result):
            typer.echo(line)
        typer.echo(f"written to {folder}: {', '.join(['dynamics.json', *result['figures']])}")


def interpolate(
    checkpoint: Checkpoint,
    output: Annotated[Path, Argument(help="folder of the new encoder")],
    alpha: Annotated[float, Option(min=0.0, max=1.0, help="share of the trained encoder")] = 0.5,
    other: Annotated[
        str | None, Option(help="the other end (default: the encoder the run started from)")
    ] = None,
) -> None:
    """Mix a trained encoder with the one it started from (WiSE-FT), to keep what the image model knew."""
    from vidssl.evaluation.interpolation import interpolate_run

    result = interpolate_run(checkpoint, output, alpha, other)
    typer.echo(f"{output}: {alpha:g} of {result['trained']} and {1 - alpha:g} of {result['other']}")
