"""How good the targets of a teacher are that drops tokens: which video a student's view belongs to, told by the teacher's other view.

The rendered motions of `vidssl demo`, two views of each as training cuts them, features of the demo's small ViT of frames (another one
and other draws for each seed). A student leaves out a share of the patches of the one view; the teacher sees all patches of the
other one, or leaves out as many (`teacher.token_drop`), with the keys of training. Of all videos, how often is the
nearest target that of the same video, and how near is it: the mean cosine after the means were taken away.

    OMP_NUM_THREADS=1 python benchmarks/teacher_tokens.py --work DIR
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

import torch
import torch.nn.functional as F
from equal_budget import videos
from equal_budget.recipes import MOTION_VIEW
from torch import Tensor

from vidssl.config import Config, validate_config
from vidssl.data.views.draw import token_keys
from vidssl.files import write_json, write_text
from vidssl.training.accelerator import make_accelerator
from vidssl.training.setup import Run, set_up

RESULT = Path(__file__).parent / "results" / "teacher_tokens"
RATES = (0.0, 0.5, 0.75, 0.9)
BATCH, STEPS = 48, 10  # all 480 videos


def recipe(seed: int, train: Path, clip: Path, output: Path) -> Config:
    """A recipe whose batches, views and keys are those that training would see."""
    options = {"token_drop": RATES[-1], "load_text": False}
    source = f"local-dir:{clip}"
    return validate_config(
        {
            "output": str(output),
            "seed": seed,
            "data": {"train": str(train), "window_seconds": None, "decode_size": 64, "workers": 0, "check": False},
            "views": [{**MOTION_VIEW, "count": 2}],
            "model": {"name": source, "pretrained": source, "temporal": "joint", "options": options},
            "train": {"batch_size": BATCH, "steps": STEPS, "precision": "fp32"},
        },
        "teacher_tokens",
    )  # fmt: skip


@torch.inference_mode()
def features(run: Run) -> dict[tuple[int, float], Tensor]:
    """(N, D) of all videos, by view and share of the patches that is left out."""
    encoder = run.student.encoder.eval()
    rows: dict[tuple[int, float], list[Tensor]] = {}
    with closing(run.batches()) as batches:
        for batch, _ in batches:
            for view, (clips, keys) in enumerate(zip(run.render(batch), token_keys(batch), strict=True)):
                for rate in RATES:
                    encoder.token_drop = rate
                    rows.setdefault((view, rate), []).append(encoder(clips, keys=keys).clip)
    return {key: torch.cat(parts) for key, parts in rows.items()}


def matched(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """Share of rows whose nearest row of the other is their own, and the mean cosine to it."""
    x, y = (F.normalize(rows - rows.mean(0), dim=1) for rows in (student, teacher))
    cosines = x @ y.T
    found = (cosines.argmax(1) == torch.arange(len(x))).double().mean()
    return float(found), float(cosines.diagonal().mean())


def main() -> None:
    """Measure every seed and rate; write JSON and Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-benchmark")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source = videos.sprites(arguments.work, choosing=False)
    cells = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            config = recipe(
                seed, source.train, videos.clip_of_frames(arguments.work, seed), Path(folder) / "run"
            )
            with closing(set_up(config, make_accelerator(config))) as run:
                seen = features(run)
        for rate in RATES:
            for teacher, own in (("sees all", 0.0), ("drops too", rate)):
                found, near = matched(seen[0, rate], seen[1, own])
                cells.append({"seed": seed, "rate": rate, "teacher": teacher, "found": found, "cosine": near})
                print(cells[-1], flush=True)
    lines = [
        f"| rate | teacher | same video found, %, seeds {arguments.seeds} | cosine |",
        "|---|---|---|---|",
    ]
    for rate in RATES:
        for teacher in ("sees all", "drops too")[: 1 if rate == 0 else 2]:
            own = [cell for cell in cells if (cell["rate"], cell["teacher"]) == (rate, teacher)]
            shown = ", ".join(f"{100 * cell['found']:.1f}" for cell in own)
            near = ", ".join(f"{cell['cosine']:.3f}" for cell in own)
            lines.append(f"| {rate:g} | {teacher} | {shown} | {near} |")
    table = "\n".join(lines)
    write_json(RESULT.with_suffix(".json"), {"cells": cells})
    write_text(RESULT.with_suffix(".md"), f"# Targets of teachers that drop tokens\n\n{table}\n")
    print(table)


if __name__ == "__main__":
    main()
