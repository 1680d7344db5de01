"""``vidssl runs | report | app``: list, filter and compare runs; show them and their results on one page; try an encoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint, Report
from vidssl.errors import VidsslError


def runs(
    folders: Annotated[
        list[Path] | None, Argument(help="runs, or folders with runs in them (default: runs)")
    ] = None,
    where: Annotated[
        list[str] | None,
        Option(help="only those with key=value in their recipe, or state=done; again for more"),
    ] = None,
    differ: Annotated[bool, Option("--diff", help="show what their recipes differ in")] = False,
    curve: Annotated[
        list[str] | None, Option(help="a logged quantity for --plot; again for more (default: loss)")
    ] = None,
    plot: Annotated[Path | None, Option(help="draw the curves of all of them into this PNG file")] = None,
    output: Report = None,
) -> None:
    """List runs: how far they are, what they differ in, what they scored; and draw their curves."""
    from rich.console import Console
    from rich.table import Table

    from vidssl.files import write_json
    from vidssl.training.listing import differences, draw_curves, find_runs, select

    if curve and plot is None:
        raise VidsslError("--curve: is for --plot")
    if plot is not None and plot.suffix.lower() != ".png":
        raise VidsslError(f"--plot: {plot}: must end in .png")
    found = select(find_runs(folders or ["runs"]), where or [])
    console = Console(highlight=False)
    table = Table()
    for name in ("run", "state", "step", "loss", "rankme", "knn while training"):
        table.add_column(name, overflow="fold")
    for run in found:
        last = {name: pairs[-1][1] for name, pairs in run.logs.items()}
        logged = [
            f"{last[name]:.4g}" if name in last else ""
            for name in ("loss", "features/rankme", "evaluation/knn")
        ]
        table.add_row(str(run.folder), run.state, f"{run.step}/{run.steps or '?'}", *logged)
    console.print(table if found else "no run is like that")
    if tasks := list(dict.fromkeys(task for run in found for task in run.scores)):
        scores = Table()  # a row each: a column for each would not fit on a screen
        for name in ("top-1, %", "run", "trained", "untrained"):
            scores.add_column(name, overflow="fold")
        for task in tasks:
            for run in found:
                if "trained" in (tops := run.scores.get(task, {})):
                    shown = [f"{100 * tops[name]:.1f}" if name in tops else "" for name in ("trained", "untrained")]  # fmt: skip
                    scores.add_row(task, str(run.folder), *shown)
        console.print(scores)
    if differ and found:
        keys = Table()
        keys.add_column("key")
        for run in found:
            keys.add_column(run.folder.name, overflow="fold")
        for key, values in differences(found).items():
            keys.add_row(key, *map(str, values))
        console.print(keys)
    if plot is not None and found:
        draw_curves(found, curve or ["loss"], plot)
        console.print(f"{plot}: the curves", markup=False, soft_wrap=True)
    if output is not None:
        write_json(output, {"runs": [_record(run) for run in found]})


def report(
    sources: Annotated[
        list[str],
        Argument(help="runs, folders of results, and result files (.json)", metavar="RUN|RESULT..."),
    ],
    output: Annotated[Path, Option("--output", "-o", help="the page to write")] = Path("report.html"),
    videos: Annotated[
        Path | None,
        Option(
            help="folder or list of videos to show (default: those of the first result, or of the training)"
        ),
    ] = None,
    no_videos: Annotated[bool, Option("--no-videos", help="show no videos, and load no encoder")] = False,
    title: Annotated[str | None, Option(help="of the page")] = None,
    workers: Annotated[int, Option(min=0, help="decoding processes")] = 2,
    device: Annotated[
        str | None, Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    ] = None,
) -> None:
    """Write one self-contained HTML page of runs and results: curves, scores beside baselines, videos, recipe."""
    from vidssl.evaluation import EvalOptions
    from vidssl.reporting import write_report

    if no_videos and videos is not None:
        raise VidsslError(f"--videos {videos}: together with --no-videos; give one of them")
    if output.suffix not in (".html", ".htm"):
        raise VidsslError(f"--output {output}: the page needs the ending .html")
    shown: Path | bool = False if no_videos else videos or True
    file = write_report(
        sources, output, videos=shown, title=title, options=EvalOptions(workers=workers, device=device)
    )
    typer.echo(f"written to {file} ({file.stat().st_size / 1e6:.1f} MB); open it in a browser")


def app_(
    checkpoint: Checkpoint,
    videos: Annotated[
        Path | None,
        Option(help="folder among which neighbours are looked for; class folders name what is seen"),
    ] = None,
    port: Annotated[int, Option(min=1, max=65535, help="of the page")] = 7860,
    host: Annotated[
        str, Option(help="that it listens on; another than the default lets other machines in")
    ] = "127.0.0.1",
    device: Annotated[
        str | None, Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    ] = None,
) -> None:
    """Open a local page to try an encoder on a video: labels over time, neighbours, a box to follow (extra app)."""
    from vidssl.evaluation import EvalOptions
    from vidssl.reporting.app import serve

    serve(checkpoint, videos, host=host, port=port, options=EvalOptions(workers=0, device=device))


def _record(run: Any) -> dict[str, Any]:
    last = {name: pairs[-1][1] for name, pairs in run.logs.items()}
    logs = {name: value if math.isfinite(value) else None for name, value in last.items()}
    return {**run._asdict(), "folder": str(run.folder), "logs": logs}
