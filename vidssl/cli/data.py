"""``vidssl data …``: a folder of videos before training on it, or drawn for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from vidssl.cli import render
from vidssl.cli.options import Missing, Report, Videos

app = typer.Typer(
    name="data",
    help="Look at a folder of videos before training on it, or draw one.",
    no_args_is_help=True,
)
app.add_typer(render.app)


@app.command()
def index(
    data: Videos,
    missing: Missing = "error",
    output: Annotated[Path | None, Option(help="write the list as a path,label CSV")] = None,
) -> None:
    """List the videos and classes that would be used."""
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.files import require_other_file

    if output is not None:
        require_other_file(output, data)
    found = VideoIndex.read(data, missing)
    typer.echo(found.describe())
    if output is not None:
        found.write(output)
        typer.echo(f"{output}: {len(found)} videos")


@app.command()
def check(
    data: Videos,
    missing: Missing = "error",
    output: Report = None,
    workers: Annotated[int, Option(help="decoding processes")] = 2,
    decoder: Annotated[
        str, Option(help="that training would use: auto, decord, pyav or torchcodec")
    ] = "auto",
    cache: Annotated[bool, Option(help="reuse what is known of unchanged files")] = True,
) -> None:
    """Open every video once and name the unreadable ones; exit code 1 when there are any."""
    from vidssl.data.manifest.check import check_index
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.files import write_json

    report = check_index(VideoIndex.read(data, missing), workers=workers, backend=decoder, cache=cache)
    for bad in report.bad:
        typer.echo(f"{bad.path}: {bad.reason}")
    for remark in report.good.remarks:
        typer.echo(f"{data}: {remark}")
    typer.echo(f"{data}: {len(report.good)} readable, {len(report.bad)} unreadable")
    if output is not None:
        write_json(output, report.record)
    if report.bad:
        raise typer.Exit(1)
