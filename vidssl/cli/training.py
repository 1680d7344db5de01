"""``vidssl pretrain`` and ``vidssl demo``: what trains an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


def pretrain(
    config: Annotated[str, Argument(help="recipe: a YAML file or the name of a shipped one")],
    overrides: Annotated[list[str] | None, Argument(help="key=value, such as train.batch_size=64")] = None,
    resume: Annotated[bool, Option("--resume", help="continue the run in `output`, if there is one")] = False,
    accept_changes: Annotated[
        bool,
        Option(
            "--accept-changes",
            help="resume under other conditions than the run was begun under, and record them",
        ),
    ] = False,
) -> None:
    """Pretrain a video encoder on a folder of unlabelled videos. Told to stop (SIGTERM, SIGUSR1, Ctrl-C), it writes a
    checkpoint and exits with 75; --resume goes on from there."""
    from vidssl.config import load_config
    from vidssl.training import pretrain as run

    folder = run(load_config(config, overrides or []), resume=resume, accept_changes=accept_changes)
    typer.echo(
        f"{folder}: done; evaluate with `vidssl linear-probe {folder} TRAIN VAL` or `vidssl zero-shot {folder} DATA`"
    )


def demo(
    output: Annotated[Path, Option(help="folder for videos, weights and results")] = Path("demo"),
    seed: Annotated[int, Option()] = 0,
) -> None:
    """Render videos, train a small CLIP, pretrain a video encoder from it, evaluate: a few minutes on a laptop."""
    from vidssl.demo import run_demo

    run_demo(output, seed=seed)
