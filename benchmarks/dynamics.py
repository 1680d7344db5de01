"""Kalman filter and smoother side by side with filterpy, pykalman, statsmodels and torch-kf, in one run.

    OMP_NUM_THREADS=1 python benchmarks/dynamics.py            # two to three minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/dynamics.py --quick    # the middle size only

All compute means and covariances of every step for B sequences of T steps that share one model (n states, m = n / 2
observed). Contenders take turns within a repeat; times are medians, on the CPU of the process's own seconds, which other
jobs on the machine disturb less than the clock. Libraries for one sequence run a few and are multiplied up to B.
Before anything is timed, all results are compared. Missing libraries are left out. Writes dynamics.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.dynamics.kalman import FilterResult, kalman_filter, rts_smoother

Run = Callable[[], Any]
OURS = "vidssl joseph"
LIBRARIES = ("filterpy", "pykalman", "statsmodels", "torch-kf")
TASKS = ("filter", "filter and smoother", "filter, forward and backward")


class Problem(NamedTuple):
    """Arguments of `kalman_filter`, float32; z (B, T, m)."""

    z: Tensor
    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    m0: Tensor
    P0: Tensor


def problem(batch: int, steps: int, n: int, device: torch.device) -> Problem:
    """A damped rotation seen through half as many random sensors."""
    generator = torch.Generator().manual_seed(n)
    m = n // 2
    A = 0.95 * torch.linalg.qr(torch.randn(n, n, generator=generator)).Q
    C = torch.randn(m, n, generator=generator)
    z = torch.randn(batch, steps, m, generator=generator)
    eye_n, eye_m = torch.eye(n), torch.eye(m)
    return Problem(*(x.to(device) for x in (z, A, 0.3 * eye_n, C, 0.5 * eye_m, torch.zeros(n), eye_n)))


def with_gradients(p: Problem) -> Problem:
    return Problem(*(x.detach().requires_grad_() for x in p))


def ours(p: Problem, method: str) -> dict[str, Run]:
    def smooth() -> FilterResult:
        result = kalman_filter(*p, method=method)
        smoothed = rts_smoother(result, p.A, p.Q, method=method)
        return result._replace(filt_mean=smoothed.mean, filt_cov=smoothed.cov)

    def train() -> None:
        leaves = with_gradients(p)
        kalman_filter(*leaves, method=method).log_likelihood.sum().backward()

    return dict(zip(TASKS, (lambda: kalman_filter(*p, method=method), smooth, train), strict=True))


def ours_per_sequence(p: Problem) -> dict[str, Run]:
    """The noise as an encoder would give it, one matrix per step and sequence: nothing is shared."""
    return ours(p._replace(R=p.R.expand(*p.z.shape[:2], *p.R.shape).clone()), "joseph")


def torch_kf(p: Problem, shared: bool) -> dict[str, Run]:
    """With one prior covariance for all sequences its covariances broadcast too; with one each they do not."""
    from torch_kf import GaussianState, KalmanFilter

    batch, n = len(p.z), len(p.A)

    def start(p: Problem) -> GaussianState:
        P0 = p.P0 if shared else p.P0.expand(batch, n, n).clone()
        return GaussianState(p.m0.expand(batch, n)[..., None].clone(), P0)

    def measures(p: Problem) -> Tensor:
        return p.z.transpose(0, 1)[..., None].contiguous()

    def run(p: Problem = p) -> Any:
        kalman = KalmanFilter(p.A, p.C, p.Q, p.R)
        return kalman.filter(start(p), measures(p), update_first=False, return_all=True)

    def smooth() -> Any:
        return KalmanFilter(p.A, p.C, p.Q, p.R).rts_smooth(run(), inplace=True)

    def likelihoods(p: Problem) -> list[Tensor]:
        kalman, state, values = KalmanFilter(p.A, p.C, p.Q, p.R), start(p), []
        for z in measures(p):
            state = kalman.predict(state)
            projection = kalman.project(state)
            values.append(projection.log_likelihood(z))
            state = kalman.update(state, z, projection=projection)
        return values

    def train() -> None:
        torch.stack(likelihoods(with_gradients(p))).sum().backward()

    return dict(
        zip((*TASKS, "filter with likelihood"), (run, smooth, train, lambda: likelihoods(p)), strict=True)
    )


def filterpy(z: np.ndarray, p: dict[str, np.ndarray]) -> dict[str, Run]:
    from filterpy.kalman import KalmanFilter

    def run() -> tuple[np.ndarray, np.ndarray, Any]:
        kalman = KalmanFilter(dim_x=len(p["A"]), dim_z=z.shape[1])
        kalman.F, kalman.Q, kalman.H, kalman.R = p["A"], p["Q"], p["C"], p["R"]
        kalman.x, kalman.P = p["m0"].copy(), p["P0"].copy()
        means, covs, _, _ = kalman.batch_filter(z)
        return means, covs, kalman

    def smooth() -> Any:
        means, covs, kalman = run()
        return kalman.rts_smoother(means, covs)[:2]

    return {"filter": run, "filter and smoother": smooth}


def pykalman(z: np.ndarray, p: dict[str, np.ndarray]) -> dict[str, Run]:
    from pykalman import KalmanFilter

    kalman = KalmanFilter(
        transition_matrices=p["A"],
        observation_matrices=p["C"],
        transition_covariance=p["Q"],
        observation_covariance=p["R"],
        initial_state_mean=p["A"] @ p["m0"],
        initial_state_covariance=p["A"] @ p["P0"] @ p["A"].T + p["Q"],
    )
    return {"filter": lambda: kalman.filter(z), "filter and smoother": lambda: kalman.smooth(z)}


def statsmodels(z: np.ndarray, p: dict[str, np.ndarray]) -> dict[str, Run]:
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    kalman = KalmanSmoother(k_endog=z.shape[1], k_states=len(p["A"]), k_posdef=len(p["A"]))
    kalman.bind(z)
    kalman.tolerance = 0  # the covariances of every step, as the others compute
    kalman["transition"], kalman["state_cov"] = p["A"], p["Q"]
    kalman["design"], kalman["obs_cov"] = p["C"], p["R"]
    kalman["selection"] = np.eye(len(p["A"]))
    kalman.initialize_known(p["A"] @ p["m0"], p["A"] @ p["P0"] @ p["A"].T + p["Q"])

    def moments(mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return mean.T, np.moveaxis(cov, -1, 0)

    def run() -> Any:
        result = kalman.filter()
        return moments(result.filtered_state, result.filtered_state_cov)

    def smooth() -> Any:
        result = kalman.smooth()
        return moments(result.smoothed_state, result.smoothed_state_cov)

    return {"filter": run, "filter and smoother": smooth}


def installed() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            print(f"{name} is not installed and left out")
    return versions


def batched(p: Problem, libraries: dict[str, str]) -> dict[str, dict[str, Run]]:
    found = {OURS: ours(p, "joseph"), "vidssl sqrt": ours(p, "sqrt"), "vidssl scan": ours(p, "scan")}
    found["vidssl joseph, R per sequence"] = ours_per_sequence(p)
    if "torch-kf" in libraries:
        found |= {"torch-kf": torch_kf(p, True), "torch-kf, prior per sequence": torch_kf(p, False)}
    return found


def one_at_a_time(p: Problem, libraries: dict[str, str]) -> dict[str, dict[str, Run]]:
    """Of the first sequence, float64 as these libraries are."""
    numbers = {name: x.double().cpu().numpy() for name, x in p._asdict().items()}
    z = numbers.pop("z")[0]
    builders = {"filterpy": filterpy, "pykalman": pykalman, "statsmodels": statsmodels}
    return {name: build(z, numbers) for name, build in builders.items() if name in libraries}


def compare(p: Problem, many: dict[str, dict[str, Run]], single: dict[str, dict[str, Run]]) -> float:
    """Largest difference to our own moments, of anyone's filter and smoother."""
    worst = 0.0
    for task in TASKS[:2]:
        mine = many[OURS][task]()
        for contender in [*many.values(), *single.values()]:
            result = contender[task]()
            if isinstance(result, FilterResult):
                mean, cov = result.filt_mean, result.filt_cov
            elif hasattr(result, "covariance"):
                mean = result.mean[..., 0].transpose(0, 1)
                cov = result.covariance
                cov = cov.transpose(0, 1) if cov.ndim == 4 else cov
            else:
                mean, cov = (torch.as_tensor(np.array(x)) for x in result[:2])
            pairs = (
                (mean, mine.filt_mean if mean.ndim == 3 else mine.filt_mean[0]),
                (cov, mine.filt_cov if cov.ndim == 4 else mine.filt_cov[0]),
            )
            worst = max(worst, *(float((a.to(b) - b).abs().max()) for a, b in pairs))
    if worst > 1e-3:
        raise RuntimeError(f"results differ by {worst:.1e} at B, T, n = {*p.z.shape[:2], len(p.A)}")
    return worst


