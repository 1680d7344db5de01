"""Does latent distribution matching find the true latents? R² on data whose latents are known, beside published numbers.

    OMP_NUM_THREADS=1 python scripts/identifiability.py                            # all rows, more than an hour on one core
    OMP_NUM_THREADS=1 python scripts/identifiability.py --tasks t1 t2 --budget quick      # a few minutes

Every run trains an encoder together with a predictor of this package (`vidssl.objectives.ldm.objective.LDM`) on data of
`vidssl.synthetic.sequences`, then maps what was learned onto the true latents by least squares with intercept, fitted
on one set of sequences and scored on another. Finished runs are kept as one JSON each under --runs and not repeated,
so an interrupted call continues. Writes identifiability.json and .md to --output: of every row and seed under --runs
the longest run.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from identifiability_rows import ROWS, Data, Row, Sample, WithNoise
from torch import Tensor, nn

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.environment import environment
from vidssl.files import read_json, write_json, write_text
from vidssl.objectives.ldm.objective import LDM

# -- training ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def start_at_unit_variance(encoder: nn.Module, x: Tensor) -> None:
    """Scale the last layer so that the latents of x start with mean 0 and variance 1, the unit in which R = I.

    As PyTorch initialises them they are 50 times smaller: a filter then first learns that all is noise, and hundreds
    of updates pass before it unlearns it; a recurrent predictor waits until they have grown.
    """
    latents = encoder.latents if isinstance(encoder, WithNoise) else encoder
    assert isinstance(latents, nn.Sequential)
    z, last = latents(x).flatten(0, 1), latents[-1]
    std, mean = z.std(0), z.mean(0)
    last.weight.div_(std[:, None])
    last.bias.sub_(mean).div_(std)


def parameter_groups(row: Row, encoder: nn.Module, objective: LDM) -> list[dict[str, Any]]:
    if isinstance(objective.model, RecurrentPredictor):
        parts = {"encoder": encoder, "lstm": objective.model.lstm, "head": objective.model.head}
    elif isinstance(encoder, WithNoise):
        parts = {"encoder": encoder.latents, "noise": encoder.noise, "model": objective.model}
    else:
        parts = {"encoder": encoder, "model": objective.model}
    groups = []
    for name, part in parts.items():
        decay = row.weight_decay if name in ("encoder", "noise") else 0.0
        rate = row.lr * row.rates[name]
        groups.append({"params": list(part.parameters()), "lr": rate, "start": rate, "weight_decay": decay})
    return groups


def train(row: Row, seed: int, updates: int, checkpoints: int = 10) -> dict[str, Any]:
    """One run: its scores before, during and after training."""
    data = row.data(row.batch, seed)
    torch.manual_seed(seed)
    encoder, objective = row.encoder(), row.objective(seed)
    if row.unit_start:
        start_at_unit_variance(encoder, data.fit[0][: row.batch])
    optimiser = torch.optim.Adam(parameter_groups(row, encoder, objective), lr=row.lr)
    untrained = evaluate(row, encoder, objective, data)
    marks = {round(updates * (i + 1) / checkpoints) for i in range(checkpoints)}
    curve, logs, seconds = [], {}, 0.0
    began = time.perf_counter()
    for step, x in zip(range(1, updates + 1), data.batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = group["start"] * row.decay((step - 1) / updates)
        output = objective([encoder(x)])
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        objective.after_step()
        if step in marks or step == 1:
            seconds += time.perf_counter() - began
            logs = {key.removeprefix("ldm/"): round(float(value), 4) for key, value in output.logs.items()}
            scores = evaluate(row, encoder, objective, data)
            curve.append({"updates": step, "seconds": round(seconds, 1), **scores, **logs})
            print(
                f"  {row.name} {step}/{updates}: R² {scores['r2']:.4f}, {seconds:.0f} s, {logs}", flush=True
            )
            began = time.perf_counter()
    return {
        "row": row.name, "seed": seed, "updates": updates, "batch": row.batch, "seconds": round(seconds, 1),
        "untrained": untrained, "trained": curve[-1], "curve": curve,
    }  # fmt: skip


@torch.inference_mode()
def evaluate(row: Row, encoder: nn.Module, objective: LDM, data: Data) -> dict[str, Any]:
    """R² from what the predictor believes (`r2`; its filtered state), from the encoder alone (`r2_z`), and for a recurrent
    predictor, whose `r2` is that of the encoder, from both the latents and what it predicted for them (`r2_both`)."""
    (x_fit, true_fit), (x, true) = data.fit, data.held_out
    found_fit, found = encode(encoder, objective, x_fit), encode(encoder, objective, x)
    scores: dict[str, Any] = {
        "r2": r2(found_fit[0], true_fit, found[0], true),
        "r2_z": r2(found_fit[1], true_fit, found[1], true),
        "std_z": float(found[1].flatten(0, 1).std(0).mean()),
    }
    model = objective.model
    if isinstance(model, RecurrentPredictor):
        both_fit, both = (torch.cat([z[:, 1:], model(z).mean], dim=-1) for z in (found_fit[1], found[1]))
        scores["r2_both"] = r2(both_fit, true_fit[:, 1:], both, true[:, 1:])
    if isinstance(model, LinearGaussianSSM):
        scores["angles"] = [nearest_angle(model.eigenvalues(), angle) for angle in row.angles]
        if data.transition is not None:
            scores |= dynamics_scores(model, data.transition, found[1], true)
    return scores


def encode(encoder: nn.Module, objective: LDM, x: Tensor) -> Sample:
    """(N, T, n) states and (N, T, m) latents; the same for a recurrent predictor, which has no belief about now."""
    rows = torch.cat([encoder(part) for part in x.split(200)])
    z, raw = rows[..., : objective.dim], rows[..., objective.dim :]
    if isinstance(objective.model, LinearGaussianSSM):
        noise = input_noise(raw) if objective.noise_from_input else None
        return objective.model.filter(z, noise).filt_mean, z
    return z, z


def r2(found_fit: Tensor, true_fit: Tensor, found: Tensor, true: Tensor) -> float:
    """Coefficient of determination on held-out rows, the mean over factors; least squares with intercept, float64."""
    weights = least_squares(found_fit, true_fit)
    predicted, truth = with_intercept(found) @ weights, true.flatten(0, -2).double()
    residual = (truth - predicted).square().sum(0)
    return float((1 - residual / (truth - truth.mean(0)).square().sum(0)).mean())


def with_intercept(x: Tensor) -> Tensor:
    rows = x.flatten(0, -2).double()
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """(D + 1, d) so that [x, 1] W is nearest to y; of the smallest norm where x has collapsed."""
    return torch.linalg.lstsq(with_intercept(x), y.flatten(0, -2).double(), driver="gelsd").solution


def nearest_angle(eigenvalues: Tensor, angle: float) -> float:
    """Of the eigenvalues, the angle nearest to a true one, in radians per step."""
    angles = eigenvalues.angle().abs()
    return float(angles[(angles - angle).abs().argmin()])


def dynamics_scores(model: LinearGaussianSSM, A: Tensor, z: Tensor, true: Tensor) -> dict[str, float]:
    """How near the learned transition is to the true one, in the coordinates of either.

    lds_error is ||A - L^-1 Â L||_F with z = L x + b; dynamics_r2 compares the learned step of z with the true step
    of what z is mapped onto, mapped back.
    """
    matrices = model.matrices()
    learned, offset = matrices.A.double(), matrices.b.double() if matrices.b is not None else 0.0
    L = least_squares(true, z)[:-1].T
    error = torch.linalg.matrix_norm(A.double() - torch.linalg.solve(L, learned @ L))
    rows = z.flatten(0, 1).double()
    believed = rows @ learned.T + offset
    forward, back = least_squares(z, true), least_squares(true, z)
    moved = with_intercept(with_intercept(with_intercept(z) @ forward)[:, :-1] @ A.double().T) @ back
    residual = (believed - moved).square().sum(0) / (believed - believed.mean(0)).square().sum(0)
    return {"lds_error": float(error), "dynamics_r2": float((1 - residual).mean())}


# -- report ------------------------------------------------------------------------------------------------------------


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    rows = {row.name: row for row in ROWS}
    lines = [
        "| data | entropy | seed | R² | R² from z | with prediction | untrained | published | published in | goal | updates (published) | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        row, trained = rows[run["row"]], run["trained"]
        both = f"{trained['r2_both']:.3f}" if "r2_both" in trained else ""
        met = "" if row.goal is None else f"{row.goal:.2f} {'met' if trained['r2'] >= row.goal else 'missed'}"
        lines.append(
            f"| {row.task} {row.title} | {row.entropy} | {run['seed']} | **{trained['r2']:.3f}** | {trained['r2_z']:.3f} | {both} | "
            f"{run['untrained']['r2']:.3f} | {row.published} | {row.source if row.published != '-' else ''} | {met} | "
            f"{run['updates']} ({row.published_updates or '-'}) | {run['seconds'] / 60:.1f} |"
        )
    return lines


def dynamics_table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Angles of the learned transition beside the true ones, and how well its matrix is known."""
    rows, lines = {row.name: row for row in ROWS}, []
    for run in runs:
        row, trained, before = rows[run["row"]], run["trained"], run["untrained"]
        for i, true in enumerate(row.angles):
            found, first = trained["angles"][i], before["angles"][i]
            lines.append(
                f"| {run['row']} | rotation per step, rad | {found:.4f} | {first:.4f} | {true:.4f} |"
            )
        if "lds_error" in trained:
            lines.append(
                f"| {run['row']} | LDS error | {trained['lds_error']:.4f} | {before['lds_error']:.4f} | 0 |"
            )
            lines.append(
                f"| {run['row']} | dynamics R² | {trained['dynamics_r2']:.4f} | {before['dynamics_r2']:.4f} | 1 |"
            )
    if not lines:
        return []
    return [
        "",
        "## Dynamics",
        "",
        "| row | quantity | learned | untrained | true |",
        "|---|---|---|---|---|",
        *lines,
    ]


