"""The command line: one small function per command that parses, calls and prints.

Bad input ends in one line on stderr and exit code 2.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidssl.cli.concepts import app as concepts_app
from vidssl.cli.options import with_eval_options
from vidssl.errors import VidsslError
from vidssl.launching import relaunch_on_cpu

if TYPE_CHECKING:
    from vidssl.evaluation import EvalOptions

app = typer.Typer(
    name="vidssl",
    help="Self-supervised learning for video: pretrain on a folder, evaluate what was learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    name="data", help="Look at a folder of videos before training on it.", no_args_is_help=True
)
app.add_typer(data_app)
app.add_typer(concepts_app)

Checkpoint = Annotated[str, typer.Argument(help="run folder, checkpoint folder or exported encoder")]
Output = Annotated[
    Path | None, typer.Option(help="result file (default: results/ in the checkpoint's folder)")
]
Workers = Annotated[int, typer.Option(help="decoding processes")]


@app.command()
def pretrain(
    config: Annotated[str, typer.Argument(help="recipe: a YAML file or the name of a shipped one")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as train.batch_size=64")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in `output`")] = False,
) -> None:
    """Pretrain a video encoder on a folder of unlabelled videos."""
    from vidssl.config import load_config
    from vidssl.training import pretrain as run

    folder = run(load_config(config, overrides or []), resume=resume)
    _say(
        f"{folder}: done; evaluate with `vidssl linear-probe {folder} TRAIN VAL` or `vidssl zero-shot {folder} DATA`"
    )


@app.command("zero-shot")
@with_eval_options
def zero_shot(
    checkpoint: Checkpoint,
    data: Annotated[Path, typer.Argument(help="folder <class>/<file> or CSV path,label")],
    classes: Annotated[
        str | None,
        typer.Option(
            help="class list, concept file, or vocabulary such as ucf101 (default: classes.csv beside the data)"
        ),
    ] = None,
    templates: Annotated[str | None, typer.Option(help="preset, file, or a template with {}")] = None,
    texts: Annotated[
        str, typer.Option(help="what stands for a class: category, description or both")
    ] = "category",
    *,
    options: EvalOptions,
    output: Output = None,
) -> None:
    """Recognise actions from the text of their names."""
    from vidssl.evaluation import zero_shot as run

    result = run(checkpoint, data, classes=classes, templates=templates, texts=texts, options=options)
    _finish(result, f"zero-shot on {data}", checkpoint, output, "zero-shot", data)


@app.command("linear-probe")
@with_eval_options
def linear_probe(
    checkpoint: Checkpoint,
    train: Annotated[Path, typer.Argument(help="labelled folder or CSV to fit on")],
    val: Annotated[Path, typer.Argument(help="labelled folder or CSV to test on")],
    seed: Annotated[int, typer.Option(help="of the held-out part that chooses the penalty")] = 0,
    *,
    options: EvalOptions,
    output: Output = None,
) -> None:
    """Fit a linear classifier on frozen features."""
    from vidssl.evaluation import linear_probe as run

    result = run(checkpoint, train, val, seed=seed, options=options)
    _finish(result, f"linear probe on {val}", checkpoint, output, "linear-probe", val)


@app.command()
@with_eval_options
def knn(
    checkpoint: Checkpoint,
    train: Annotated[Path, typer.Argument(help="labelled folder or CSV of neighbours")],
    val: Annotated[Path, typer.Argument(help="labelled folder or CSV to test on")],
    k: Annotated[list[int], typer.Option(help="neighbours; may be given several times")] = [1, 5, 20],  # noqa: B006
    temperature: Annotated[float, typer.Option(help="of the votes' weights")] = 0.07,
    *,
    options: EvalOptions,
    output: Output = None,
) -> None:
    """Classify by the nearest training videos."""
    from vidssl.evaluation import knn as run

    result = run(checkpoint, train, val, k=k, temperature=temperature, options=options)
    _finish(result, f"k-NN on {val}", checkpoint, output, "knn", val)


@app.command()
@with_eval_options
def extract(
    checkpoint: Checkpoint,
    data: Annotated[Path, typer.Argument(help="folder of videos or CSV; labels are optional")],
    output: Annotated[
        Path, typer.Argument(help="features file, .safetensors; names go into a .json beside it")
    ],
    *,
    options: EvalOptions,
) -> None:
    """Write the features of every video of a folder."""
    from vidssl.evaluation import extract as run

    record = run(checkpoint, data, output, options=options)
    _say(f"{output}: features {record['shape']} of {record['data']['videos']} videos")
    for failure in record["data"]["failed"]:
        _say(f"{failure['path']}: {failure['reason']}")


@app.command()
@with_eval_options
def classify(
    checkpoint: Checkpoint,
    video: Annotated[Path, typer.Argument(help="a video file")],
    labels: Annotated[str, typer.Option(help="class names, separated by commas, or a class list file")],
    templates: Annotated[str | None, typer.Option(help="preset, file, or a template with {}")] = None,
    *,
    options: EvalOptions,
    output: Output = None,
) -> None:
    """Say which of the given actions a video shows."""
    from vidssl.evaluation import classify as run
    from vidssl.evaluation.report import write_result

    result = run(checkpoint, video, labels, templates=templates, options=options)
    for name, probability in result["probabilities"].items():
        _say(f"{100 * probability:5.1f} %  {name}")
    if output is not None:
        write_result(result, output)


@app.command()
@with_eval_options
def dynamics(
    checkpoint: Annotated[str, typer.Argument(help="run folder or one of its checkpoints")],
    data: Annotated[Path, typer.Argument(help="folder of videos or CSV; labels are not used")],
    horizon: Annotated[
        int | None, typer.Option(min=1, help="longest forecast, in steps (default: 8 where clips allow)")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="name of the ldm objective, of several")] = None,
    weights: Annotated[Literal["teacher", "student"], typer.Option(help="whose latents")] = "teacher",
    plots: Annotated[bool, typer.Option(help="draw the figures (needs matplotlib)")] = True,
    *,
    options: EvalOptions,
    output: Annotated[
        Path | None, typer.Option(help="folder of results (default: in results/ of the checkpoint's folder)")
    ] = None,
) -> None:
    """Show what a model of motion learned: forecasts, calibration, eigenvalues, as PNG files and JSON."""
    from vidssl import distributed
    from vidssl.evaluation.dynamics.report import dynamics as run
    from vidssl.evaluation.dynamics.report import dynamics_lines
    from vidssl.evaluation.report import result_file

    folder = output or result_file(Path(checkpoint), "dynamics", data).with_suffix("")
    result = run(
        checkpoint,
        data,
        output=folder,
        horizon=horizon,
        objective=objective,
        weights=weights,
        plots=plots,
        options=options,
    )
    if distributed.rank() == 0:
        for line in dynamics_lines(result):
            _say(line)
        _say(f"written to {folder}: {', '.join(['dynamics.json', *result['figures']])}")


@app.command()
def interpolate(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Argument(help="folder of the new encoder")],
    alpha: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of the trained encoder")] = 0.5,
    other: Annotated[
        str | None, typer.Option(help="the other end (default: the encoder the run started from)")
    ] = None,
) -> None:
    """Mix a trained encoder with the one it started from (WiSE-FT), to keep what the image model knew."""
    from vidssl.evaluation.interpolation import interpolate_run

    result = interpolate_run(checkpoint, output, alpha, other)
    _say(f"{output}: {alpha:g} of {result['trained']} and {1 - alpha:g} of {result['other']}")


@data_app.command("index")
def data_index(
    data: Annotated[Path, typer.Argument(help="folder of videos or CSV")],
    output: Annotated[Path | None, typer.Option(help="write the list as a path,label CSV")] = None,
) -> None:
    """List the videos and classes that would be used."""
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.data.manifest.report import describe_index

    index = VideoIndex.read(data)
    _say(describe_index(index))
    if output is not None:
        index.write(output)
        _say(f"{output}: {len(index)} videos")


@data_app.command("check")
def data_check(
    data: Annotated[Path, typer.Argument(help="folder of videos or CSV")],
    output: Annotated[Path | None, typer.Option(help="write the report as JSON")] = None,
    workers: Workers = 2,
    cache: Annotated[bool, typer.Option(help="reuse what is known of unchanged files")] = True,
) -> None:
    """Open every video once and name the unreadable ones; exit code 1 when there are any."""
    from vidssl.data.manifest.check import check_index
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.data.manifest.report import check_record
    from vidssl.files import write_json

    report = check_index(VideoIndex.read(data), workers=workers, cache=cache)
    for bad in report.bad:
        _say(f"{bad.path}: {bad.reason}")
    _say(f"{data}: {len(report.good)} readable, {len(report.bad)} unreadable")
    if output is not None:
        write_json(output, check_record(report))
    if report.bad:
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="folder for videos, weights and results")] = Path("demo"),
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Render videos, train a small CLIP, pretrain a video encoder from it, evaluate: a few minutes on a laptop."""
    from vidssl.demo import run_demo

    run_demo(output, seed=seed)


@app.command()
def doctor(output: Annotated[Path | None, typer.Option(help="write the report as JSON")] = None) -> None:
    """Show versions, devices, and which decoders work and why others do not."""
    from vidssl.doctor import diagnose, show
    from vidssl.files import write_json

    report = diagnose()
    show(report)
    if output is not None:
        write_json(output, report)


def main() -> None:
    """Entry point of the `vidssl` command."""
    relaunch_on_cpu(sys.argv[1:])
    try:
        app()
    except VidsslError as error:
        if os.environ.get("RANK", "0") == "0":  # with several processes, one of them speaks
            print(f"vidssl: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(message: str) -> None:
    typer.echo(message)


def _finish(
    result: dict[str, Any], title: str, checkpoint: str, output: Path | None, task: str, data: Path
) -> None:
    """Print the table and write the JSON, on the first process."""
    from vidssl import distributed
    from vidssl.evaluation.report import result_file, show_result, write_result

    if distributed.rank() == 0:
        file = output or result_file(Path(checkpoint), task, data)
        write_result(result, file)
        show_result(title, result)
        _say(f"written to {file}")