def seconds(run: Run, device: torch.device, grad: bool) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    with torch.set_grad_enabled(grad):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(
    sizes: list[tuple[int, int, int]],
    repeats: int,
    budget: float,
    device: torch.device,
    libraries: dict[str, str],
) -> list[dict[str, Any]]:
    """One record per contender, task and size; `budget` is the seconds a contender may spend on one of them."""
    records = []
    for batch, steps, n in sizes:
        p = problem(batch, steps, n, device)
        many, single = batched(p, libraries), one_at_a_time(p, libraries)
        with torch.no_grad():
            difference = compare(p, many, single)
        runs = [(name, task, run, 1) for name, tasks in many.items() for task, run in tasks.items()]
        runs += [(name, task, run, batch) for name, tasks in single.items() for task, run in tasks.items()]
        times: dict[tuple[str, str], list[float]] = {(name, task): [] for name, task, _, _ in runs}
        for repeat in range(repeats):
            for name, task, run, times_batch in runs:
                spent = times[name, task]
                if repeat and sum(spent) * (repeat + 1) / repeat > budget * times_batch:
                    continue
                spent.append(times_batch * seconds(run, device, task == TASKS[2]))
        for name, task, _, times_batch in runs:
            records.append(
                {
                    "contender": name,
                    "task": task,
                    "B": batch,
                    "T": steps,
                    "n": n,
                    "m": n // 2,
                    "seconds": median(times[name, task]),
                    "repeats": len(times[name, task]),
                    "extrapolated": times_batch > 1,
                    "difference": difference,
                }
            )
        shown = ", ".join(
            f"{r['contender']} {1e3 * r['seconds']:.1f}"
            for r in records[-len(runs) :]
            if r["task"] == "filter"
        )
        print(f"B={batch} T={steps} n={n}, filter, ms: {shown}", flush=True)
    return records


