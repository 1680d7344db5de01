"""Arguments and options that several commands share, written once."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from vidssl.errors import VidsslError
from vidssl.launching import asked_for_cpu

if TYPE_CHECKING:
    from vidssl.evaluation import EvalOptions

Checkpoint = Annotated[
    str,
    Argument(
        help="run, checkpoint or exported encoder; or a model: NAME:TAG of open_clip, local-dir:/path, hf-hub:org/repo"
    ),
]
Result = Annotated[
    Path | None,
    Option(
        "--output",
        help="result file (default: in results/ of the checkpoint's folder; of a named model, of this one)",
    ),
]
Templates = Annotated[str | None, Option(help="preset, file, own (of the class file), or a template with {}")]
Select = Annotated[
    Literal["train", "val"],
    Option(help="choose settings on held-out training videos, or (scores too good) on the test itself"),
]
Videos = Annotated[Path, Argument(help="folder of videos or CSV")]
Missing = Annotated[
    Literal["error", "skip", "count"],
    Option(help="listed videos that do not exist: an error, left out, or counted as failed"),
]
Report = Annotated[Path | None, Option("--output", help="write the report as JSON")]
Folder = Annotated[Path | None, Option(help="folder of results (default: in results/ of the checkpoint's folder)")]  # fmt: skip
Plots = Annotated[bool, Option(help="draw figures (needs matplotlib)")]


def _list_published(context: typer.Context, name: str | None) -> str | None:
    """Print all protocols of the command where that is asked for."""
    if name == "list":
        from vidssl.evaluation.published import all_lines

        for line in all_lines(str(context.command.name)):
            typer.echo(line)
        raise typer.Exit
    return name


Published = Annotated[
    str | None,
    Option(
        "--protocol",
        callback=_list_published,
        is_eager=True,
        help="frames, views and more as others published them, by name; what is given as well wins; list: show all",
    ),
]


def finish(
    result: dict[str, Any],
    title: str,
    checkpoint: str,
    data: Path,
    output: Path | None,
    protocol: Any = None,
) -> None:
    """Print the table and write the JSON, on the first process.

    Args:
        protocol: what `as_published` recorded, None where none was named.
    """
    if protocol is not None:
        result["published"] = protocol
    from vidssl import distributed
    from vidssl.evaluation.answers.files import write_answers
    from vidssl.evaluation.official import show_splits
    from vidssl.evaluation.report import result_file, show_result
    from vidssl.files import write_json

    if distributed.rank() == 0:
        file = output or result_file(Path(checkpoint), result["task"], data, result)
        write_json(file, result)
        show = show_splits if "splits" in result else show_result
        show(f"{title} on {data}", result)
        beside = "".join(f", {one.name}" for one in write_answers(file, result))
        typer.echo(f"written to {file}{beside}")


def eval_arguments(
    *,
    frames: Annotated[int | None, Option(min=1, help="frames of a clip (default: as trained)")] = None,
    seconds: Annotated[
        float | None,
        Option(help="temporal extent of a clip, 0 for the whole video (default: as trained)"),
    ] = None,
    stride: Annotated[
        int | None, Option(min=1, help="frames between two frames, instead of --seconds")
    ] = None,
    clips: Annotated[int, Option(min=1, help="clips of a video, averaged")] = 3,
    crops: Annotated[int, Option(help="spatial crops of a clip: 1 or 3 (3 needs --resize crop)")] = 1,
    resize: Annotated[
        Literal["squash", "crop"], Option(help="squash: the whole frame as a square; crop: its centre")
    ] = "squash",
    size: Annotated[
        int | None, Option(min=1, help="side of the square in pixels (default: the model's)")
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="videos encoded at a time")] = 16,
    workers: Annotated[int, Option(min=0, help="decoding processes")] = 2,
    decoder: Annotated[
        Literal["auto", "decord", "pyav", "torchcodec"],
        Option(help="auto: the fastest here (`vidssl doctor --benchmark` measures), then PyAV"),
    ] = "auto",
    device: Annotated[
        str | None, Option(help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    ] = None,
    missing: Missing = "error",
    cache: Annotated[
        Path | None,
        Option(help="folder in which features are kept (default: vidssl/features in the user's cache)"),
    ] = None,
    no_cache: Annotated[bool, Option("--no-cache", help="keep no features, and read none")] = False,
    cache_gigabytes: Annotated[float, Option(help="the most that folder holds")] = 20.0,
) -> None:
    """The options of all evaluations; only the signature is used."""


def eval_options(
    seconds: float | None = None,
    decoder: str = "auto",
    device: str | None = None,
    cache: Path | None = None,
    no_cache: bool = False,
    **as_given: Any,
) -> EvalOptions:
    """What `eval_arguments` declares -> how videos are shown to an encoder; also joins the processes of
    `accelerate launch`."""
    from accelerate import PartialState

    from vidssl.evaluation import EvalOptions

    on_cpu = asked_for_cpu()
    state = PartialState(cpu=on_cpu)
    if device is None and (on_cpu or state.num_processes > 1):
        device = "cpu" if on_cpu else str(state.device)
    seconds = math.inf if seconds == 0 else seconds
    if no_cache and cache is not None:
        raise VidsslError(f"--cache {cache}: together with --no-cache; give one of them")
    kept: Path | bool = False if no_cache else cache or True
    return EvalOptions(seconds=seconds, backend=decoder, device=device, cache=kept, **as_given)


def settled_threads(workers: int, device: str | None = None, recorded: int | None = None) -> int | None:
    """CPU threads for what follows, in one line on standard error; None where the user or a launcher has said, or a GPU
    computes.

    Args:
        workers: decoding processes beside this one. device: as the user named it. recorded: of a run to be resumed.
    """
    from vidssl import threads

    if threads.chosen_by_user():
        return None
    import torch

    if device != "cpu" if device is not None else torch.cuda.is_available() and not asked_for_cpu():
        return None
    if recorded is not None:
        chosen, why = recorded, "as the run was begun with"
    else:
        cores = threads.look_at_cores()
        chosen = threads.choose_threads(cores, workers, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        why = f"{cores.usable:g} cores, {cores.busy:.1f} of them busy, {workers} decoding workers"
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"CPU threads: {chosen} ({why}; OMP_NUM_THREADS sets another number)", err=True)
    return chosen


def with_eval_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the command's `options` parameter by those of `eval_arguments`."""
    shared = inspect.signature(eval_arguments, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters
    published = any(p.annotation == Published for p in own.values())  # and no other option of that name

    def wrapper(**given: Any) -> None:
        context = given.pop("context", None)
        if published and given["protocol"] is not None:
            given = _as_published(command, context, given)
        chosen = {name: given.pop(name) for name in shared}
        options = eval_options(**chosen)
        from vidssl.threads import computing_with

        with computing_with(settled_threads(options.workers, options.device)):
            command(**given, options=options)

    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in own.items() if name != "options"]
    if published:
        kept.append(inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature([*kept, *shared.values()])  # type: ignore[attr-defined]
    return wrapper


def _as_published(
    command: Callable[..., None], context: typer.Context, given: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a command with those of the protocol that is named, which becomes what a result says of it."""
    from vidssl.evaluation.published import as_published

    said = {
        name for name in given if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    }
    chosen = as_published(command.__name__.replace("_", "-"), given["protocol"], given, said)
    return {**chosen.values, "protocol": chosen.record}
