"""``vidssl data render …``: videos whose content is known, because they are drawn here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

app = typer.Typer(
    name="render", help="Draw videos whose content is known, to measure with.", no_args_is_help=True
)

Folder = Annotated[Path, Argument(help="folder to write, absent or empty")]
Seed = Annotated[int, Option(help="of everything that is drawn at random")]
Rate = Annotated[float, Option(help="frames a second of the videos")]
Frames = Annotated[int, Option(help="frames of a clip")]
Size = Annotated[int, Option(help="pixels of a side")]


@app.command()
def factors(
    output: Folder,
    scene: Annotated[
        str, Option(help="sprites or shapes3d; for several objects: `render objects`")
    ] = "sprites",
    clips: Annotated[int, Option(help="number of clips")] = 1000,
    frames: Frames = 16,
    size: Size = 64,
    fps: Rate = 8.0,
    seed: Seed = 0,
) -> None:
    """Videos of one object with the causes of each: factors.csv says what stands there and how it moves."""
    from vidssl.progress import progress_bar
    from vidssl.synthetic.factors.folder import write_factor_videos

    with progress_bar("rendering", "clip") as progress:
        table = write_factor_videos(output, scene, clips, frames, size, fps, seed, progress)
    names = ", ".join(f"{name}{'*' if name in table.motion else ''} {n}" for name, n in table.sizes.items())
    typer.echo(f"{output}: {clips} clips; factors and their values (* of motion): {names}")


@app.command()
def objects(
    output: Folder,
    clips: Annotated[int, Option(help="number of sequences or videos")] = 20,
    frames: Frames = 32,
    size: Size = 128,
    seed: Seed = 0,
    format: Annotated[
        Literal["frames", "mp4"],
        Option(
            help="frames: sequences with their truth, to track in; mp4: other scenes without it, to train on"
        ),
    ] = "frames",
    fps: Rate = 8.0,
    fewest: Annotated[int, Option(help="objects at least, from 1")] = 2,
    most: Annotated[int, Option(help="objects at most, up to 6")] = 4,
    distractors: Annotated[int, Option(help="objects with the shape and hue of object 1")] = 1,
    speed: Annotated[float, Option(help="mean speed, frame sides a frame")] = 0.02,
    spin: Annotated[float, Option(help="largest turn, degrees a frame")] = 6.0,
    zoom: Annotated[float, Option(help="swing of the log of an object's size")] = 0.2,
    stretch: Annotated[float, Option(help="swing of the log of its proportions")] = 0.2,
    light: Annotated[float, Option(help="depth of drifting shadows and coloured light, below 1")] = 0.5,
    ground: Annotated[float, Option(help="speed of the background, frame sides a frame")] = 0.01,
    texture: Annotated[float, Option(help="strength of the textures")] = 1.0,
    noise: Annotated[float, Option(help="standard deviation of noise on every pixel, of 255")] = 3.0,
) -> None:
    """Several objects that pass in front of each other, with masks, boxes, identities and key points."""
    from vidssl.progress import progress_bar
    from vidssl.synthetic.objects.folder import write_objects
    from vidssl.synthetic.objects.scene import Difficulty

    difficulty = Difficulty(
        fewest, most, distractors, speed, spin, zoom, stretch, light, ground, texture, noise
    )
    with progress_bar("rendering", "clip") as progress:
        write_objects(
            output, clips, frames, size, seed, difficulty, videos=format == "mp4", fps=fps, progress=progress
        )
    typer.echo(f"{output}: {clips} {'videos' if format == 'mp4' else 'sequences'} of {frames} frames")
