"""Which gamma? SSL-HSIC on cached features of an image network, beside InfoNCE.

    OMP_NUM_THREADS=1 python benchmarks/hsic_gamma.py --videos VIDEOS --work FOLDER

1,098 clips of six sets, frozen features of 8 frames each (`image_features`), and a small temporal head that is trained on
them: two views of a clip are 4 of its frames each, with a fifth of the features set to zero. Batches of 256 clips, the same
steps and rate for all. Large clusters (whole data sets) are easy to tell apart here, single clips are not, which is the other
end from the fresh network on 48 clips of `collapse.py`.

Scores: logistic regression on the head's features of the words of a sign language (vsl_words, 23 classes, signers in train and
val differ in part), on every second clip of val; the other half is for choosing settings (--half choose). Written to
benchmarks/results/hsic_gamma.md. About 10 seconds of one core a run; a run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from image_features import Clips, cached_features
from torch import Tensor, nn
from torch.nn import functional

from vidssl.evaluation.probes.logistic import fit_logistic
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import HeadOutput, ProjectionHead
from vidssl.models.teacher import Teacher
from vidssl.objectives.base import Objective
from vidssl.objectives.baselines import InfoNCE
from vidssl.objectives.hsic import SSLHSIC

RESULTS = Path(__file__).parent / "results"
WIDTH, COMPONENTS, SHOWN, DROPPED = 128, 128, 4, 0.2
BATCH, STEPS, RATE = 256, 200, 2e-3
WORDS = "vsl_words"
SETTINGS: dict[str, dict[str, Any] | None] = {
    "InfoNCE": None,
    "gamma = 2": {"gamma": 2.0},
    "gamma = 3": {"gamma": 3.0},
    "gamma = 5": {"gamma": 5.0},
    "kappa = 0.8": {"gamma": None, "kappa": 0.8},
    "kappa = 1": {"gamma": None, "kappa": 1.0},
    "kappa = 1, target": {"kappa": 1.0, "target": True},
    "kappa = 1, target, no same-view pairs": {"kappa": 1.0, "target": True, "same_view_pairs": False},
}
BATCHES = (64, 1024)  # beside BATCH, of the same number of steps: up to nearly all clips at once
SETTINGS |= {
    f"{name}, batches of {batch}": SETTINGS[name]
    for batch in BATCHES
    for name in ("InfoNCE", "gamma = 3", "kappa = 0.8")
}
MOMENTUM = 0.97  # of the target network


class TemporalHead(nn.Module):
    """(B, T, COMPONENTS) to (B, WIDTH): a map of every frame, a convolution over time, and how far it strays from its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Linear(COMPONENTS, WIDTH)
        self.motion = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.frame(x)
        rows = rows + self.motion(functional.gelu(rows).transpose(1, 2)).transpose(1, 2)
        normed: Tensor = self.norm(rows.std(dim=1))
        return normed


def principal_components(clips: dict[str, Clips]) -> dict[str, Clips]:
    """The first COMPONENTS directions of the training frames, at a mean square of 1."""
    frames = torch.cat([c.features.flatten(0, 1) for name, c in clips.items() if name.endswith("train")])
    mean = frames.mean(dim=0)
    _, vectors = torch.linalg.eigh((frames - mean).T @ (frames - mean))
    chosen = vectors[:, -COMPONENTS:]
    size = ((frames - mean) @ chosen).square().mean().sqrt()
    return {name: c._replace(features=(c.features - mean) @ chosen / size) for name, c in clips.items()}


def draw_view(clips: Tensor, generator: torch.Generator) -> Tensor:
    """(B, SHOWN, COMPONENTS): frames in their order, features dropped for the whole clip."""
    batch, frames, size = clips.shape
    shown = torch.rand(batch, frames, generator=generator).argsort(dim=1)[:, :SHOWN].sort(dim=1).values
    kept = torch.rand(batch, 1, size, generator=generator) > DROPPED
    return clips[torch.arange(batch)[:, None], shown] * kept / (1 - DROPPED)


class Network(nn.Module):
    """Head, projector and, for a target network, predictor."""

    def __init__(self, predictor: bool) -> None:
        super().__init__()
        self.head = TemporalHead()
        self.projector = ProjectionHead(WIDTH, (256, 64), (256, 64) if predictor else None)

    def forward(self, x: Tensor) -> HeadOutput:
        rows = self.head(x)
        output: HeadOutput = self.projector(ClipFeatures(rows, rows.new_empty(0), None))
        return output


