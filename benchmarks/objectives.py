"""Time and peak memory of the objectives, forward and backward, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/objectives.py            # ten minutes or more on one core
    OMP_NUM_THREADS=1 python benchmarks/objectives.py --quick    # under a minute

Rows are all views of all videos (two views, so rows / 2 videos). Contenders take turns within a repeat, so that a
disturbance of the machine hits them alike; times are medians. Writes objectives.json, .md and .png (with matplotlib).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

# Before torch: its profiler, which measures the memory, otherwise writes a line for every start and stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vidssl.objectives.baselines import lightly_loss
from vidssl.objectives.hsic import SSLHSIC, hsic_exact, hsic_random_features
from vidssl.objectives.hsic.random_features import draw_features
from vidssl.objectives.ressl import ReSSL
from vidssl.objectives.sigreg import SIGReg
from vidssl.objectives.spectral import spectral_contrastive_loss

Loss = Callable[[Tensor, Tensor], Tensor]
BASELINE = "NT-Xent (lightly)"
FEATURES = 512
QUEUE = 4096


def contenders(dim: int, device: torch.device) -> dict[str, Loss]:
    """Losses of two views (B, d) by name."""
    generator = torch.Generator().manual_seed(0)
    module = SSLHSIC(estimator="exact", target=False).to(device)
    relational = ReSSL(dim, QUEUE).to(device)
    sigreg, theirs = SIGReg(global_views=1), lightly_loss("LeJEPALoss").to(device)

    def exact(a: Tensor, b: Tensor) -> Tensor:
        xy, xx = hsic_exact([a, b], 1.0)
        return 3 * xx.sqrt() - xy

    def random_features(a: Tensor, b: Tensor) -> Tensor:
        draws = draw_features(dim, FEATURES, generator, device=device, dtype=a.dtype)
        xy, xx = hsic_random_features([a, b], 1.0, draws)
        return 3 * xx.sqrt() - xy

    return {
        "HSIC exact": exact,
        "HSIC exact, whole module": lambda a, b: module([a, b]).loss,
        f"HSIC rff D={FEATURES}": random_features,
        "HSIC transcribed": transcribed_hsic,
        BASELINE: lightly_loss("NTXentLoss"),
        "VICReg (lightly)": lightly_loss("VICRegLoss"),
        "Barlow Twins (lightly)": lightly_loss("BarlowTwinsLoss"),
        "spectral": spectral_contrastive_loss,
        "spectral transcribed": transcribed_spectral,
        "SIGReg": lambda a, b: sigreg([a, b]).loss,
        "SIGReg (lightly)": lambda a, b: theirs(local_proj=b[None], global_proj=a[None]),
        f"ReSSL K={QUEUE}": lambda a, b: relational([a], [b]).loss,
    }


def transcribed_hsic(a: Tensor, b: Tensor, scale: float = 1.0, gamma: float = 3.0) -> Tensor:
    """The formulas word for word: kernel matrix, centring matrix, label matrix, left to autograd."""
    rows = torch.cat([a, b])
    n, videos = len(rows), len(a)
    square = rows.square().sum(1)[:, None] + rows.square().sum(1) - 2 * rows @ rows.T
    kernel = scale / torch.sqrt(square.clamp_min(0) + scale**2)
    centring = torch.eye(n, device=rows.device) - 1 / n
    identity = torch.arange(n, device=rows.device) % videos
    same = (identity[:, None] == identity[None, :]).float() - torch.eye(n, device=rows.device)
    hsic_xy = (same * kernel).sum() / same.sum() - kernel.mean()
    hsic_xx = (centring @ kernel @ centring).square().sum() / n**2
    return gamma * hsic_xx.sqrt() - hsic_xy


def transcribed_spectral(a: Tensor, b: Tensor) -> Tensor:
    """All products of rows, as published."""
    a, b = (x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1) for x in (a, b))
    squares = (a @ b.T).square()
    n = len(a)
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1)) - 2 * (a * b).sum(1).mean()


def step(loss: Loss, views: list[Tensor]) -> None:
    loss(*views).backward()
    if views[0].is_cuda:
        torch.cuda.synchronize()


def clear(views: list[Tensor]) -> None:
    for view in views:
        view.grad = None


def seconds(loss: Loss, views: list[Tensor]) -> float:
    clear(views)
    start = time.perf_counter()
    step(loss, views)
    return time.perf_counter() - start


def peak_bytes(loss: Loss, views: list[Tensor]) -> int:
    """Most memory held at one time beyond what was held before."""
    clear(views)
    if views[0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(loss, views)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step(loss, views)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(
    rows: list[int],
    dims: list[int],
    repeats: int,
    limit: float,
    device: torch.device,
    names: list[str] | None = None,
) -> list[dict[str, Any]]:
    """One record per contender, number of rows and dimension; a contender that would exceed `limit` s drops out."""
    records = []
    for dim in dims:
        losses = {k: loss for k, loss in contenders(dim, device).items() if names is None or k in names}
        last = dict.fromkeys(losses, 0.0)
        for n in rows:
            generator = torch.Generator().manual_seed(n)
            views = [
                normalize(torch.randn(n // 2, dim, generator=generator), dim=1).to(device).requires_grad_()
                for _ in "ab"
            ]
            # Twice the rows take about four times as long.
            running = {name: loss for name, loss in losses.items() if 4 * last[name] < limit}
            memory = {name: peak_bytes(loss, views) for name, loss in running.items()}
            times: dict[str, list[float]] = {name: [] for name in running}
            for repeat in range(repeats):
                for name, loss in running.items():
                    if repeat >= 3 and times[name][0] > 2:
                        continue  # slow enough to be timed well in three
                    times[name].append(seconds(loss, views))
            last = {name: median(times[name]) if name in times else math.inf for name in losses}
            records += [
                {"loss": name, "rows": n, "dim": dim, "seconds": last[name], "peak_bytes": memory[name]}
                for name in running
            ]
            print(
                f"d={dim} rows={n}: " + ", ".join(f"{k} {1e3 * last[k]:.1f} ms" for k in running), flush=True
            )
    return records


def exponent(records: list[dict[str, Any]], loss: str, dim: int, smallest: int = 512) -> float | None:
    """Slope of log time against log rows, least squares, from `smallest` rows on (below, overheads rule)."""
    points = [
        (math.log(r["rows"]), math.log(r["seconds"]))
        for r in records
        if (r["loss"], r["dim"]) == (loss, dim) and r["rows"] >= smallest
    ]
    if len(points) < 2:
        return None
    x_mean, y_mean = (sum(values) / len(points) for values in zip(*points, strict=True))
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)


def table(records: list[dict[str, Any]], machine: str) -> str:
    """Markdown: time, memory and the ratios to the baseline of the same rows and dimension."""
    lines = [
        "# Objectives: forward and backward",
        "",
        f"{machine}. Median times of one run; ratio: to {BASELINE} at the same rows and d. "
        "Reproduce with the command in benchmarks/objectives.py.",
        "",
    ]
    for dim in sorted({r["dim"] for r in records}):
        here = {(r["loss"], r["rows"]): r for r in records if r["dim"] == dim}
        lines += [
            f"## d = {dim}",
            "",
            "| loss | rows | ms | ratio | peak MB | ratio |",
            "|---|---|---|---|---|---|",
        ]
        for (loss, rows), r in here.items():
            base = here.get((BASELINE, rows))
            time_ratio = f"{r['seconds'] / base['seconds']:.2f}" if base else "–"
            memory_ratio = f"{r['peak_bytes'] / max(base['peak_bytes'], 1):.2f}" if base else "–"
            megabytes = r["peak_bytes"] / 1e6
            lines.append(
                f"| {loss} | {rows} | {1e3 * r['seconds']:.2f} | {time_ratio} | {megabytes:.1f} | {memory_ratio} |"
            )
        lines += ["", "Exponent of the time in the rows, from 512 rows on:", ""]
        for loss in dict.fromkeys(r["loss"] for r in records):
            slope = exponent(records, loss, dim)
            if slope is not None:
                lines.append(f"- {loss}: {slope:.2f}")
        lines.append("")
    return "\n".join(lines)


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Time against rows, one panel per dimension; skipped without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    dims = sorted({r["dim"] for r in records})
    figure, panels = pyplot.subplots(1, len(dims), figsize=(6 * len(dims), 4.5), sharey=True, squeeze=False)
    for panel, dim in zip(panels[0], dims, strict=True):
        for loss in dict.fromkeys(r["loss"] for r in records):
            points = [
                (r["rows"], 1e3 * r["seconds"]) for r in records if (r["loss"], r["dim"]) == (loss, dim)
            ]
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=loss)
        panel.set(
            xscale="log", yscale="log", xlabel="rows", ylabel="ms, forward and backward", title=f"d = {dim}"
        )
        panel.set_xscale("log", base=2)
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats")
    parser.add_argument("--rows", type=int, nargs="+", help="B; default: 64 to 8,192 (--quick: 512 to 2,048)")
    parser.add_argument("--losses", nargs="+", help="some of them, as named in the table; default: all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=float, default=25.0, help="seconds a single step may take")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows = arguments.rows or ([512, 1024, 2048] if arguments.quick else [2**p for p in range(6, 14)])
    repeats = 5 if arguments.quick else arguments.repeats
    device = torch.device(arguments.device)
    records = measure(rows, [256, 2048], repeats, arguments.limit, device, arguments.losses)
    processor = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    machine = f"{processor}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    arguments.output.mkdir(parents=True, exist_ok=True)
    exponents = {
        f"{loss}, d={dim}": exponent(records, loss, dim)
        for loss in dict.fromkeys(r["loss"] for r in records)
        for dim in (256, 2048)
    }
    report = {"machine": machine, "repeats": repeats, "records": records, "exponents": exponents}
    (arguments.output / "objectives.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.output / "objectives.md").write_text(table(records, machine))
    plot(records, arguments.output / "objectives.png")


if __name__ == "__main__":
    main()