def collapse_table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The control: without entropy and without a cut gradient the likelihood rises while the latents die."""
    lines = []
    for run in (run for run in runs if run["row"].endswith("-none")):
        for point in (run["curve"][0], run["curve"][-1]):
            lines.append(
                f"| {run['row']} | {point['updates']} | {point['alignment']:.1f} | {point['std_z']:.4f} | {point['r2']:.3f} |"
            )
    if not lines:
        return []
    header = ["| row | updates | log-likelihood of a sequence, nats | std(z) | R² |", "|---|---|---|---|---|"]
    return ["", "## Without entropy: collapse", "", *header, *lines]


def curve_table(runs: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", "## R² against updates", "", "| row | R² (updates) |", "|---|---|"]
    for run in runs:
        points = [f"{point['r2']:.3f} ({point['updates']})" for point in run["curve"] if point["updates"] > 1]
        lines.append(f"| {run['row']} | {', '.join(points)} |")
    return lines


def longest(folder: Path) -> list[dict[str, Any]]:
    """Of every row and seed the run with the most updates, in the order of the table."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for run in map(read_json, folder.glob("*.json")):
        key = (run["row"], run["seed"])
        if key not in found or run["updates"] > found[key]["updates"]:
            found[key] = run
    return [found[key] for row in ROWS for key in sorted(found) if key[0] == row.name]


