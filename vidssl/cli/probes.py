"""``vidssl attentive-probe | finetune | retrieval``: heads and encoders trained on labels, and what is near to what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from vidssl.cli.options import Checkpoint, Published, Result, Select, finish, with_eval_options


@with_eval_options
def attentive_probe(
    checkpoint: Checkpoint,
    train: Annotated[Path, Argument(help="labelled folder or CSV to train on")],
    val: Annotated[Path, Argument(help="labelled folder or CSV to test on")],
    tokens: Annotated[
        Literal["frames", "patches"], Option(help="what the heads look at: features of frames, or of patches")
    ] = "frames",
    layer: Annotated[int | None, Option(min=0, help="of the patches (default: the last)")] = None,
    blocks: Annotated[int, Option(min=1, max=4, help="of attention; the last gathers")] = 1,
    epochs: Annotated[int, Option(min=1, help="passes over the training videos")] = 20,
    probe_batch_size: Annotated[int, Option(min=1, help="videos in a step of training the heads")] = 64,
    rate: Annotated[
        list[float],
        Option(help="learning rates of the grid; may be given several times (default: V-JEPA 2's five)"),
    ] = [],  # noqa: B006
    decay: Annotated[
        list[float],
        Option(help="weight decays of the grid; may be given several times (default: V-JEPA 2's four)"),
    ] = [],  # noqa: B006
    on_the_fly: Annotated[
        bool | None,
        Option(
            "--on-the-fly/--kept",
            help="decode and encode in every epoch, or keep the tokens (default: keep those that fit --cache-gigabytes)",
        ),
    ] = None,
    select: Select = "train",
    seed: Annotated[int, Option(help="of the held-out part, the heads' start and the order of videos")] = 0,
    protocol: Published = None,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Train attentive heads, a grid of them at once, on frozen features."""
    from vidssl.evaluation import AttentiveOptions
    from vidssl.evaluation import attentive_probe as run

    grid: dict[str, Any] = {name: values for name, values in (("rates", rate), ("decays", decay)) if values}
    grid["on_the_fly"] = on_the_fly
    fit = AttentiveOptions(tokens, layer, blocks, epochs, probe_batch_size, select=select, seed=seed, **grid)
    result = run(checkpoint, train, val, fit=fit, options=options)
    finish(result, "attentive probe", checkpoint, val, output, protocol)


@with_eval_options
def retrieval(
    checkpoint: Checkpoint,
    data: Annotated[Path, Argument(help="labelled folder or CSV of queries; with --captions, of videos")],
    gallery: Annotated[
        Path | None, Option(help="labelled folder or CSV to find videos in (default: the other ones of DATA)")
    ] = None,
    captions: Annotated[
        Path | None, Option(help="CSV such as video_id,sentence: find videos by text, and text by videos")
    ] = None,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Find videos by videos, by text, and text by videos."""
    from vidssl.evaluation import retrieval as run

    result = run(checkpoint, data, gallery=gallery, captions=captions, options=options)
    finish(result, "retrieval", checkpoint, data, output)


@with_eval_options
def finetune(
    checkpoint: Checkpoint,
    train: Annotated[Path, Argument(help="labelled folder or CSV to train on")],
    val: Annotated[Path, Argument(help="labelled folder or CSV to test on")],
    epochs: Annotated[int, Option(min=1, help="passes over the training videos")] = 10,
    train_batch_size: Annotated[int, Option(min=1, help="videos in a step of training")] = 16,
    rate: Annotated[float, Option(help="learning rate of the encoder")] = 3e-5,
    head_factor: Annotated[float, Option(help="by which the head's rate is higher")] = 10.0,
    decay: Annotated[float, Option(help="weight decay")] = 0.05,
    shots: Annotated[
        int | None, Option(min=1, help="so many training videos of each class (default: all)")
    ] = None,
    save: Annotated[Path | None, Option(help="folder to export the tuned encoder to")] = None,
    seed: Annotated[int, Option(help="of videos chosen, order, crops, and the head's start")] = 0,
    *,
    options: Any,
    output: Result = None,
) -> None:
    """Train the whole encoder and a head on labels, and test once."""
    from vidssl.evaluation import TuningOptions
    from vidssl.evaluation import finetune as run

    fit = TuningOptions(epochs, train_batch_size, rate, head_factor, decay, shots=shots, seed=seed)
    result = run(checkpoint, train, val, fit=fit, save=save, options=options)
    finish(result, "finetune", checkpoint, val, output)
