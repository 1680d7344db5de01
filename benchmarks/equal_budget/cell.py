"""One cell of the table: pretrain with one objective from one seed, and probe what the encoder has become."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.config import Config
from vidssl.data.batch import ClipBatch
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import build_eval_loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.videos import Opener
from vidssl.data.views.colour import Triple
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
from vidssl.evaluation.features import motion_energy
from vidssl.evaluation.probes.knn import knn_scores
from vidssl.evaluation.probes.logistic import probe
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.models.encoder import VideoEncoder
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train
from vidssl.training.setup import Run, set_up

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # penalties of the linear probe
NEIGHBOURS = 20


def run_cell(
    config: Config, control: str | None, sets: dict[str, Path], options: EvalOptions, cache: Opener
) -> dict[str, Any]:
    """Pretrain and probe.

    Args:
        config: the recipe.
        control: None, "identities" (all views of a video but the first come from another one), "time" (the frames of every
            clip in random order, in training and in the probes) or "frozen" (only the head is trained).
        sets: labelled videos, ``<folder>/{train,val}/<class>/``, by name.
        options: how they are shown to the encoder.
        cache: of their frames.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = config.model_copy(update={"output": str(Path(folder) / "run")})
        run = set_up(config, make_accelerator(config))
        run.dataset.opener = cache
        if control == "frozen":
            run.student.encoder.requires_grad_(False)
        if control in ("identities", "time"):
            # A dataclass field in all but name: the loop asks the run for its views.
            run.render = altered(run, control)  # type: ignore[method-assign]
        train(run)
        last = json.loads((run.folder / "log.jsonl").read_text().splitlines()[-1])
        subject = load_subject(run.folder, EvalOptions(device="cpu"))
        shuffled = control == "time"
        assert subject.untrained is not None
        scores = {
            "trained": score(subject.encoder.eval(), sets, options, cache, shuffled),
            "untrained": score(subject.untrained.eval(), sets, options, cache, shuffled),
        }
    return {"scores": scores, "log": last}


def altered(run: Run, control: str) -> Callable[[ClipBatch], list[Tensor]]:
    """The run's views with what they share taken out."""
    plain = run.render
    generator = torch.Generator().manual_seed(run.seed)

    def render(batch: ClipBatch) -> list[Tensor]:
        views = plain(batch)
        if control == "identities":
            return [view.roll(int(number > 0), dims=0) for number, view in enumerate(views)]
        return [shuffle_time(view, generator) for view in views]

    return render


def shuffle_time(clips: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, T, H, W) with the frames of every clip in an order of its own."""
    order = torch.rand(len(clips), clips.shape[2], generator=generator).argsort(dim=1)
    return torch.take_along_dim(clips, order[:, None, :, None, None], dim=2)


def shown(
    index: VideoIndex, spec: EvalSpec, mean: Triple, std: Triple, cache: Opener, shuffled: bool = False
) -> Iterator[list[Tensor]]:
    """All videos in order, 32 at a time: their clips, (B, 3, T, S, S) each."""
    generator = torch.Generator().manual_seed(0)
    for batch in build_eval_loader(EvalClipDataset(index, spec, opener=cache), 32, num_workers=0):
        views = render_eval_views(batch, spec, mean, std)
        yield [shuffle_time(clips, generator) for clips in views] if shuffled else views


@torch.inference_mode()
def features(
    encoder: VideoEncoder, index: VideoIndex, options: EvalOptions, *shown_how: Any
) -> dict[str, Tensor]:
    """Rows of all videos in order, means over their clips: ``linear``, features of the clip, and ``frames``, those of its
    frames side by side."""
    rows: dict[str, list[Tensor]] = {"linear": [], "frames": []}
    for views in shown(index, options.spec(encoder), encoder.mean, encoder.std, *shown_how):
        outputs = [encoder(clips) for clips in views]
        rows["linear"].append(torch.stack([output.clip.float() for output in outputs]).mean(0))
        rows["frames"].append(torch.stack([output.frames.flatten(1).float() for output in outputs]).mean(0))
    return {name: torch.cat(parts) for name, parts in rows.items()}


def score(
    encoder: VideoEncoder,
    sets: dict[str, Path],
    options: EvalOptions,
    cache: Opener,
    shuffled: bool = False,
) -> dict[str, float]:
    """Validation accuracy of every probe on every set: ``<set> linear``, ``<set> frames``, ``<set> 20-NN``."""
    scores = {}
    for name, folder in sets.items():
        splits = [VideoIndex.read(folder / split) for split in ("train", "val")]
        fit, test = (features(encoder, index, options, cache, shuffled) for index in splits)
        labels, truth, classes = labels_of(*splits)
        for kind in fit:
            scores[f"{name} {kind}"] = accuracy(
                probe(fit[kind], labels, test[kind], classes, grid=GRID)[0], truth
            )
        near = knn_scores(fit["linear"], labels, test["linear"], NEIGHBOURS, classes)
        scores[f"{name} {NEIGHBOURS}-NN"] = accuracy(near, truth)
    return scores


def baselines(sets: dict[str, Path], cache: Opener) -> dict[str, float]:
    """What needs no learning: the commonest class, and logistic regression on where and when pixels change."""
    scores = {}
    spec = EvalSpec(ClipSpec(16, seconds=math.inf), size=48, resize="squash")
    for name, folder in sets.items():
        splits = [VideoIndex.read(folder / split) for split in ("train", "val")]
        fit, test = (
            torch.cat(
                [motion_energy(clips) for (clips,) in shown(index, spec, (0.0,) * 3, (1.0,) * 3, cache)]
            )
            for index in splits
        )
        labels, truth, classes = labels_of(*splits)
        scores[f"{name} majority"] = float((truth == labels.mode().values).double().mean())
        scores[f"{name} motion energy"] = accuracy(probe(fit, labels, test, classes, grid=GRID)[0], truth)
    return scores


def labels_of(train: VideoIndex, val: VideoIndex) -> tuple[Tensor, Tensor, int]:
    """Labels of both splits, and how many classes there are."""
    assert train.classes == val.classes
    return torch.from_numpy(train.label_ids), torch.from_numpy(val.label_ids), len(train.classes)


def accuracy(scores: Tensor, truth: Tensor) -> float:
    """The share of rows whose highest score is at the truth."""
    return float((scores.argmax(1) == truth).double().mean())
