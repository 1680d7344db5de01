"""What a linear forecast can reach at most on the latents of `benchmarks/forecasts.py`: is it the filter that loses to the best average, or the latents?

    OMP_NUM_THREADS=1 python benchmarks/forecast_ceiling.py --data ../shared/data/videos

Encoder and filter are trained as there. Then, for every number of steps ahead by itself, the latent is regressed on the last 1 to 8 latents: *carried over*, fitted on
the training clips, drawn towards the last latent as strongly as serves a quarter of their recordings best; and *on the judged clips*, fitted by least squares on those that it is then judged on.
The best average is that of the benchmark: its factor and its pull to the mean are chosen on the judged clips. Half a minute for each setting and seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import torch
from forecasts import (
    CONTEXT,
    DIM,
    HORIZON,
    MORE_SETS,
    SETS,
    SETTINGS,
    Clips,
    components,
    held_out,
    read_clips,
    sequences,
    train,
)
from torch import Tensor

from vidssl.evaluation.dynamics.forecasts import SMOOTHING_FACTORS, smoothed
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.evaluation.dynamics.measure import measure_dynamics
from vidssl.files import write_text

ROWS = ("linear", "network", "network, k-NN", "network, within clips, nine sets")
STEPS, ORDERS, PENALTIES = (1, 2, 4, 8), (1, 2, 4, 8), (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def windows(of: LatentSequences, ahead: int, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Past (W, order, m), latest first, the first latent again where there is none; what follows (W, m); clip (W,)."""
    past, future, clip = [], [], []
    for number, (z, valid) in enumerate(zip(of.z, of.valid, strict=True)):
        at = torch.arange(CONTEXT - 1, max(int(valid.sum()) - ahead, CONTEXT - 1))
        past.append(z[(at[:, None] - torch.arange(order)).clamp(min=0)])
        future.append(z[at + ahead])
        clip.append(torch.full_like(at, number))
    return torch.cat(past), torch.cat(future), torch.cat(clip)


def regressed(past: Tensor, future: Tensor, penalty: float) -> Tensor:
    """(order m, m): ridge regression that is drawn towards repeating the last latent."""
    repeat = torch.eye(past.shape[1], DIM, dtype=past.dtype)
    square = past.T @ past
    ridge = penalty * square.diagonal().mean() * torch.eye(len(square), dtype=past.dtype)
    return repeat + torch.linalg.solve(square + ridge, past.T @ (future - past @ repeat))


def error(past: Tensor, future: Tensor, weights: Tensor) -> float:
    return float((future - past @ weights).square().sum())


def best_average(of: LatentSequences, ahead: int, centre: Tensor) -> float:
    """Squared error of the exponential average, drawn towards the mean, that serves these clips best."""
    found = []
    for factor in SMOOTHING_FACTORS:
        average = smoothed(of.z, of.valid, factor)
        guess, _, _ = windows(of._replace(z=average), ahead, 1)
        _, truth, _ = windows(of, ahead, 1)
        x, y = guess[:, 0] - centre, truth - centre
        kept = float(((x * y).sum() / x.square().sum()).clamp(0, 1))
        found.append(float((y - kept * x).square().sum()))
    return min(found)


def ceilings(
    fit: LatentSequences, groups: list[str], judged: LatentSequences
) -> dict[tuple[str, int], float]:
    """Error over that of the best average, of either regression with its best order, for every number of steps ahead."""
    found = {}
    centre = judged.z[judged.valid].mean(0)
    for ahead in STEPS:
        best = best_average(judged, ahead, centre)
        carried, own = [], []
        for order in ORDERS:
            past, future, clip = windows(fit, ahead, order)
            middle = fit.z[fit.valid].mean(0)
            x, y = (past - middle).flatten(1), future - middle
            kept = ~torch.tensor([held_out(groups[i]) for i in clip.tolist()])
            errors = {p: error(x[~kept], y[~kept], regressed(x[kept], y[kept], p)) for p in PENALTIES}
            penalty = min(errors, key=lambda p: errors[p])
            past, future, _ = windows(judged, ahead, order)
            carried.append((errors[penalty], error((past - middle).flatten(1), future - middle, regressed(x, y, penalty))))  # fmt: skip
            x, y = (past - centre).flatten(1), future - centre
            own.append(error(x, y, regressed(x, y, 1e-9)))
        # The order, too, is chosen on the training clips' own recordings.
        found["carried over", ahead] = (min(carried)[1] / best) ** 0.5
        found["on the judged clips, last latent", ahead] = (own[0] / best) ** 0.5
        found["on the judged clips, last two", ahead] = (own[1] / best) ** 0.5
    return found


def run(name: str, clips: Clips, judged: Clips, seed: int) -> dict[tuple[str, int], float]:
    options = dict(SETTINGS[name])
    fit, judged = components(clips if options.pop("MORE", False) else clips.of(SETS), judged)
    net, objective, _ = train(options, fit, seed)
    latents, held = sequences(net.eval(), fit), sequences(net, judged)
    forecast = measure_dynamics(objective.model.eval(), held, HORIZON, context=CONTEXT).forecast.record()
    filters = {("filter", ahead): forecast["ratio_to_smoothing"][ahead - 1]["value"] for ahead in STEPS}
    return filters | ceilings(latents, fit.groups, held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips = read_clips(arguments.data, "train", (*SETS, *MORE_SETS), arguments.cache)
    clips = clips.where([len(frames) > CONTEXT + 1 for frames in clips.frames])
    judged = read_clips(arguments.data, "val", SETS, arguments.cache)
    lines = [
        "Root mean squared error over that of the best average so far, mean and range over seeds. See the head of `benchmarks/forecast_ceiling.py`.\n",
        f"| latents | forecast | {' | '.join(f'{n} ahead' for n in STEPS)} |",
        "|---" * (len(STEPS) + 2) + "|",
    ]
    for name in ROWS:
        runs = [run(name, clips, judged, seed) for seed in arguments.seeds]
        for kind in dict.fromkeys(kind for kind, _ in runs[0]):
            values = [[found[kind, ahead] for found in runs] for ahead in STEPS]
            cells = [f"{mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in values]
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    write_text(Path(__file__).parent / "results" / "forecast_ceiling.md", "# What a linear forecast can reach\n\n" + "\n".join(lines) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