def report(runs: Sequence[dict[str, Any]], output: Path) -> str:
    machine = f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    lines = [
        "# Identifiability",
        "",
        f"{machine}. R² on held-out sequences, least squares with intercept. Published numbers are those of the papers, "
        "not measured here. Made by scripts/identifiability.py; read docs/identifiability.md with it.",
        "",
        *table(runs),
        *dynamics_table(runs),
        *collapse_table(runs),
        *curve_table(runs),
    ]
    text = "\n".join(lines) + "\n"
    write_text(output / "identifiability.md", text)
    write_json(output / "identifiability.json", {"machine": machine, "runs": list(runs)})
    return text


def chosen(names: Sequence[str]) -> list[Row]:
    """Rows by task ("t2") or by name ("t2-knn"); all when none are named."""
    known = {row.name for row in ROWS} | {row.task for row in ROWS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"--tasks {unknown[0]}: unknown (allowed: {', '.join(sorted(known))})")
    return [row for row in ROWS if not names or row.task in names or row.name in names]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="*", default=[], help="t1 … t6 or single rows such as t2-knn")
    parser.add_argument("--budget", choices=("quick", "full"), default="full")
    parser.add_argument("--updates", type=int, help="of every run, in place of the budget's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--report", action="store_true", help="train nothing, tabulate what is finished")
    parser.add_argument("--runs", type=Path, default=Path("runs/identifiability"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    options.runs.mkdir(parents=True, exist_ok=True)
    for row in [] if options.report else chosen(options.tasks):
        for seed in options.seeds:
            updates = options.updates or (row.quick if options.budget == "quick" else row.updates)
            file = options.runs / f"{row.name}-seed{seed}-{updates}.json"
            if not file.exists():
                print(f"{row.name}, seed {seed}: {updates} updates", flush=True)
                write_json(file, {**train(row, seed, updates), "environment": environment()})
    print(report(longest(options.runs), options.output))


if __name__ == "__main__":
    main()
