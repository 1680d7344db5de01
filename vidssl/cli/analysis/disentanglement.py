"""``vidssl disentangle``: what single dimensions of an encoder hold of the factors of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint, Folder, Plots, eval_options
from vidssl.errors import VidsslError


def disentangle(
    checkpoint: Checkpoint,
    data: Annotated[
        Path | None,
        Argument(
            help="folder of factor videos, as `vidssl data render factors` writes it (default: rendered in memory)"
        ),
    ] = None,
    scene: Annotated[str | None, Option(help="what is rendered (default: sprites)")] = None,
    clips: Annotated[int | None, Option(min=1, help="how many are rendered (default: 10,000)")] = None,
    frames: Annotated[int, Option(min=1, help="frames of a clip")] = 16,
    bins: Annotated[int, Option(min=2, help="of every dimension")] = 20,
    slow: Annotated[bool, Option("--all", help="SAP and DCI too, which take minutes")] = False,
    seed: Annotated[int, Option(min=0, help="of what is rendered, and of the controls")] = 0,
    plots: Plots = True,
    size: Annotated[
        int | None,
        Option(min=1, help="side of the frames shown to the model, in pixels (default: the model's)"),
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="clips encoded at a time")] = 32,
    workers: Annotated[int, Option(min=0, help="decoding processes, for DATA")] = 2,
    decoder: Annotated[
        Literal["auto", "decord", "pyav", "torchcodec"],
        Option(help="for DATA; auto: the fastest here (`vidssl doctor --benchmark` measures), then PyAV"),
    ] = "auto",
    device: Annotated[
        str | None, Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    ] = None,
    output: Folder = None,
) -> None:
    """Say which single dimensions hold which factor of a video: MED, mutual information, controls, as tables, JSON and PNG."""
    from vidssl import distributed
    from vidssl.evaluation.disentanglement.clips import FactorVideos, RenderedClips
    from vidssl.evaluation.disentanglement.report import CLIPS, write_report
    from vidssl.evaluation.disentanglement.report import disentangle as run
    from vidssl.evaluation.disentanglement.show import show_disentanglement
    from vidssl.evaluation.dynamics.plots import check_matplotlib
    from vidssl.evaluation.report import result_file

    if data is not None and (scene is not None or clips is not None):
        raise VidsslError(
            f"{data}: --scene and --clips are of clips that are rendered; leave them or DATA out"
        )
    if plots:
        check_matplotlib()
    options = eval_options(
        frames=frames, size=size, batch_size=batch_size, workers=workers, decoder=decoder, device=device
    )
    source = (
        RenderedClips(scene or "sprites", clips or CLIPS, frames, seed)
        if data is None
        else FactorVideos(data)
    )
    result = run(checkpoint, source, bins=bins, slow=slow, seed=seed, options=options)
    if distributed.rank() == 0:
        folder = output or result_file(Path(checkpoint), "disentangle", source.name, result).with_suffix("")
        files = write_report(result, folder, plots=plots)
        show_disentanglement(f"{checkpoint} on {source.name.name}", result)
        typer.echo(f"written to {folder}: {', '.join(files)}")