def objective_of(setting: str) -> Objective:
    options = SETTINGS[setting]
    return InfoNCE() if options is None else SSLHSIC(**{"target": False, "estimator": "exact", **options})


def train(setting: str, clips: dict[str, Clips], seed: int) -> tuple[TemporalHead, dict[str, float]]:
    """The head after training, and the logs of the last step. The held-out clips are seen, their labels are not."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    clips_a_step = int(setting.rpartition(" ")[2]) if "batches of" in setting else BATCH
    objective = objective_of(setting)
    network = Network(objective.needs_predictor)
    teacher = Teacher(network) if objective.needs_teacher else None
    everything = torch.cat([c.features for c in clips.values()])
    groups = [{"params": [*network.parameters()]}, *objective.param_groups()]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
    order, logs = torch.empty(0, dtype=torch.int64), {}
    for step in range(STEPS):
        if len(order) < clips_a_step:
            order = torch.randperm(len(everything), generator=generator)
        batch, order = everything[order[:clips_a_step]], order[clips_a_step:]
        optimizer.param_groups[0]["lr"] = (
            RATE * min((step + 1) / 20, 1) * (1 + math.cos(math.pi * step / STEPS)) / 2
        )
        views = [draw_view(batch, generator) for _ in range(2)]
        targets = [teacher(view) for view in views] if teacher else None
        output = objective([network(view) for view in views], targets)
        optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        optimizer.step()
        if teacher:
            teacher.update(network, MOMENTUM)
        logs = {key.split("/")[1]: float(value) for key, value in output.logs.items()}
    return network.head, logs


@torch.no_grad()
def score(head: TemporalHead, clips: dict[str, Clips], half: slice) -> float:
    """Share of the held-out words that are named."""
    fit, test = (clips[f"{WORDS}/{split}"] for split in ("train", "val"))
    rows, held = head(fit.features), head(test.features)
    mean, std = rows.mean(dim=0), rows.std(dim=0)
    with torch.enable_grad():
        probe = fit_logistic((rows - mean) / std, fit.labels, int(fit.labels.max()) + 1, 1e-2)
    hits = probe((held - mean) / std).argmax(dim=1) == test.labels
    return hits[half].double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--half", choices=("report", "choose"), default="report")
    arguments = parser.parse_args()
    clips = principal_components(cached_features(arguments.videos, arguments.work))
    print(f"{sum(len(c.labels) for c in clips.values())} clips", flush=True)
    half = slice(1, None, 2) if arguments.half == "report" else slice(0, None, 2)
    lines = [
        "| setting | untrained head | trained | rho | effective rank | gamma at the end | HSIC(Z, Y) |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in arguments.settings:
        runs = []
        for seed in arguments.seeds:
            file = arguments.work / f"{setting.replace(' ', '')}-{seed}-{arguments.half}.json"
            if not file.exists():
                torch.manual_seed(seed)
                untrained = score(TemporalHead(), clips, half)
                head, logs = train(setting, clips, seed)
                found = {"untrained": untrained, "trained": score(head, clips, half), **logs}
                file.write_text(json.dumps(found))
            runs.append(json.loads(file.read_text()))
        lines.append(f"| {setting} | " + " | ".join(row(runs)) + " |")
        print(lines[-1], flush=True)
    if arguments.half == "report":
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "hsic_gamma.md").write_text("\n".join(lines) + "\n")


def row(runs: list[dict[str, float]]) -> list[str]:
    """Percent, every seed's for the trained head; the means of what the objective logs."""
    cells = [f"{100 * statistics.fmean(run['untrained'] for run in runs):.0f}"]
    values = [100 * run["trained"] for run in runs]
    cells.append(f"{statistics.fmean(values):.1f} ({', '.join(f'{value:.0f}' for value in values)})")
    for key, digits in (("rho", 2), ("effective_rank", 0), ("gamma", 1), ("hsic_xy", 2)):
        found = [run[key] for run in runs if key in run]
        cells.append(f"{statistics.fmean(found):.{digits}f}" if found else "")
    return cells


if __name__ == "__main__":
    main()
