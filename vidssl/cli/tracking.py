"""``vidssl track``: what an encoder knows of objects, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint, Result


def track(
    checkpoint: Checkpoint,
    data: Annotated[Path, Argument(help="a video, a folder of frames, or a tracking data set")],
    task: Annotated[
        Literal["sot", "vos", "mot", "mots", "pose"],
        Option(help="one box, masks, many boxes, many masks, key points"),
    ],
    preset: Annotated[
        str, Option(help="protocol of label propagation: dino, crw, unitrack, vfs, cropmae or rsp")
    ] = "dino",
    stride: Annotated[
        int | None, Option(min=1, help="pixels per cell (default: the encoder's, or 8)")
    ] = None,
    layer: Annotated[
        int | None, Option(help="whose features, from 0 or from -1 backwards (default: last)")
    ] = None,
    mode: Annotated[
        Literal["static", "window"], Option(help="static: a frame alone; window: with the frames before it")
    ] = "static",
    head: Annotated[Literal["dcf", "xcorr"], Option(help="how a single object is found")] = "dcf",
    legacy: Annotated[
        bool, Option("--legacy", help="a single object as in the reference, with its slips")
    ] = False,
    size: Annotated[
        int | None,
        Option(
            help="short side of frames in pixels before features are taken (default: as they are); with sot, the side of the"
            " windows round the object (default: 520)"
        ),
    ] = None,
    max_frames: Annotated[int | None, Option(help="of each sequence")] = None,
    sequences: Annotated[
        str | None, Option(help="names, separated by commas, or a text file of them")
    ] = None,
    detections: Annotated[
        str,
        Option(
            help="of mot, mots: truth (without identities), given (det/det.txt), a file of MOTChallenge or MOTS, or a folder of them"
        ),
    ] = "truth",
    box: Annotated[
        str | None,
        Option(
            help="x,y,w,h of what to follow (sot, vos) in one's own video: pixels of its first frame, 0,0 the upper left"
            " corner; --plot draws the box on that frame with rulers"
        ),
    ] = None,
    video: Annotated[Path | None, Option(help="draw what was tracked as .mp4")] = None,
    plot: Annotated[Path | None, Option(help="draw some frames of each sequence as .png")] = None,
    seed: Annotated[int, Option(help="of random weights and of the resampling of sequences")] = 0,
    device: Annotated[
        str | None, Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    ] = None,
    output: Result = None,
) -> None:
    """Track objects with an encoder as it is: a table beside copying, raw pixels and random weights, and pictures."""
    from vidssl.evaluation.report import result_file
    from vidssl.evaluation.tracking.run.options import TrackOptions, box_of
    from vidssl.evaluation.tracking.run.summary import show_track
    from vidssl.evaluation.tracking.run.track import track as run
    from vidssl.files import write_json

    options = TrackOptions(
        preset=preset,
        stride=stride,
        layer=layer,
        mode=mode,
        head=head,
        legacy=legacy,
        size=size,
        max_frames=max_frames,
        sequences=sequences,
        detections=detections,
        box=None if box is None else box_of(box),
        seed=seed,
        device=device,
    )
    result = run(checkpoint, data, task, options=options, video=video, plot=plot)
    file = output or result_file(Path(checkpoint), result["task"], data, result)
    write_json(file, result)
    show_track(f"{task} on {data}", result)
    typer.echo(f"written to {', '.join([str(file), *result['figures']])}")
