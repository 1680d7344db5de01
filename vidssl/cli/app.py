"""The application: all commands in the order of the help, and the entry point.

Bad input ends in one line on stderr, or one for each mistake of a recipe, and exit code 2; a run that was told to stop in one
line and 75. The same holds for mistakes that typer finds, whose own words and boxes are not shown.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer import Option

from vidssl.cli import concepts, config, data
from vidssl.cli.analysis.disentanglement import disentangle
from vidssl.cli.analysis.geometry import geometry
from vidssl.cli.analysis.temporal import temporal
from vidssl.cli.doctor import doctor
from vidssl.cli.evaluation import classify, dynamics, interpolate, knn, linear_probe, zero_shot
from vidssl.cli.everything import compare, evaluate_all
from vidssl.cli.exporting import export
from vidssl.cli.extraction import extract, pca
from vidssl.cli.probes import attentive_probe, finetune, retrieval
from vidssl.cli.runs import app_, report, runs
from vidssl.cli.tracking import track
from vidssl.cli.training import STOPPED, demo, pretrain, try_
from vidssl.errors import OPTION, Stopped, VidsslError, did_you_mean
from vidssl.launching import keep_to_cpu, relaunch_on_cpu, say_end
from vidssl.schema import in_words

# Of the library that typer is built on, of which it has a copy of its own in some versions.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="vidssl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("try")(try_)
app.command("app")(app_)
for command in (
    pretrain,
    zero_shot,
    linear_probe,
    attentive_probe,
    finetune,
    knn,
    retrieval,
    evaluate_all,
    compare,
    extract,
    pca,
    classify,
    track,
    temporal,
    geometry,
    dynamics,
    disentangle,
    interpolate,
    export,
    demo,
    runs,
    report,
    doctor,
):
    app.command()(command)
app.add_typer(data.app)
app.add_typer(concepts.app)
app.add_typer(config.app)


def _say_version(wanted: bool) -> None:
    if wanted:
        from vidssl.version import __version__

        typer.echo(f"vidssl {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Self-supervised learning for video: pretrain on a folder, evaluate what was learned."""


def main() -> None:
    """Entry point of the `vidssl` command."""
    relaunch_on_cpu(sys.argv[1:])
    keep_to_cpu()
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        if said := _usage(error):
            say_end(said, 2)
        sys.exit(2)
    except VidsslError as error:
        say_end(str(error), 2)
        sys.exit(2)
    except typer.Abort:
        sys.exit(1)
    except Stopped as stop:
        say_end(str(stop), STOPPED)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        sys.exit(130)


def _usage(error: Any) -> str:
    """A mistake in how a command was called, in one line; empty where nothing was given, and the help has been shown."""
    said = " ".join(error.format_message().split()).removesuffix(".")
    if not said:
        return ""
    found = re.match(r"Invalid value for '(?P<name>[^']*)'[^:]*: (Value error, )?(?P<what>.*)", said)
    if found is None:
        place = error.ctx.command_path if error.ctx is not None else "vidssl"
        return f"{said[0].lower()}{said[1:]}; `{place} --help` shows what there is".replace(". Did", "; did")
    name, what = found["name"], found["what"]
    if one_of := re.match(r"'(.*)' is not one of (.*)", what):
        value, allowed = one_of[1], re.findall(r"'([^']*)'", one_of[2])
        return OPTION.format(
            name=name, value=value, guess=did_you_mean(value, allowed), allowed=", ".join(allowed)
        )
    if isinstance(error.__cause__, ValidationError):
        detail = error.__cause__.errors(include_url=False)[0]
        return f"{name}={detail['input']}: {in_words(detail)}"
    return f"{name}: {what}"
