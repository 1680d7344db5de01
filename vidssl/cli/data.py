"""``vidssl data …``: a folder of videos before training on it, or drawn for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

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
    manifest: Annotated[
        Path | None, Argument(help="a file to write that ends in .arrow: what is known of every video")
    ] = None,
    missing: Missing = "error",
    output: Annotated[Path | None, Option(help="write the list as a path,label CSV")] = None,
    workers: Annotated[
        int | None, Option(help="processes that open videos; one for each core, at most 8")
    ] = None,
) -> None:
    """List the videos and classes that would be used, and write down what is known of them.

    A manifest spares training, evaluation and checks the scan of every file. It can be named wherever a folder or list can. Made
    again, or killed and begun again, it opens only the files that are new or have changed.
    """
    from vidssl.data.manifest.indexing import write_index
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.files import require_other_file

    for file in filter(None, (output, manifest)):
        require_other_file(file, data)
    found = VideoIndex.read(data, missing)
    typer.echo(found.describe())
    if output is not None:
        found.write(output)
        typer.echo(f"{output}: {len(found)} videos")
    if manifest is not None:
        typer.echo(write_index(found, manifest, workers).describe())


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


@app.command()
def prepare(
    data: Videos,
    output: Annotated[Path, Argument(help="folder of the new videos; one left unfinished is gone on with")],
    missing: Missing = "error",
    short_side: Annotated[int, Option(help="largest short side in pixels")] = 256,
    gop: Annotated[int, Option(help="frames from key frame to key frame")] = 12,
    crf: Annotated[int, Option(help="quality of x264: 0 is lossless, 51 the worst")] = 20,
    preset: Annotated[str, Option(help="of x264")] = "veryfast",
    tune: Annotated[
        str, Option(help="of x264: fastdecode, or none (a tenth smaller, slower to train on)")
    ] = "fastdecode",
    fps: Annotated[float | None, Option(help="one frame rate for all (default: as they are)")] = None,
    windows: Annotated[float | None, Option(help="split into parts of so many seconds")] = None,
    shots: Annotated[bool, Option(help="split at cuts")] = False,
    workers: Annotated[int, Option(help="encoding processes")] = 2,
    report: Annotated[Path | None, Option(help="write the report as JSON")] = None,
) -> None:
    """Write all videos anew in a form that is cheap to train on, with a list and a manifest; exit code 1 when some cannot be read."""
    from vidssl.data.manifest.indexing import write_index
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.data.prepare.form import Form
    from vidssl.data.prepare.pieces import Split
    from vidssl.data.prepare.run import prepare as prepare_all
    from vidssl.files import write_json

    form, split = Form(short_side, gop, crf, fps, preset, tune), Split(shots, windows)
    made = prepare_all(VideoIndex.read(data, missing), output, form, split, workers=workers)
    for bad in made.bad:
        typer.echo(f"{bad.path}: {bad.reason}")
    size, psnr = made.record["bytes"] / 1e6, made.psnr
    typer.echo(
        f"{made.list}: {len(made.clips)} clips, {size:.1f} MB of {made.source_bytes / 1e6:.1f} MB, {psnr:.1f} dB; "
        f"{made.done_before} sources were done before, {len(made.bad)} are unreadable"
    )
    if made.clips:
        manifest = write_index(VideoIndex.read(made.list), made.list.with_suffix(".arrow"), workers)
        typer.echo(f"{manifest.file}: their manifest")
    if report is not None:
        write_json(report, made.record)
    if made.bad:
        raise typer.Exit(1)
