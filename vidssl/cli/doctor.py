"""``vidssl doctor``: what works on this machine, and whether the processes of a run agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from vidssl.cli.options import Report
from vidssl.errors import VidsslError


def doctor(
    recipe: Annotated[str | None, Argument(help="with --distributed: compare this recipe too")] = None,
    overrides: Annotated[list[str] | None, Argument(help="key=value of the recipe")] = None,
    output: Report = None,
    encoders: Annotated[
        bool, Option("--encoders", help="list encoders by family, and how each can learn of time")
    ] = False,
    benchmark: Annotated[bool, Option(help="measure the decoders, and have auto take the fastest")] = False,
    videos: Annotated[
        Path | None, Option(help="with --benchmark: measure on some files of this folder or list")
    ] = None,
    distributed: Annotated[
        bool,
        Option(
            "--distributed",
            help="under a launcher, before a run: places, sums and bandwidth of its processes, and whether recipe, videos and "
            "versions are the same on all of them; exits with 2 where something differs",
        ),
    ] = False,
) -> None:
    """Show versions, devices, and which decoders work and why others do not; or which encoders there are."""
    from vidssl.doctor.machine import diagnose, diagnose_encoders, measure, show, show_encoders, show_measured
    from vidssl.files import write_json

    if distributed:
        _doctor_distributed(recipe, overrides or [], output)
        return
    if recipe is not None:
        raise VidsslError(f"{recipe}: a recipe is for --distributed")
    if videos is not None and not benchmark:
        raise VidsslError(f"--videos {videos}: is for --benchmark")
    report = diagnose_encoders() if encoders else diagnose()
    (show_encoders if encoders else show)(report)
    if benchmark:
        report["benchmark"] = measure(videos)
        show_measured(report["benchmark"])
    if output is not None:
        write_json(output, report)


def _doctor_distributed(recipe: str | None, overrides: list[str], output: Path | None) -> None:
    from vidssl.distributed import rank
    from vidssl.doctor.processes import examine, show, take_seat
    from vidssl.files import write_json

    report = examine(take_seat(), recipe, overrides)
    if rank() == 0:
        show(report)
        if output is not None:
            write_json(output, report)
    if report["findings"]:
        raise VidsslError("\n".join(report["findings"]))
