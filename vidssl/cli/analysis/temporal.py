"""``vidssl temporal``: whether an encoder uses time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint, Folder, Plots, with_eval_options


@with_eval_options
def temporal(
    checkpoint: Checkpoint,
    data: Annotated[
        Path | None,
        Argument(
            help="folder of videos or CSV, with labels or without (default: noise is rendered, in which motion alone carries the class)"
        ),
    ] = None,
    rendered: Annotated[int, Option(help="videos of each of four classes, where they are rendered")] = 60,
    seed: Annotated[int, Option(min=0, help="of what is rendered, of shuffled frames and of folds")] = 0,
    plots: Plots = True,
    *,
    options: Any,
    output: Folder = None,
) -> None:
    """Say whether an encoder uses time: order, direction and speed of frames, and classes by single frames alone."""
    from vidssl import distributed
    from vidssl.evaluation.dynamics.plots import check_matplotlib
    from vidssl.evaluation.report import result_file
    from vidssl.evaluation.temporal.report import RENDERED
    from vidssl.evaluation.temporal.report import temporal as run
    from vidssl.evaluation.temporal.show import show_temporal, write_report

    if plots:
        check_matplotlib()
    result = run(checkpoint, data, clips=rendered, seed=seed, options=options)
    if distributed.rank() == 0:
        folder = output or result_file(
            Path(checkpoint), "temporal", data or Path("/noise"), result
        ).with_suffix("")
        files = write_report(result, folder, plots=plots)
        show_temporal(f"temporal on {data or RENDERED}", result)
        typer.echo(f"written to {folder}: {', '.join(files)}")
