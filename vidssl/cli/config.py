"""``vidssl config``: every key of a recipe, the schema that editors use, and those of results."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from typer import Argument, Option

from vidssl.cli.options import Report

app = typer.Typer(
    name="config", help="Recipes: every key, its type, default and meaning.", no_args_is_help=True
)


@app.command()
def show(
    recipe: Annotated[
        str | None, Argument(help="a YAML file or the name of a shipped recipe; without one: all keys")
    ] = None,
    overrides: Annotated[list[str] | None, Argument(help="key=value, such as train.batch_size=64")] = None,
    output: Report = None,
) -> None:
    """Show every key of a recipe: value, type, default and meaning; * marks those that differ from the default."""
    from vidssl.config import load_config
    from vidssl.files import write_json
    from vidssl.training.recipes.keys import REQUIRED, recipe_keys

    config = None if recipe is None else load_config(recipe, overrides or [], {"data.train": "VIDEOS"})
    rows = []
    for key, value in recipe_keys(config):
        default = (
            "required"
            if key.default is REQUIRED
            else json.dumps(key.default, ensure_ascii=False, default=list)
        )
        shown = "" if value is REQUIRED else json.dumps(value, ensure_ascii=False, default=list)
        changed = config is not None and shown != default
        rows.append(
            {"key": key.name, "value": shown, "kind": key.kind, "default": default, "meaning": key.meaning}
        )
        typer.echo(f"{'*' if changed else ' '} {key.name}: {shown if config is not None else default}")
        typer.echo(f"      {key.kind}" + (f"; default {default}" if changed else ""))
        if key.meaning:
            typer.echo(f"      {key.meaning}")
    if output is not None:
        write_json(output, {"keys": rows})


@app.command()
def schema(
    result: Annotated[
        str | None, Option(help="of the results of a command instead, such as zero-shot, knn or retrieval")
    ] = None,
    output: Report = None,
) -> None:
    """Print the JSON schema of recipes, with which editors complete keys and mark mistakes, or that of results."""
    from vidssl.evaluation.results.schema import result_schema
    from vidssl.files import write_json
    from vidssl.training.recipes.keys import recipe_schema

    found = recipe_schema() if result is None else result_schema(result)
    if output is None:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        write_json(output, found)
