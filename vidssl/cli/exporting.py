"""``vidssl export``: an encoder taken away, in a format of one's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint
from vidssl.errors import VidsslError


def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, Argument(help="folder to write; it must not be there yet, or be empty")],
    format: Annotated[
        Literal["vidssl", "open_clip", "torch-export", "onnx", "transformers"],
        Option(help="torch-export and onnx run without vidssl; open_clip and transformers take image models"),
    ] = "vidssl",
    check: Annotated[
        list[Path] | None,
        Option(help="a video to check the export on; may be given several times (default: rendered ones)"),
    ] = None,
    frames: Annotated[
        int | None,
        Option(min=1, help="frames of a clip, fixed in torch-export and onnx (default: as trained)"),
    ] = None,
    size: Annotated[
        int | None,
        Option(min=1, help="side in pixels, fixed in torch-export and onnx (default: the model's)"),
    ] = None,
    image_tower: Annotated[
        bool, Option("--image-tower", help="the image tower alone, without what was learned of time")
    ] = False,
    card: Annotated[
        Path | None,
        Option(help="Markdown of your own for the card (README.md): what it is for, and what not"),
    ] = None,
    licence: Annotated[
        str | None, Option("--licence", "--license", help="of the weights, as the hub names it: apache-2.0")
    ] = None,
    push: Annotated[str | None, Option(help="upload the folder too: hub:ORG/NAME of Hugging Face")] = None,
    private: Annotated[bool, Option("--private", help="with --push: a new repository is private")] = False,
) -> None:
    """Write an encoder in a format that others load, checked against the original."""
    from vidssl.exporting import export as run

    if private and push is None:
        raise VidsslError("--private: is for --push; give --push hub:ORG/NAME too")
    record = run(
        checkpoint,
        output,
        format,
        videos=check or (),
        frames=frames,
        size=size,
        alone=image_tower,
        words=card,
        licence=licence,
        push_to=push,
        private=private,
    )
    for line in _lines(record):
        typer.echo(line)
    typer.echo(f"written to {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    if "pushed" in record:
        typer.echo(f"pushed to {record['pushed']}")


def _lines(record: dict[str, Any]) -> list[str]:
    """How the export compares with the original, what it lacks, and how the weights were called in a training checkpoint."""
    from vidssl.models.towers.training import lines_of

    check, shown = record["check"], record["input"]
    text = "" if check["text"] is None else f", {check['text']:.1e} of text features"
    lines = [
        f"{record['model']} as {record['format']}: largest differences to the original {check['clip']:.1e} of clip features, "
        f"{check['frames']:.1e} of frame features (of up to {check['largest']:.2g}){text}",
        f"checked on {len(check['clips'])} clips of {shown['frames']} frames at {shown['size']} pixels, together and one by "
        f"itself: {', '.join(check['clips'])}; their features are up to {check['between']:.2g} apart",
    ]
    if "read" in record:  # of a training program's checkpoint
        from vidssl.models.towers.training import lines_of

        lines = [*lines_of(record["read"]), *lines]
    if record.get("batch"):
        lines.append(f"takes at most {record['batch']} clips at a time")
    if "left_behind" in record:
        lines.append(f"left behind: {record['left_behind']}")
    if "left_out" in record:
        left = record["left_out"]
        lines.append(
            f"left out: what was learned of time (temporal={left['temporal']!r}); without it clip features differ by up to "
            f"{left['difference']:.2g}, where those of two clips are up to {left['between']:.2g} apart"
        )
    if "read" in record:
        lines += lines_of(record["read"])
    return lines
