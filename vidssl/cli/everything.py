"""``vidssl evaluate-all | compare``: every protocol on a list of data sets, and results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from vidssl.cli.options import Checkpoint, Report, with_eval_options
from vidssl.errors import VidsslError


@with_eval_options
def evaluate_all(
    checkpoint: Checkpoint,
    sets: Annotated[list[Path], Argument(help="data sets: folders with train/ and val/ in them")],
    protocol: Annotated[
        list[str], Option(help="zero-shot, knn, linear-probe; again for more (default: all)")
    ] = [],  # noqa: B006
    *,
    options: Any,
    output: Report = None,
) -> None:
    """Run every protocol on a list of data sets, and show one table."""
    from rich.console import Console
    from rich.table import Table

    from vidssl import distributed
    from vidssl.evaluation.everything import PROTOCOLS, evaluate_all, record, rows
    from vidssl.evaluation.metrics import format_score
    from vidssl.evaluation.notes import row_title
    from vidssl.evaluation.report import result_file
    from vidssl.files import write_json

    outcomes = []
    for one in evaluate_all(checkpoint, sets, protocols=protocol or list(PROTOCOLS), options=options):
        outcomes.append(one)
        if one.result is not None and distributed.rank() == 0:
            file = write_json(
                result_file(Path(checkpoint), one.result["task"], one.data, one.result), one.result
            )
            typer.echo(f"{one.protocol} on {one.data}: written to {file}")
    if distributed.rank() > 0:
        return
    failed = [one for one in outcomes if one.result is None]
    if outcomes and len(failed) == len(outcomes):
        why = dict.fromkeys(one.why_not for one in failed)
        raise VidsslError(f"no protocol could be run: {'; '.join(why)}")
    table = Table()
    own = next(row_title("trained", one.result) for one in outcomes if one.result is not None)
    for name in ("data", "protocol", own, "untrained", "motion energy", "chance"):
        table.add_column(name, overflow="fold")
    for row in rows(outcomes):
        scores = (row[name] for name in ("trained", "untrained", "motion energy", "chance"))
        table.add_row(row["data"], row["protocol"], *("" if x is None else format_score(x) for x in scores))
    Console(highlight=False).print(table)
    for one in failed:
        typer.echo(f"{one.protocol} on {one.data}: not run: {one.why_not}")
    if output is not None:
        write_json(output, record(checkpoint, outcomes))


def compare(
    results: Annotated[
        list[Path], Argument(help="result files, the first of each protocol is the reference")
    ],
    row: Annotated[list[str], Option(help="of the results' tables; again for more (default: trained…)")] = [],  # noqa: B006
    output: Annotated[Path, Option(help="folder for compare.json, compare.csv and compare.png")] = Path(
        "results/compare"
    ),
) -> None:
    """Put results side by side: differences with paired tests, and which numbers are not comparable, and why."""
    from vidssl.evaluation.side_by_side.compare import compare
    from vidssl.evaluation.side_by_side.show import show_comparison, write_comparison

    record = compare(results, row)
    show_comparison(record)
    files = write_comparison(record, output)
    typer.echo(f"written to {output}: {', '.join(file.name for file in files)}")
