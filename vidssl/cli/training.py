"""``vidssl pretrain | demo | try``: what trains an encoder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from vidssl.cli.options import settled_threads
from vidssl.errors import VidsslError

if TYPE_CHECKING:
    from vidssl.config import Config

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: "try again later"


def pretrain(
    config: Annotated[
        str,
        Argument(
            help="recipe: a YAML file or the name of a shipped one; `vidssl config show` lists every key"
        ),
    ],
    overrides: Annotated[list[str] | None, Argument(help="key=value, such as train.batch_size=64")] = None,
    resume: Annotated[bool, Option("--resume", help="continue the run in `output`, if there is one")] = False,
    accept_changes: Annotated[
        bool,
        Option(
            "--accept-changes",
            help="resume under other conditions than the run was begun under, and record them",
        ),
    ] = False,
    dry: Annotated[
        bool,
        Option(
            "--dry-run", help="build everything, make one step on two videos, tell its cost, keep nothing"
        ),
    ] = False,
    random_weights: Annotated[
        bool, Option("--random-weights", help="with --dry-run: read and download no weights")
    ] = False,
) -> None:
    """Pretrain a video encoder on a folder of unlabelled videos. Told to stop (SIGTERM, SIGUSR1, Ctrl-C), it writes a
    checkpoint and exits with 75; --resume goes on from there."""
    with _ending_when_told_to():
        from vidssl.config import load_config
        from vidssl.threads import computing_with
        from vidssl.training import pretrain as run

        recipe = load_config(config, overrides or [])
    if random_weights and not dry:
        raise VidsslError("--random-weights: is for --dry-run")
    with computing_with(_threads(recipe, resume)):
        if dry:
            _show_cost(recipe, random_weights)
            return
        folder = run(recipe, resume=resume, accept_changes=accept_changes)
    typer.echo(
        f"{folder}: done; evaluate with `vidssl evaluate-all {folder} DATA`, a folder with train/ and val/ in it"
    )


def _threads(recipe: Config, resume: bool) -> int | None:
    from vidssl.training.conditions import recorded_threads

    if recipe.train.threads is not None:
        return recipe.train.threads
    recorded = recorded_threads(Path(recipe.output)) if resume else None
    return settled_threads(recipe.data.workers, recorded=recorded)


def _show_cost(recipe: Config, random_weights: bool) -> None:
    from vidssl.training.recipes.batch_size import with_batch_size
    from vidssl.training.recipes.dry_run import dry_run

    recipe = with_batch_size(recipe)
    cost = dry_run(recipe, random_weights)
    typer.echo(
        f"{cost['videos']} videos, {cost['steps']} steps of {recipe.train.batch_size} on {cost['device']}"
    )
    for shape in cost["views"]:
        typer.echo(f"  view: {' x '.join(map(str, shape))}")
    counts, sizes, seconds = cost["parameters"], cost["bytes"], cost["seconds"]
    typer.echo("  parameters: " + ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items()))
    typer.echo(
        "  memory of a step: " + ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in sizes.items())
    )
    typer.echo(
        f"  memory of a checkpoint: {cost['checkpoint'] / 2**20:,.0f} MiB of the machine's, while it is being written"
    )
    hours = seconds["run"] / 3600
    whole = f"{hours:,.2f} h" if hours >= 1 else f"{60 * hours:.1f} minutes"
    typer.echo(
        f"  time: {1000 * seconds['clip']:,.1f} ms a clip, {seconds['step']:,.1f} s a step, "
        f"{whole} in all, reckoned from two clips in one process without workers"
    )
    if (made := cost["evaluation"]) is not None and recipe.evaluate is not None:
        sizes = ", ".join(f"{count} of evaluate.{key}" for key, count in made["videos"].items())
        typer.echo(
            f"  evaluation: {' and '.join(made['protocols'])} after every {recipe.evaluate.every} steps, {made['times']} times, "
            f"on videos: {sizes}; the best by {recipe.evaluate.metric} is kept; not made here, nor in the time above"
        )
    for note in cost["notes"]:
        typer.echo(f"  note: {note}")
    typer.echo("nothing was kept; leave out --dry-run to begin")


def demo(
    output: Annotated[Path, Option(help="folder for videos, weights and results")] = Path("demo"),
    seed: Annotated[int, Option()] = 0,
) -> None:
    """Render videos, train a small CLIP, pretrain a video encoder from it, evaluate: a few minutes on a laptop."""
    from vidssl.demo import run_demo

    run_demo(output, seed=seed)


def try_(
    folder: Annotated[Path, Argument(help="videos in class folders, or loose files; or a list")],
    output: Annotated[Path, Option("--output", "-o", help="folder of all that comes of it")] = Path(
        "runs/try"
    ),
    encoder: Annotated[
        str | None,
        Option(
            help="image model: NAME:TAG of open_clip, local-dir:/path, timm/NAME:FILE, a run (default: one on this machine, or of the hub)"
        ),
    ] = None,
    minutes: Annotated[float, Option(help="that it may take, about")] = 5.0,
    resume: Annotated[bool, Option("--resume", help="go on in the output folder")] = False,
    dry: Annotated[
        bool, Option("--dry-run", help="say what would be done and how long it takes; keep nothing")
    ] = False,
    open_page: Annotated[
        bool | None, Option("--open/--no-open", help="the report in a browser (default: on a desktop)")
    ] = None,
    seed: Annotated[int, Option(min=0, help="of the held-out part, draws and training")] = 0,
    workers: Annotated[int, Option(min=0, help="decoding processes")] = 2,
) -> None:
    """Adapt an image model to your videos for a few minutes, and say with intervals what that was good for."""
    from vidssl.trying import try_folder

    page = try_folder(
        folder, output, encoder=encoder, minutes=minutes, seed=seed, resume=resume, dry=dry, workers=workers
    )
    if page is None:
        return
    typer.echo(f"written to {page} ({page.stat().st_size / 1e6:.1f} MB)")
    if open_page or (open_page is None and _on_a_desktop()):
        webbrowser.open(page.resolve().as_uri())


def _on_a_desktop() -> bool:
    screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(x) for x in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return sys.stdout.isatty() and screen


@contextmanager
def _ending_when_told_to() -> Iterator[None]:
    """A block in which SIGTERM and SIGUSR1 end the process with 75, as they do once training has been loaded.

    At once: an exception could get lost in what libraries do while they load, and nothing is on disk yet.
    """

    def end(number: int, _: Any) -> None:
        if os.environ.get("RANK", "0") == "0":
            os.write(2, b"vidssl: stopped before the run began; start it again\n")
        os._exit(STOPPED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.Signals[name] for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    previous = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
