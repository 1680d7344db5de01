"""``vidssl extract | pca``: features of videos, as files and as colours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint, with_eval_options
from vidssl.errors import VidsslError

Layer = Annotated[
    int | None,
    Option(
        help="whose patch features: from 0, or from -1 at the end (default: the last); with --draws whose map the grid is of, from 0"
    ),
]
STRIDE = "pixels per patch feature (default: 8 of convolutional networks, the patch of transformers)"
MODE = "what is shown for a frame: static, it alone; window, the clip that ends with it (default: static)"


@with_eval_options
def extract(
    checkpoint: Checkpoint,
    data: Annotated[Path, Argument(help="folder of videos or CSV; labels are optional")],
    output: Annotated[Path, Argument(help="features file, .safetensors; names go into a .json beside it")],
    pooling: Annotated[
        Literal["clip", "unit"] | None,
        Option(help="clip: the encoder's own (default); unit: mean of the unit-length frame features"),
    ] = None,
    apart: Annotated[bool, Option("--apart", help="features of each clip and crop, not their means")] = False,
    patches: Annotated[
        bool,
        Option(
            "--patches",
            help="patch features (T, D, h, w) of whole frames instead, one clip a video, --size the short side",
        ),
    ] = False,
    layer: Layer = None,
    patch_stride: Annotated[int | None, Option(help=STRIDE)] = None,
    mode: Annotated[Literal["static", "window"] | None, Option(help=MODE)] = None,
    half: Annotated[bool, Option("--half", help="write patch features or draws as float16")] = False,
    draws: Annotated[
        int | None,
        Option(
            min=1,
            help="features of frames to train on (data.features) instead: --frames of the whole video, as they are and in so many "
            "draws of a view",
        ),
    ] = None,
    grid: Annotated[
        int | None, Option(min=0, help="with --draws: cells a side that are kept of the picture (default: 3)")
    ] = None,
    rate: Annotated[
        float | None, Option(help="with --draws: frames a second, instead of as many of every video")
    ] = None,
    view: Annotated[
        list[str] | None,
        Option(
            help="with --draws: key=value of a recipe's view, such as scale=[0.6,1.0] or flip=0; repeatable"
        ),
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="with --draws: of the draws (default: 0)")] = None,
    *,
    options: Any,
) -> None:
    """Write the features of every video of a folder."""
    from vidssl.evaluation import extract as run
    from vidssl.evaluation.patches.extract import extract_patches

    given: dict[str, Any] = {"layer": layer, "patch-stride": patch_stride, "mode": mode, "half": half or None}
    of_draws: dict[str, Any] = {"grid": grid, "rate": rate, "view": view or None, "seed": seed}
    if draws is None:
        for name, value in of_draws.items():
            if value is not None:
                raise VidsslError(f"--{name}: is of features to train on; give --draws too")
    else:
        others = {
            **given,
            "layer": None,
            "half": None,
            "patches": patches or None,
            "pooling": pooling,
            "apart": apart or None,
        }
        for name, value in others.items():
            if value is not None:
                raise VidsslError(f"--{name}: together with --draws; leave one of them out")
        _draws(checkpoint, data, output, draws, of_draws | {"layer": layer}, half, options)
        return
    if patches:
        if pooling is not None or apart:
            named = "pooling" if pooling is not None else "apart"
            raise VidsslError(f"--{named}: is not of patch features; leave --patches out")
        record = extract_patches(
            checkpoint,
            data,
            output,
            layer=layer,
            stride=patch_stride,
            mode=mode or "static",
            half=half,
            options=options,
        )
        made, shown = record["patches"], sum(video["tensor"] is not None for video in record["videos"])
        typer.echo(
            f"{output}: patch features of {shown} of {len(record['videos'])} videos, {made['bytes'] / 1e6:,.1f} MB of {made['dtype']}; "
            f"layer {made['layer']}, stride {made['stride']}, D = {made['dim']}, {made['mode']}"
        )
    else:
        for name, value in given.items():
            if value is not None:
                raise VidsslError(f"--{name}: is of patch features; give --patches too")
        record = run(checkpoint, data, output, pooling=pooling or "clip", apart=apart, options=options)
        typer.echo(f"{output}: features {record['shape']} of {record['data']['videos']} videos")
    _say_what_failed(record)


def _draws(
    checkpoint: str, data: Path, output: Path, draws: int, given: dict[str, Any], half: bool, options: Any
) -> None:
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.evaluation import extract_draws
    from vidssl.training.sources.views import drawn_view

    classes = VideoIndex.read(data, options.missing).classes
    view, remark = drawn_view([*(given["view"] or []), f"count={draws}"], classes, data)
    record = extract_draws(
        checkpoint,
        data,
        output,
        view=view,
        grid=3 if given["grid"] is None else given["grid"],
        layer=given["layer"],
        rate=given["rate"],
        half=half,
        seed=given["seed"] or 0,
        options=options,
    )
    made, shown = record["rows"], sum(video["tensor"] is not None for video in record["videos"])
    typer.echo(
        f"{output}: features of frames of {shown} of {len(record['videos'])} videos, {made['bytes'] / 1e6:,.1f} MB of {made['dtype']}; "
        f"{made['draws']} draws, D = {made['dim']}, {made['grid']} x {made['grid']} cells of {made['width']}, {made['size']} pixels"
    )
    if remark:
        typer.echo(remark)
    _say_what_failed(record)


def _say_what_failed(record: dict[str, Any]) -> None:
    for remark in record["data"]["remarks"]:
        typer.echo(remark)
    for failure in record["data"]["failed"]:
        typer.echo(f"{failure['path']}: {failure['reason']}")


def pca(
    checkpoint: Checkpoint,
    video: Annotated[Path, Argument(help="a video file")],
    output: Annotated[Path, Argument(help="video to write, .mp4; a .png and a .json go beside it")],
    layer: Layer = None,
    stride: Annotated[int | None, Option(help=STRIDE)] = None,
    mode: Annotated[Literal["static", "window"], Option(help=MODE)] = "static",
    frames: Annotated[int, Option(min=1, help="at most so many, spread over the whole video")] = 100,
    size: Annotated[
        int | None, Option(min=1, help="short side of the frames in pixels (default: the model's)")
    ] = None,
    device: Annotated[
        str | None, Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    ] = None,
) -> None:
    """Colour a video by the principal components of its patch features: what looks alike to the encoder has one colour."""
    from vidssl.evaluation.patches.picture import pca as run

    record = run(
        checkpoint,
        video,
        output,
        layer=layer,
        stride=stride,
        mode=mode,
        frames=frames,
        size=size,
        device=device,
    )
    shares = ", ".join(f"{100 * share:.0f} %" for share in record["variance_shares"])
    made = record["patches"]
    typer.echo(
        f"{record['frames']} frames, layer {made['layer']}, stride {made['stride']}, {made['mode']}; "
        f"variance in red, green, blue: {shares}"
    )
    typer.echo(f"written to {output}, {output.with_suffix('.png').name}, {output.with_suffix('.json').name}")
