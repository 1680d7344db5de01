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
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from equal_budget.cell import altered, shuffle_time
from equal_budget.table import interval
from torch import Tensor, nn

from vidssl.config import load_config
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.demo.run import OPTIONS
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.probes.logistic import probe
from vidssl.evaluation.setup import Subject, load_subject
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train
from vidssl.training.setup import set_up

RESULTS = Path(__file__).parent / "results"
ROWS = {
    "linear probe, untrained": ("linear-probe", "untrained"),
    "linear probe, trained": ("linear-probe", "trained"),
    "motion energy, no network": ("linear-probe", "motion energy"),
    "zero-shot, untrained": ("zero-shot", "untrained"),
    "zero-shot, trained": ("zero-shot", "trained"),
}
CONTROLS = ("frames shuffled", "frame 0 alone", "shuffled identities")


class Changed(nn.Module):
    """An encoder that is shown something else.

    Args:
        encoder: in evaluation mode.
        how: one of the first two of `CONTROLS`.
    """

    def __init__(self, encoder: VideoEncoder, how: str) -> None:
        super().__init__()
        self.encoder, self.how = encoder, how
        self.spec = {**encoder.spec, "shown": how}  # by which kept features are known apart
        self.generator = torch.Generator().manual_seed(0)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("encoder"), name)

    def forward(self, clips: Tensor, **wanted: Any) -> ClipFeatures:
        """clips: (B, 3, T, H, W)."""
        alone = self.how == "frame 0 alone"
        shown = clips[:, :, :1].expand_as(clips) if alone else shuffle_time(clips, self.generator)
        features: ClipFeatures = self.encoder(shown, **wanted)
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
    with tempfile.TemporaryDirectory() as place:
        recipe = {"output": Path(place) / "run", "seed": seed, "data.train": folder / "videos" / "train"}
        config = load_config("demo", [f"{key}={value}" for key, value in recipe.items()])
        run = set_up(config, make_accelerator(config))
        run.render = altered(run, "identities")  # type: ignore[method-assign]
        found[CONTROLS[2]] = accuracy(replace(load_subject(train(run), OPTIONS), untrained=None), folder)
    return found


def accuracy(subject: Subject, folder: Path) -> float:
    """Of the linear probe, as `vidssl linear-probe` has it."""
    fit, test = (VideoIndex.read(folder / "videos" / split) for split in ("train", "val"))
    x, y = (
        extract_features(subject, index, description="controls").features["trained"] for index in (fit, test)
    )
    scores = probe(x, torch.from_numpy(fit.label_ids), y, len(fit.classes))[0]
    return float((scores.argmax(1) == torch.from_numpy(test.label_ids)).double().mean())


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
            lines.append(f"| {name} | {interval(list(values.values()))} | {by_seed} |")
    lines += [f"\n{len(seeds)} seeds ({', '.join(map(str, seeds))}); chance 12.5 %. ", ""]
    for key, title in (("seconds", "of the clock"), ("cpu_seconds", "of a CPU core")):
        lines.append(f"Seconds {title}: {', '.join(f'{value:.0f}' for value in times[key])}.")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "demo.md").write_text("\n".join(lines) + "\n")
    record = {"figures": figures, **times, "seeds": seeds}
    (RESULTS / "demo.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
