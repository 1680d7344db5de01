"""A head trained on the kept features with one objective from one seed, and what the probes make of it before and after."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import vidssl
from real_videos.probes import WIDTH, right_ones, scores
from real_videos.sets import FRAMES, GRID, LAYER, MODEL, SIZE, UNLABELLED, Set, texts_model, training_folder
from vidssl.concepts.templates import template_presets
from vidssl.config import Config, load_config
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.classes import ClassList
from vidssl.evaluation.texts.classifier import text_classifier
from vidssl.models.encoder import VideoEncoder
from vidssl.objectives.base import BatchInfo, Objective, ObjectiveOutput, Views, video_ids
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train
from vidssl.training.setup import set_up

TEMPERATURE = 0.01  # where targets have half of the largest entropy, over k400 and the clips trained on
HEADS = {"projector": [256, 128]}
HSIC = load_config("adapt_features_small").model_dump(mode="json")["objective"]["hsic"]
LDM = {"weight": 0.1, "projector": [256, 8], "entropy": "knn", "state_dim": 16}
CONCEPT = {"vocabulary": "k400", "student_temperature": TEMPERATURE, "teacher_temperature": TEMPERATURE}


class Row(NamedTuple):
    """What a head is trained with.

    Attributes:
        objective: of the recipe.
        control: what is taken out of the views ("identities", "time"), other clips to train on ("noise", "seen": those it is asked
            about too), or what it is told ("labels"); None: nothing.
        texts: behind an image-text model and added to its features, which so stay in the space of texts; else the head alone.
    """

    objective: dict[str, Any]
    control: str | None = None
    texts: bool = False


ROWS: dict[str, Row] = {
    "infonce": Row({"infonce": {"temperature": 0.1, **HEADS}}),
    "hsic": Row({"hsic": HSIC}),
    "hsic, its defaults": Row({"hsic": {**HEADS, "target": False, "estimator": "exact"}}),
    "sigreg": Row({"sigreg": HEADS}),
    "spectral": Row({"spectral": HEADS}),
    "vicreg": Row({"vicreg": HEADS}),
    "hsic and ldm": Row({"hsic": HSIC, "ldm": LDM}),
    "in the texts' space: hsic": Row({"hsic": HSIC}, texts=True),
    "in the texts' space: concept": Row({"concept": CONCEPT}, texts=True),
    "in the texts' space: ldm": Row({"ldm": LDM}, texts=True),
    "in the texts' space: hsic and concept": Row({"hsic": HSIC, "concept": CONCEPT}, texts=True),
    "in the texts' space: hsic, concept and ldm": Row({"hsic": HSIC, "concept": CONCEPT, "ldm": LDM}, texts=True),
    "control: hsic, shuffled identities": Row({"hsic": HSIC}, "identities"),
    "control: hsic, shuffled time": Row({"hsic": HSIC}, "time"),
    "control: hsic, videos of noise": Row({"hsic": HSIC}, "noise"),
    "control: infonce, shuffled identities": Row({"infonce": {"temperature": 0.1, **HEADS}}, "identities"),
    "ceiling: hsic, trained on the validation parts too": Row({"hsic": HSIC}, "seen"),
    "ceiling: infonce, told the classes": Row({"infonce": {"temperature": 0.1, **HEADS}}, "labels"),
}  # fmt: skip
QUICK = ("infonce", "hsic", "sigreg", "hsic and ldm", "control: hsic, shuffled identities")


def recipe(row: str, seed: int, work: Path, weights: Path, output: Path | str = "run") -> Config:
    """The shipped recipe for kept features; all rows share everything but the objective."""
    changes = {
        "output": output,
        "seed": seed,
        "data.features": training_folder(work, ROWS[row].control, ROWS[row].texts),
        "model.name": MODEL,
        "model.pretrained": weights,
        "model.options": {"head_width": WIDTH, "head_grid": GRID, "head_layer": LAYER, "head_alone": True, "head_pool": "std"},
        "views": [{"name": "global", "count": 2, "frames": FRAMES // 2, "stride": 1, "size": SIZE, "hide_p": 0.5}],
        "objective": ROWS[row].objective,
    }  # fmt: skip
    if ROWS[row].texts:
        model = f"local-dir:{texts_model(work)}"
        changes |= {
            "model.name": model,
            "model.pretrained": model,
            "model.options": {"head_width": WIDTH, "head_grid": GRID, "head_layer": LAYER},
            "teacher.momentum": 0.95,  # half of the past is forgotten in 14 of 300 steps
        }
    return load_config(
        "adapt_features_small", [f"{k}={json.dumps(v, default=str)}" for k, v in changes.items()]
    )


def fingerprint(row: str) -> str:
    """Of all that is decided about a cell but its seed."""
    config = recipe(row, 0, Path("work"), Path("weights")).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([config, ROWS[row].control], sort_keys=True).encode()).hexdigest()[:12]


def run_cell(
    row: str, seed: int, sets: dict[str, Set], work: Path, weights: Path, untrained: dict[str, Any] | None
) -> dict[str, Any]:
    """Train, and probe: ``{"trained": {set: …}, "untrained": {set: …}}``; `untrained` where it is known: a seed starts all rows from the same head."""
    run = trained_run(row, seed, work, weights)
    return {
        "trained": probed(vidssl.load_encoder(run), sets),
        "untrained": untrained or probed(vidssl.load_encoder(run / "initial"), sets),
    }


def trained_run(row: str, seed: int, work: Path, weights: Path) -> Path:
    """The folder of the finished run of a cell, which is trained where it is not there."""
    kept = work / "heads" / f"{fingerprint(row)}-{seed}"
    if kept.is_dir():
        return kept
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        config = recipe(row, seed, work, weights, Path(folder) / "run")
        run = set_up(config, make_accelerator(config))
        control = ROWS[row].control
        if control == "labels":
            run.objective.objectives["infonce"] = SameClass(run.dataset.videos, temperature=0.1)
        elif control in ("identities", "time"):
            plain, generator = run.render, torch.Generator().manual_seed(seed)
            run.render = lambda batch: altered(plain(batch), control, generator)  # type: ignore[method-assign]
        train(run)
        return run.folder.rename(kept)


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
    """The probes of every set on the features of whole clips, and of an encoder with a text tower which clips it names by itself."""
    found = {}
    for name, of in sets.items():
        test = clips(encoder, of.test)
        found[name] = scores(clips(encoder, of.fit), test, of)
        if encoder.text is not None:
            found[name]["zero-shot"] = right_ones(test @ of_texts(encoder, of.names).T, of)
    return found


def of_texts(encoder: VideoEncoder, names: Sequence[str]) -> Tensor:
    """(K, D) unit rows of classes by their names."""
    texts = tuple(name.replace("_", " ") for name in names)
    classes = ClassList(tuple(names), texts, described=False, source="the folders")
    return text_classifier(encoder, classes, template_presets()[classes.default_templates])


@torch.no_grad()
def clips(encoder: VideoEncoder, rows: Tensor) -> Tensor:
    """(N, F, R) -> (N, D)."""
    return torch.cat([encoder(part.float()).clip for part in rows.split(64)])
