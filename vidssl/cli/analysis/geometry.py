"""``vidssl geometry``: rank, spread and likeness of features, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from vidssl.cli.options import Checkpoint, Folder, Plots, Videos, with_eval_options


@with_eval_options
def geometry(
    checkpoint: Checkpoint,
    data: Videos,
    against: Annotated[
        list[str], Option(help="another encoder to compare with; may be given several times")
    ] = [],  # noqa: B006
    videos: Annotated[int, Option(help="compared by CKA at most")] = 1000,
    seed: Annotated[int, Option(min=0, help="of these videos, and of the noise beside them")] = 0,
    plots: Plots = True,
    *,
    options: Any,
    output: Folder = None,
) -> None:
    """Measure features without labels: RankMe, LiDAR, alignment, uniformity, spectrum, CKA of layers and encoders, drift."""
    from vidssl import distributed
    from vidssl.evaluation.dynamics.plots import check_matplotlib
    from vidssl.evaluation.geometry.report import geometry as run
    from vidssl.evaluation.geometry.show import show_geometry, write_report
    from vidssl.evaluation.report import result_file

    if plots:
        check_matplotlib()
    result = run(checkpoint, data, against=against, videos=videos, seed=seed, options=options)
    if distributed.rank() == 0:
        folder = output or result_file(Path(checkpoint), "geometry", data, result).with_suffix("")
        files = write_report(result, folder, plots=plots)
        show_geometry(f"geometry on {data}", result)
        typer.echo(f"written to {folder}: {', '.join(files)}")