def table(records: list[dict[str, Any]], machine: str, libraries: dict[str, str]) -> str:
    """Markdown: milliseconds per task, and how many times as long as ours."""
    named = ", ".join(f"{name} {number}" for name, number in libraries.items())
    lines = [
        "# Kalman filter and smoother",
        "",
        f"{machine}; {named}. Medians of one run, in which contenders take turns; CPU time of one thread. × is against "
        f"{OURS} at the same size. * one sequence, times B. Reproduce with the command in benchmarks/dynamics.py.",
        "",
        "All give means and covariances of every step. vidssl also gives innovations, their covariances and the likelihood, "
        "and updates in Joseph form; torch-kf updates in the short form, and its likelihood is timed apart (forward and "
        "backward include it). vidssl and torch-kf in float32, the others in float64. torch-kf shares covariances between "
        "sequences when they share a prior, vidssl whenever no matrix and no missing entry differs between them; the rows "
        "'R per sequence' and 'prior per sequence' are without that. Largest difference between any two moments: "
        f"{max(r['difference'] for r in records):.1e}.",
        "",
    ]
    tasks = [*TASKS, "filter with likelihood"]
    for size in dict.fromkeys((r["B"], r["T"], r["n"], r["m"]) for r in records):
        here = {(r["contender"], r["task"]): r for r in records if (r["B"], r["T"], r["n"], r["m"]) == size}
        lines += [
            "## B = {}, T = {}, n = {}, m = {}".format(*size),
            "",
            "| | " + " | ".join(f"{task}, ms | ×" for task in tasks) + " |",
            "|---|" + "---|---|" * len(tasks),
        ]
        for name in dict.fromkeys(contender for contender, _ in here):
            cells = []
            for task in tasks:
                r, base = here.get((name, task)), here[OURS, task if task in TASKS else TASKS[0]]
                if r is None:
                    cells += ["–", "–"]
                    continue
                star = "*" if r["extrapolated"] else ""
                cells += [f"{1e3 * r['seconds']:.1f}{star}", f"{r['seconds'] / base['seconds']:.2f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Time of the filter against B and against T; skipped without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(16, 4.5), sharey=True)
    cuts = (("B", "T", 100, TASKS[0]), ("T", "B", 256, TASKS[0]), ("T", "B", 256, TASKS[2]))
    for panel, (x, fixed, value, task) in zip(panels, cuts, strict=True):
        for name in dict.fromkeys(r["contender"] for r in records):
            points = sorted(
                (r[x], 1e3 * r["seconds"])
                for r in records
                if (r["contender"], r["task"], r[fixed], r["n"]) == (name, task, value, 10)
            )
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        panel.set(
            xscale="log", yscale="log", xlabel=x, ylabel="ms", title=f"{task}: n = 10, {fixed} = {value}"
        )
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="B = 256, T = 100, n = 10 only")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--budget", type=float, default=0.7, help="seconds per contender, task and size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    sizes = [(batch, steps, 10) for steps in (20, 100, 1000) for batch in (1, 16, 256)]
    sizes += [(batch, 100, n) for n in (2, 16) for batch in (1, 16, 256)]
    if arguments.quick:
        sizes = [(256, 100, 10)]
    libraries = installed()
    seconds(
        lambda: compare(p := problem(2, 20, 2, device), batched(p, libraries), one_at_a_time(p, libraries)),
        device,
        False,
    )
    records = measure(sizes, arguments.repeats, arguments.budget, device, libraries)
    processor = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    machine = f"{processor}, {torch.get_num_threads()} thread, torch {torch.__version__}"
    arguments.output.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "libraries": libraries, "records": records}
    (arguments.output / "dynamics.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.output / "dynamics.md").write_text(table(records, machine, libraries))
    plot(records, arguments.output / "dynamics.png")


if __name__ == "__main__":
    main()
