"""SSL-HSIC at the start of a small run: where gamma = 3 collapses, and what prevents it.

    OMP_NUM_THREADS=1 python benchmarks/collapse.py [--videos FOLDER] [--target]

A fresh small 3-D convolutional network, two views of 48 videos, AdamW at 1e-3, no target network. Spreading the features
pays only while their effective rank exceeds (gamma / rho)², rho being their invariance, which is low at first: the gradient
shrinks them to a point, where loss, HSIC(Z, Y) and HSIC(Z, Z) are zero and no gradient is left. Written to
benchmarks/results/collapse.md; without --videos the videos of `vidssl demo` are rendered.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.data.batch import collate_clips
from vidssl.data.dataset import ClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views import ViewSpec, render_views
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import HeadOutput, ProjectionHead
from vidssl.models.teacher import Teacher
from vidssl.objectives.hsic import SSLHSIC

RESULTS = Path(__file__).parent / "results"
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # objective, head
    "gamma that follows kappa = 1": ({"kappa": 1.0}, {}),
    "gamma that follows kappa = 0.8 (the default)": ({}, {}),
    "gamma = 3": ({"gamma": 3.0}, {}),
    "gamma = 1": ({"gamma": 1.0}, {}),
    "gamma from 1 to 3": ({"gamma": 3.0, "gamma_start": 1.0, "gamma_ramp": 0.5}, {}),
    "gamma = 3, normed projector output": ({"gamma": 3.0}, {"last_norm": True}),
    "gamma from 1 to 2, normed output": (
        {"gamma": 2.0, "gamma_start": 1.0, "gamma_ramp": 0.5},
        {"last_norm": True},
    ),
}
# With a target network and a predictor, watched for the shortcut of prediction and target of the same view.
TARGET = {"target": True, "kappa": 1.0}
TARGET_SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "same-view pairs": ({**TARGET}, {"predictor": (512, 128)}),
    "no same-view pairs": ({**TARGET, "same_view_pairs": False}, {"predictor": (512, 128)}),
    "no same-view pairs, no predictor": ({**TARGET, "same_view_pairs": False}, {}),
}
MOMENTUM = 0.97


def network(width: int = 16, dim: int = 256) -> nn.Module:
    """(B, 3, T, 48, 48) to (B, dim): four strided 3-D convolutions and a global mean."""

    def layer(inside: int, outside: int, kernel: tuple[int, int, int], stride: int) -> nn.Sequential:
        padding = tuple(k // 2 for k in kernel)
        convolution = nn.Conv3d(inside, outside, kernel, (1, stride, stride), padding, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm3d(outside), nn.ReLU(inplace=True))

    return nn.Sequential(
        layer(3, width, (1, 5, 5), 3),
        layer(width, 2 * width, (3, 3, 3), 2),
        layer(2 * width, 4 * width, (3, 3, 3), 2),
        layer(4 * width, dim, (3, 3, 3), 2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    )


class Network(nn.Module):
    """Encoder and head of one view."""

    def __init__(self, head: dict[str, Any]) -> None:
        super().__init__()
        self.encoder, self.head = network(), ProjectionHead(256, (512, 128), **head)

    def forward(self, view: Tensor) -> HeadOutput:
        output: HeadOutput = self.head(ClipFeatures(self.encoder(view), view.new_empty(0), None))
        return output


def train(
    batches: list[list[Tensor]], options: dict[str, Any], head: dict[str, Any]
) -> list[dict[str, float]]:
    """Logs of every step."""
    torch.manual_seed(0)
    student = Network(head)
    objective = SSLHSIC(**{"target": False, "estimator": "exact", **options})
    teacher = Teacher(student) if objective.needs_teacher else None
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    history = []
    for step, views in enumerate(batches):
        objective.set_progress(step / len(batches))
        targets = [teacher(view) for view in views] if teacher else None
        output = objective([student(view) for view in views], targets)
        optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        optimizer.step()
        if teacher:
            teacher.update(student, MOMENTUM)
        history.append({key.split("/")[1]: float(value) for key, value in output.logs.items()})
    return history


def draw_batches(videos: Path, steps: int) -> list[list[Tensor]]:
    """The same views for every setting."""
    index = VideoIndex.read(videos)
    spec = ViewSpec(
        name="view",
        count=2, frames=4, seconds=1.0, size=48, scale=(0.4, 1.0), jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_p=0.8, gray_p=0.2, blur_p=0.0,
    )  # fmt: skip
    dataset = ClipDataset(index, (spec,), window_seconds=4.0, decode_size=64, seed=0)
    sampler = GlobalBatchSampler(len(index), 48, num_processes=1, rank=0, seed=0, total_steps=steps)
    return [
        render_views(collate_clips([dataset[key] for key in batch]), (spec,), (0.45,) * 3, (0.225,) * 3)
        for batch in sampler
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder of videos (any depth)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batches", type=int, help="different ones, repeated; default: one a step")
    parser.add_argument("--target", action="store_true", help="with a target network: the same-view shortcut")
    parser.add_argument("--settings", nargs="+", help="default: all")
    arguments = parser.parse_args()
    settings = TARGET_SETTINGS if arguments.target else SETTINGS
    with tempfile.TemporaryDirectory() as folder:
        videos = arguments.videos
        if videos is None:
            from vidssl.synthetic.motions import write_sprite_dataset

            write_sprite_dataset(folder, clips_per_class_val=0, texture=0.0)
            videos = Path(folder) / "train"
        different = draw_batches(videos, arguments.batches or arguments.steps)
        batches = [different[step % len(different)] for step in range(arguments.steps)]
    watched = [1, *(round(arguments.steps * thirds / 3) for thirds in (1, 2, 3))]
    what = (
        "HSIC(Z, Y) across views / within a view, at a step."
        if arguments.target
        else "Loss / HSIC(Z, Z) / rho / effective rank of the kernel features at a step; at collapse the first two stay at zero."
    )
    steps = " | ".join(f"step {step}" for step in watched)
    lines = [what, "", f"| setting | {steps} |", "|---" * (len(watched) + 1) + "|"]
    for name in arguments.settings or settings:
        history = train(batches, *settings[name])
        cells = [cell(history[step - 1], arguments.target) for step in watched]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ("same_view.md" if arguments.target else "collapse.md")).write_text("\n".join(lines) + "\n")


def cell(log: dict[str, float], target: bool) -> str:
    if target:
        within = log.get("hsic_xy_within")
        return f"{log['hsic_xy_across']:.3f} / {'–' if within is None else f'{within:.3f}'}"
    return f"{log['loss']:.3f} / {log['hsic_xx']:.4f} / {log['rho']:.2f} / {log['effective_rank']:.0f}"


if __name__ == "__main__":
    main()
