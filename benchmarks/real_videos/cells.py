"""A head trained on the kept features with one objective from one seed, and what the probes make of it before and after."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vidssl
from real_videos.probes import WIDTH, scores
from real_videos.sets import FRAMES, GRID, LAYER, MODEL, SIZE, UNLABELLED, Set
from vidssl.config import Config, load_config
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.models.encoder import VideoEncoder
from vidssl.objectives.base import BatchInfo, Objective, ObjectiveOutput, Views, video_ids
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train
from vidssl.training.setup import set_up

HEADS = {"projector": [256, 128]}
HSIC = load_config("adapt_features_small").model_dump(mode="json")["objective"]["hsic"]
ROWS: dict[str, tuple[dict[str, Any], str | None]] = {
    "infonce": ({"infonce": {"temperature": 0.1, **HEADS}}, None),
    "hsic": ({"hsic": HSIC}, None),
    "hsic, its defaults": ({"hsic": {**HEADS, "target": False, "estimator": "exact"}}, None),
    "sigreg": ({"sigreg": HEADS}, None),
    "spectral": ({"spectral": HEADS}, None),
    "vicreg": ({"vicreg": HEADS}, None),
    "hsic and ldm": ({"hsic": HSIC, "ldm": {"weight": 0.1, "projector": [256, 8], "entropy": "knn", "state_dim": 16}}, None),
    "control: hsic, shuffled identities": ({"hsic": HSIC}, "identities"),
    "control: hsic, shuffled time": ({"hsic": HSIC}, "time"),
    "control: infonce, shuffled identities": ({"infonce": {"temperature": 0.1, **HEADS}}, "identities"),
    "ceiling: infonce, told the classes": ({"infonce": {"temperature": 0.1, **HEADS}}, "labels"),
}  # fmt: skip
QUICK = ("infonce", "hsic", "sigreg", "hsic and ldm", "control: hsic, shuffled identities")


def recipe(row: str, seed: int, work: Path, weights: Path, output: Path | str = "run") -> Config:
    """The shipped recipe for kept features; all rows share everything but the objective."""
    changes = {
        "output": output,
        "seed": seed,
        "data.features": work / "features" / "train",
        "model.name": MODEL,
        "model.pretrained": weights,
        "model.options": {"head_width": WIDTH, "head_grid": GRID, "head_layer": LAYER, "head_alone": True, "head_pool": "std"},
        "views": [{"name": "global", "count": 2, "frames": FRAMES // 2, "stride": 1, "size": SIZE, "hide_p": 0.5}],
        "objective": ROWS[row][0],
    }  # fmt: skip
    return load_config(
        "adapt_features_small", [f"{k}={json.dumps(v, default=str)}" for k, v in changes.items()]
    )


def fingerprint(row: str) -> str:
    """Of all that is decided about a cell but its seed."""
    config = recipe(row, 0, Path("work"), Path("weights")).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([config, ROWS[row][1]], sort_keys=True).encode()).hexdigest()[:12]


def run_cell(
    row: str, seed: int, sets: dict[str, Set], work: Path, weights: Path, untrained: dict[str, Any] | None
) -> dict[str, Any]:
    """Train, and probe: ``{"trained": {set: …}, "untrained": {set: …}}``; `untrained` where it is known: a seed starts all rows from the same head."""
    with tempfile.TemporaryDirectory() as folder:
        config = recipe(row, seed, work, weights, Path(folder) / "run")
        run = set_up(config, make_accelerator(config))
        control = ROWS[row][1]
        if control == "labels":
            run.objective.objectives["infonce"] = SameClass(run.dataset.videos, temperature=0.1)
        elif control is not None:
            plain, generator = run.render, torch.Generator().manual_seed(seed)
            run.render = lambda batch: altered(plain(batch), control, generator)  # type: ignore[method-assign]
        train(run)
        trained = probed(vidssl.load_encoder(run.folder), sets)
        return {
            "trained": trained,
            "untrained": untrained or probed(vidssl.load_encoder(run.folder / "initial"), sets),
        }


class SameClass(Objective):
    """Supervised contrastive (Khosla et al. 2020, arXiv 2004.11362): all clips of a class of a labelled set are positives of each other.

    What the head can hold at most, of what these clips and features teach: nothing here is learned without labels.
    """

    log_name = "infonce"

    def __init__(self, videos: VideoIndex, temperature: float) -> None:
        super().__init__()
        sets = [path.split("/")[0] for path in videos.paths]
        known = {
            key: n
            for n, key in enumerate(
                sorted({(s, int(k)) for s, k in zip(sets, videos.label_ids, strict=True)})
            )
        }
        classes = [
            -1 - i if s == UNLABELLED else known[s, int(k)]
            for i, (s, k) in enumerate(zip(sets, videos.label_ids, strict=True))
        ]
        self.classes, self.temperature = torch.tensor(classes), temperature

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Minus the log softmax of cosines of the rows of both views, mean over the positives of each row."""
        rows = torch.nn.functional.normalize(torch.cat([view.projection for view in student]), dim=1)
        labels = self.classes[video_ids(batch, student[0].projection)].repeat(len(student))
        itself = torch.eye(len(rows), dtype=torch.bool)
        cosines = (rows @ rows.T / self.temperature).masked_fill(itself, -1e9)
        positive = (labels[:, None] == labels) & ~itself
        shares = (cosines - cosines.logsumexp(dim=1, keepdim=True)).masked_fill(~positive, 0.0)
        loss = -(shares.sum(dim=1) / positive.sum(dim=1)).mean()
        return ObjectiveOutput(loss, {"loss": loss})


def altered(views: list[Tensor], control: str, generator: torch.Generator) -> list[Tensor]:
    """Views (B, T, R) with what they share, or the order of their frames, taken out."""
    if control == "identities":
        return [view.roll(int(number > 0), dims=0) for number, view in enumerate(views)]
    return [
        torch.take_along_dim(v, torch.rand(v.shape[:2], generator=generator).argsort(1)[..., None], dim=1)
        for v in views
    ]


def probed(encoder: VideoEncoder, sets: dict[str, Set]) -> dict[str, Any]:
    """The probes of every set on the features of whole clips."""
    return {name: scores(clips(encoder, of.fit), clips(encoder, of.test), of) for name, of in sets.items()}


@torch.no_grad()
def clips(encoder: VideoEncoder, rows: Tensor) -> Tensor:
    """(N, F, R) -> (N, D)."""
    return torch.cat([encoder(part.float()).clip for part in rows.split(64)])
