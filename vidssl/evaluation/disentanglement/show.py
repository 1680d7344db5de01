"""The result of `vidssl disentangle` on the screen: MED apart for static and motion factors, each beside its nats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidssl.errors import counted

_OTHERS = {
    "med_top_1": "MED, top-1",
    "med_miller_madow": "MED, Miller-Madow",
    "completeness": "completeness",
    "mig": "MIG",
    "modularity": "modularity",
    "explicitness": "explicitness",
    "irs": "IRS",
    "beta_vae": "β-VAE score",
    "factor_vae": "FactorVAE score",
    "sap": "SAP",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
}


def show_disentanglement(title: str, result: Mapping[str, Any]) -> None:
    """Three tables, then what was left out and why."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(
        f"{title}: {counted(result['clips'], 'clip')}, {counted(result['dimensions'], 'dimension')}, {counted(result['bins'], 'bin')}; nats of the best single "
        "dimension, mean over factors",
        soft_wrap=True,
    )
    for table in (_summary(result), _factors(result), _other(result)):
        console.print(table)
    for line in report_notes(result):
        console.print(line, markup=False, soft_wrap=True)


def report_notes(result: Mapping[str, Any]) -> list[str]:
    """Sentences below the tables; every clip that was left out is named."""
    data, said = result["data"], list(result["notes"])
    if result["slow_clips"]:
        said.append(
            f"SAP and DCI: fitted on {counted(result['slow_clips'], 'clip')} and tested on as many others"
        )
    said += data["remarks"]
    if data["failed"]:
        said.append(f"left out: {len(data['failed'])} of {counted(data['videos'], 'clip')}")
    return said + [f"left out: {x['path']}: {x['reason']}" for x in data["failed"]]


def _all_rows(result: Mapping[str, Any]) -> dict[str, Any]:
    return {**result["rows"], **result["would_say_if"]}


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # Narrow, so that nothing is cut in a terminal of 80 columns.
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _summary(result: Mapping[str, Any]) -> Any:
    """One row for each kind of codes."""
    groups = [name for name in ("static", "motion") if name in result["rows"]["encoder"]["groups"]]
    groups = groups or ["all"]
    signs = list(result["rows"]["encoder"]["signs"])
    table = _table(
        *(f"{name}\n{what}" for name in groups for what in ("MED", "nats")),
        *(f"{name}\nnats" for name in signs),
    )
    for name, row in _all_rows(result).items():
        cells = [f"{row['groups'][group][key]:.3f}" for group in groups for key in ("med", "nats")]
        cells += [f"{row['signs'][sign]['nats']:.4f}" if sign in row["signs"] else "" for sign in signs]
        table.add_row(name, *cells)
    return table


def _factors(result: Mapping[str, Any]) -> Any:
    """What the best dimension says of every factor, static ones first, and which it is."""
    rows = {name: row for name, row in _all_rows(result).items() if not name.startswith(("axes", "ideal"))}
    table = _table("entropy", "best", *rows)
    encoder = result["rows"]["encoder"]
    for kind in ("static", "motion"):
        for name, found in encoder["factors"].items():
            if result["factors"][name]["kind"] == kind:
                nats = [f"{row['factors'][name]['nats']:.3f}" for row in rows.values()]
                table.add_row(name, f"{found['entropy']:.2f}", str(found["dimension"]), *nats)
        table.add_section()
    return table


def _other(result: Mapping[str, Any]) -> Any:
    """MED's other forms, and the scores that it is compared with, of all factors."""
    names = list(result["other_scores"])
    table = _table(*names)
    found = {
        name: {**result["rows"][name]["groups"]["all"], **result["other_scores"][name]} for name in names
    }
    for key, title in _OTHERS.items():
        if any(key in scores for scores in found.values()):
            values = [scores.get(key) for scores in found.values()]
            table.add_row(title, *("" if value is None else f"{value:.3f}" for value in values))
    return table
