"""The tables of scripts/identifiability.py."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from identifiability_rows import ROWS, Row

from vidssl.files import read_json, write_json, write_text

Run = dict[str, Any]
NEAR = 0.01  # of the published number


def finished(folder: Path, output: Path) -> tuple[list[Run], dict[str, dict[str, float]]]:
    """Of every cell the run with the most updates, in the order of the table; and the ceilings, where computed.

    What the last report of --output holds counts as well, so that a new --runs adds to it and never takes from it; of two
    runs as long, the one in the folder.
    """
    known = recorded(output)
    found: dict[tuple[str, int], Run] = {}
    for run in [*(read_json(file) for file in folder.glob("*-seed*.json")), *known["runs"]]:
        key = (run["row"], run["seed"])
        if key not in found or run["updates"] > found[key]["updates"]:
            found[key] = run
    file = folder / "ceilings.json"
    ordered = [found[key] for row in ROWS for key in sorted(found) if key[0] == row.name]
    return ordered, read_json(file) if file.exists() else known["ceilings"]


def recorded(output: Path) -> dict[str, Any]:
    """The last report in a folder; without one, a report of nothing."""
    file = output / "identifiability.json"
    return read_json(file) if file.exists() else {"runs": [], "ceilings": {}}


def table(runs: Sequence[Run], ceilings: dict[str, dict[str, float]], seeds: Sequence[int]) -> list[str]:
    """A line a row: every seed's value and the mean of those that are not cut short; what was not run is said."""
    lines = [
        "| row | data | updates (published) | R², mean | of seeds | R² of the published video, mean | of seeds | published "
        "| within 0.01 | ceiling: R², video | untrained | minutes a seed |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        mine = [run for run in runs if run["row"] == row.name]
        whole = [run for run in mine if run["updates"] >= row.updates]
        pooled, video = means(whole, "r2"), means(whole, "r2_video")
        ceiling = ceilings.get(row.task)
        cells = [
            row.name,
            row.title,
            f"{row.updates} ({row.published_updates or '-'})",
            "" if pooled is None else f"**{pooled:.3f}**",
            by_seed(row, mine, seeds, "r2"),
            "" if video is None else f"**{video:.3f}**",
            by_seed(row, mine, seeds, "r2_video") if row.of_one_video else "",
            "-" if row.published is None else f"{row.published:.3f}",
            verdict(row, whole, ceiling),
            "" if ceiling is None else f"{ceiling['r2']:.3f}, {ceiling['r2_video']:.3f}",
            ", ".join(f"{run['untrained']['r2']:.2f}" for run in mine),
            f"{sum(run['seconds'] for run in mine) / 60 / len(mine):.1f}" if mine else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def means(runs: Sequence[Run], key: str) -> float | None:
    values = [run["trained"][key] for run in runs if key in run["trained"]]
    return sum(values) / len(values) if values else None


def by_seed(row: Row, runs: Sequence[Run], seeds: Sequence[int], key: str) -> str:
    """ "1: 0.951, 2: 0.948 (400 updates of 8); 3 not run": updates and batch where they are not those of the row."""
    known = {run["seed"]: run for run in runs if key in run["trained"]}
    said = []
    for seed, run in sorted(known.items()):
        other = (run["updates"], run["batch"]) != (row.updates, row.batch)
        note = f" ({run['updates']} updates of {run['batch']})" if other else ""
        said.append(f"{seed}: {run['trained'][key]:.3f}{note}")
    missing = ", ".join(str(seed) for seed in seeds if seed not in known)
    return "; ".join(part for part in (", ".join(said), missing and f"{missing} not run") if part)


def verdict(row: Row, runs: Sequence[Run], ceiling: dict[str, float] | None) -> str:
    """Whether the mean is at most 0.01 below the published number, by its protocol: one video where that was one."""
    key = "r2_video" if row.of_one_video else "r2"
    mean = means(runs, key)
    if row.published is None or mean is None:
        return ""
    if mean >= row.published - NEAR:
        return "yes"
    short = f"no, {row.published - mean:.3f} short"
    return short if ceiling is None else f"{short}; {ceiling[key] - mean:.3f} below the ceiling"


def dynamics_table(runs: Sequence[Run]) -> list[str]:
    """Angles of the learned transition beside the true ones, and how well its matrix is known."""
    rows, lines = {row.name: row for row in ROWS}, []
    for run in runs:
        row, trained, before = rows[run["row"]], run["trained"], run["untrained"]
        cell = f"{row.name}, seed {run['seed']}"
        for i, true in enumerate(row.angles):
            found, first = trained["angles"][i], before["angles"][i]
            lines.append(f"| {cell} | rotation per step, rad | {found:.4f} | {first:.4f} | {true:.4f} |")
        if "lds_error" in trained:
            lines.append(
                f"| {cell} | LDS error | {trained['lds_error']:.4f} | {before['lds_error']:.4f} | 0 |"
            )
            lines.append(
                f"| {cell} | dynamics R² | {trained['dynamics_r2']:.4f} | {before['dynamics_r2']:.4f} | 1 |"
            )
    header = ["| cell | quantity | learned | untrained | true |", "|---|---|---|---|---|"]
    return ["", "## Dynamics", "", *header, *lines] if lines else []


def collapse_table(runs: Sequence[Run]) -> list[str]:
    """The control: without entropy and without a cut gradient the likelihood rises while the latents die."""
    lines = []
    for run in (run for run in runs if run["row"] == "t2-none"):
        for point in (run["curve"][0], run["curve"][-1]):
            lines.append(
                f"| {run['row']}, seed {run['seed']} | {point['updates']} | {point['alignment']:.1f} "
                f"| {point['std_z']:.4f} | {point['r2']:.3f} |"
            )
    header = [
        "| cell | updates | log-likelihood of a sequence, nats | std(z) | R² |",
        "|---|---|---|---|---|",
    ]
    return ["", "## Without entropy: collapse", "", *header, *lines] if lines else []


def curve_table(runs: Sequence[Run]) -> list[str]:
    lines = ["", "## R² against updates", "", "| cell | R² (updates) |", "|---|---|"]
    for run in runs:
        points = [f"{point['r2']:.3f} ({point['updates']})" for point in run["curve"] if point["updates"] > 1]
        lines.append(f"| {run['row']}, seed {run['seed']} | {', '.join(points)} |")
    return lines


def report(
    runs: Sequence[Run], ceilings: dict[str, dict[str, float]], seeds: Sequence[int], output: Path
) -> str:
    machine = f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    lines = [
        "# Identifiability",
        "",
        f"{machine}. R² by least squares with intercept, fitted on other sequences. Published numbers are those of the "
        "papers, not measured here. Made by scripts/identifiability.py; read docs/identifiability.md with it.",
        "",
        *table(runs, ceilings, seeds),
        *dynamics_table(runs),
        *collapse_table(runs),
        *curve_table(runs),
    ]
    text = "\n".join(lines) + "\n"
    write_text(output / "identifiability.md", text)
    write_json(
        output / "identifiability.json", {"machine": machine, "ceilings": ceilings, "runs": list(runs)}
    )
    return text
