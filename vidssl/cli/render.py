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


@app.command()
def noise(
    output: Folder,
    train: Annotated[int, Option(min=0, help="videos of each of the four classes to train on")] = 100,
    val: Annotated[int, Option(min=0, help="videos of each class to ask about")] = 60,
    frames: Annotated[int, Option(help="frames of a video")] = 48,
    shots: Annotated[int, Option(help="textures of a video, one after the other, that all move alike")] = 6,
    size: Size = 48,
    fps: Annotated[int, Option(min=1, help="frames a second of the videos")] = 8,
    seed: Seed = 0,
) -> None:
    """Noise in which motion alone carries the class: train/ and val/ with a folder for each direction; no frame tells it."""
    from vidssl.files import require_new_folder, whole_folder
    from vidssl.synthetic.noise import NOISE_CLASSES, write_noise_dataset

    require_new_folder(output)
    with whole_folder(output) as folder:
        write_noise_dataset(folder, train, val, frames=frames, size=size, fps=fps, seed=seed, shots=shots)
    count = len(NOISE_CLASSES)
    typer.echo(
        f"{output}: {count * train} videos to train on and {count * val} others, of {', '.join(NOISE_CLASSES)}"
    )
