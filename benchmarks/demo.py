"""What `vidssl demo` learns, over seeds, and its controls.

    python benchmarks/demo.py --seeds 0 1 2 3 4              # the demo itself, then the controls of each; resumable
    python benchmarks/demo.py --table-only

Controls, all of the linear probe of motions, fitted and tested alike:

- frames shuffled: the trained encoder is shown the frames of every clip in random order;
- frame 0 alone: it is shown the first frame of every clip eight times;
- shuffled identities: the same network, trained as in the demo, but the second view comes from the next video of the batch.

Writes benchmarks/results/demo.json and .md. A demo takes a few minutes, the controls of a seed about as long as its first
training. `--work` keeps the demos' folders (the picture is demo.png in each).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.config import load_config
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.demo.run import OPTIONS
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.linear_probe import probe
from vidssl.evaluation.setup import Subject, load_subject
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.heads import HeadOutput
from vidssl.training import loop, pretrain

RESULTS = Path(__file__).parent / "results"
ROWS = {
    "linear probe, untrained": ("linear-probe", "untrained"),
    "linear probe, trained": ("linear-probe", "trained"),
    "motion energy, no network": ("linear-probe", "motion energy"),
    "zero-shot, untrained": ("zero-shot", "untrained"),
    "zero-shot, trained": ("zero-shot", "trained"),
}
CONTROLS = ("frames shuffled", "frame 0 alone", "shuffled identities")
T_QUANTILE = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}


class Changed(nn.Module):
    """An encoder that is shown something else.

    Args:
        encoder: in evaluation mode.
        how: one of the first two of `CONTROLS`.
    """

    def __init__(self, encoder: VideoEncoder, how: str) -> None:
        super().__init__()
        self.encoder, self.how = encoder, how
        self.mean, self.std, self.spec = encoder.mean, encoder.std, encoder.spec
        self.image_size = encoder.image_size
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, clips: Tensor) -> ClipFeatures:
        """clips: (B, 3, T, H, W)."""
        batch, _, length = clips.shape[:3]
        if self.how == "frame 0 alone":
            order = torch.zeros(batch, length, dtype=torch.int64)
        else:
            order = torch.rand(batch, length, generator=self.generator).argsort(dim=1)
        features: ClipFeatures = self.encoder(clips.gather(2, order[:, None, :, None, None].expand_as(clips)))
        return features


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-demo-benchmark")
    parser.add_argument(
        "--no-controls", action="store_true", help="only the demo, and controls that are there"
    )
    parser.add_argument("--table-only", action="store_true", help="write the table of what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds if not arguments.table_only else ():
        folder = arguments.work / f"seed-{seed}"
        if not (folder / "result.json").is_file():
            command = [sys.executable, "-m", "vidssl", "demo", "--output", str(folder), "--seed", str(seed)]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if not arguments.no_controls and not (folder / "controls.json").is_file():
            (folder / "controls.json").write_text(json.dumps(controls(folder, seed)) + "\n")
    write_table(arguments.work)


def controls(folder: Path, seed: int) -> dict[str, float]:
    """Shares of correct answers by control."""
    subject = load_subject(folder / "run", OPTIONS)
    found = {
        how: accuracy(replace(subject, encoder=Changed(subject.encoder, how), untrained=None), folder)
        for how in CONTROLS[:2]
    }
    plain = loop.compute_loss
    loop.compute_loss = with_shuffled_identities
    try:
        with tempfile.TemporaryDirectory() as place:
            recipe = {"output": Path(place) / "run", "seed": seed, "data.train": folder / "videos" / "train"}
            run = pretrain(load_config("demo", [f"{key}={value}" for key, value in recipe.items()]))
            found[CONTROLS[2]] = accuracy(replace(load_subject(run, OPTIONS), untrained=None), folder)
    finally:
        loop.compute_loss = plain
    return found


def accuracy(subject: Subject, folder: Path) -> float:
    """Of the linear probe, as `vidssl linear-probe` has it."""
    fit, test = (VideoIndex.read(folder / "videos" / split) for split in ("train", "val"))
    x, y = (
        extract_features(subject, index, description="controls").features["trained"] for index in (fit, test)
    )
    scores = probe(x, torch.from_numpy(fit.label_ids), y, len(fit.classes))[0]
    return float((scores.argmax(1) == torch.from_numpy(test.label_ids)).double().mean())


def with_shuffled_identities(run: Any, views: Any, heads: Any, info: Any) -> Any:
    """The loss of views of which all but the first come from the next video of the batch."""

    def roll(output: HeadOutput) -> HeadOutput:
        return HeadOutput(*(None if x is None else x.roll(1, dims=0) for x in output))  # type: ignore[arg-type]

    moved = {name: [outputs[0], *map(roll, outputs[1:])] for name, outputs in heads.items()}
    return run.objective(moved, None, info)


def write_table(work: Path) -> None:
    """One row for each figure, mean over seeds with a 95 % t-interval, and every seed's value."""
    seeds = sorted(int(file.parent.name.removeprefix("seed-")) for file in work.glob("seed-*/result.json"))
    figures: dict[str, dict[int, float]] = {name: {} for name in (*ROWS, *CONTROLS)}
    times: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    for seed in seeds:
        folder = work / f"seed-{seed}"
        result = json.loads((folder / "result.json").read_text())
        for name, (protocol, row) in ROWS.items():
            figures[name][seed] = result[protocol]["scores"][row]["top1"]
        for key, values in times.items():
            values.append(result[key])
        if (folder / "controls.json").is_file():
            for name, value in json.loads((folder / "controls.json").read_text()).items():
                figures[name][seed] = value
    lines = ["| | accuracy, % | by seed |", "|---|---|---|"]
    for name, values in figures.items():
        if values:
            by_seed = ", ".join(f"{100 * values[seed]:.1f}" for seed in sorted(values))
            lines.append(f"| {name} | {summary(list(values.values()))} | {by_seed} |")
    lines += [f"\n{len(seeds)} seeds ({', '.join(map(str, seeds))}); chance 12.5 %. ", ""]
    for key, title in (("seconds", "of the clock"), ("cpu_seconds", "of a CPU core")):
        lines.append(f"Seconds {title}: {', '.join(f'{value:.0f}' for value in times[key])}.")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "demo.md").write_text("\n".join(lines) + "\n")
    record = {"figures": figures, **times, "seeds": seeds}
    (RESULTS / "demo.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


def summary(values: list[float]) -> str:
    """Mean and half a 95 % t-interval, in percent."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    if len(values) < 2:
        return mean
    half = T_QUANTILE.get(len(values), 1.96) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean} ± {100 * half:.1f}"


if __name__ == "__main__":
    main()
