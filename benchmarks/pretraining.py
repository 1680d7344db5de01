"""Every objective at the same budget, beside the encoder it started from.

    OMP_NUM_THREADS=1 python benchmarks/pretraining.py --set sprites
    OMP_NUM_THREADS=1 python benchmarks/pretraining.py --set clips --videos VIDEOS

Each run pretrains the same small ViT (2 layers, width 64, random weights, views of 4 frames at 32 pixels) for the same
number of steps on the same batches and is then probed at 6 frames and 48 pixels: logistic regression and k-NN on frozen
clip features. ``sprites`` are the videos of `vidssl demo`, whose eight classes are motions; both views are grey and cover
different parts of the video, so that what they share is shape and motion. ``clips`` is a folder of real videos, of which
``ut_interaction`` and ``ucf101`` are the labelled parts (evaluated in five folds that keep each recorded group together).
Controls of SSL-HSIC without a teacher: gamma = 0, and second views that come from another video.

Results are kept one file a run under --work, so an interrupted benchmark goes on where it stopped; the table is written
to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidssl.config import Config, validate_config
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.knn import knn_scores
from vidssl.evaluation.linear_probe import probe
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject
from vidssl.models.heads import HeadOutput
from vidssl.training import loop, pretrain, setup

RESULTS = Path(__file__).parent / "results"
WIDTH = 64
LABELLED = ("ut_interaction", "ucf101")
FOLDS = 5


class Setting(NamedTuple):
    """What is the same for all objectives of a set; docs/objectives/comparison.md says on which runs it was chosen.

    neighbours: k of the k-NN probes; a fold of the clips has 16 training rows of a class.
    """

    patch: int
    steps: int
    lr: float
    neighbours: tuple[int, ...]


SETTINGS = {"sprites": Setting(16, 250, 4e-3, (20,)), "clips": Setting(8, 400, 1e-3, (5, 20))}
HEADS = {"projector": [256, 128]}
PREDICTED = {**HEADS, "predictor": [256, 128]}
HSIC = {"gamma": 2.0, "gamma_start": 1.0, "estimator": "exact", "last_norm": True}
ALONE = {**HSIC, "target": False, **HEADS}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "hsic": {"hsic": {**HSIC, **PREDICTED}},
    "hsic, features": {"hsic": {**HSIC, "estimator": "rff", **PREDICTED}},
    "hsic, no teacher": {"hsic": ALONE},
    "hsic, time-aware": {"hsic": {**ALONE, "time_width": 1.0}},
    "hsic, frames": {"hsic": {**ALONE, "frames": True}},
    "spectral": {"spectral": {"mu": 5.0, **HEADS}},
    "spectral, temporal": {"temporal_spectral": {"clip": True, "mu": 5.0, "lag": 3, **HEADS}},
    "ressl": {"ressl": {"queue_size": 512, "norm": "batch", "last_norm": True, **HEADS}},
    "infonce": {"infonce": {**HEADS}},
    "byol": {"byol": {**PREDICTED}},
    "simsiam": {"simsiam": {"last_norm": True, **PREDICTED}},
    "vicreg": {"vicreg": {**HEADS}},
    "barlow": {"barlow": {**HEADS}},
    "dino": {"dino": {"norm": "batch", "prototypes": 512, **HEADS}},
    "control: hsic, gamma = 0": {"hsic": {**ALONE, "gamma": 0.0, "gamma_start": None}},
    "control: hsic, shuffled identities": {"hsic": ALONE},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=("sprites", "clips"), required=True)
    parser.add_argument(
        "--videos", type=Path, help="folder of real videos with manifest.csv (for --set clips)"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-benchmark")
    parser.add_argument("--steps", type=int, help="default: of the set")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, help="default: of the set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument(
        "--table-only", action="store_true", help="write the table of the runs that are there"
    )
    arguments = parser.parse_args()
    setting = SETTINGS[arguments.set]
    arguments.steps, arguments.lr = arguments.steps or setting.steps, arguments.lr or setting.lr
    work = arguments.work / f"{arguments.set}-{arguments.steps}"
    work.mkdir(parents=True, exist_ok=True)
    if not arguments.table_only:
        opener = functools.lru_cache(maxsize=None)(CachedVideo)
        setup.ClipDataset = functools.partial(ClipDataset, opener=opener)  # type: ignore[misc,assignment]
        sources = prepare(arguments.set, arguments.videos, arguments.work)
        model = write_start(arguments.work, setting.patch)
        untrained: dict[int, dict[str, float]] = {}
        for seed in arguments.seeds:
            for name in arguments.objectives:
                run_one(name, seed, sources, model, work, arguments, untrained)
    write_table(arguments.set, work, arguments)


def run_one(
    name: str,
    seed: int,
    sources: Path,
    model: Path,
    work: Path,
    arguments: argparse.Namespace,
    untrained: dict[int, dict[str, float]],
) -> None:
    """Pretrain and probe once, unless the result is there."""
    label = "".join(character if character.isalnum() else "-" for character in name)
    file = work / f"{label}-{seed}.json"
    if file.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        config = recipe(name, seed, sources, model, Path(folder) / "run", arguments)
        plain = loop.compute_loss
        if "shuffled" in name:
            loop.compute_loss = with_shuffled_identities
        try:
            run = pretrain(config)
        finally:
            loop.compute_loss = plain
        subject = load_subject(run, EvalOptions(device="cpu"))
        if seed not in untrained:  # all runs of a seed start from the same weights
            untrained[seed] = evaluate(
                replace(subject, encoder=subject.untrained, untrained=None), arguments.set, sources
            )
        trained = evaluate(replace(subject, untrained=None), arguments.set, sources)
        scores = {"trained": trained, "untrained": untrained[seed]}
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    file.write_text(json.dumps({"objective": name, "seed": seed, "scores": scores, "log": last}, indent=1))
    print(f"{arguments.set} {name} seed {seed}: {scores}", flush=True)


def with_shuffled_identities(run: setup.Run, views: Any, heads: Any, info: Any) -> Any:
    """The loss of views of which all but the first come from the next video of the batch."""

    def roll(output: HeadOutput) -> HeadOutput:
        return HeadOutput(*(None if x is None else x.roll(1, dims=0) for x in output))  # type: ignore[arg-type]

    moved = {name: [outputs[0], *map(roll, outputs[1:])] for name, outputs in heads.items()}
    targets = run.teacher(views).heads if run.objective.needs_teacher else None
    if targets is not None:
        targets = {name: [outputs[0], *map(roll, outputs[1:])] for name, outputs in targets.items()}
    return run.objective(moved, targets, info)


def recipe(
    name: str, seed: int, sources: Path, model: Path, output: Path, arguments: argparse.Namespace
) -> Config:
    """The same for all objectives but the objective."""
    sprites = arguments.set == "sprites"
    view = {
        "frames": 4,
        "seconds": 0.9 if sprites else 1.5,
        "size": 32,
        "scale": [0.4, 1.0],
        "flip": 0.0 if sprites else 0.5,  # sprites: the classes are directions
        "jitter": [0.6, 0.6, 0.8, 0.5] if sprites else [0.4, 0.4, 0.4, 0.1],
        "jitter_p": 1.0 if sprites else 0.8,
        "gray_p": 1.0 if sprites else 0.2,
        "blur_p": 0.0,
    }
    views = [view]
    if name == "ressl":  # a weakly cropped view for the teacher, a strong one for the student
        weak = {"count": 1, "scale": [0.7, 1.0], "jitter_p": 0.0, "name": "weak"}
        views = [{**view, **weak}, {**view, "count": 1, "name": "strong", "teacher": False}]
    return validate_config(
        {
            "output": str(output),
            "seed": seed,
            "data": {"train": str(sources / "train"), "window_seconds": None if sprites else 4.0, "decode_size": 64,
                     "workers": 0},
            "views": views,
            "model": {"name": f"local-dir:{model}", "options": {"load_weights": False}},
            "objective": OBJECTIVES[name],
            "teacher": {"momentum": 0.95, "final": 0.95},
            "train": {"batch_size": arguments.batch_size, "steps": arguments.steps, "lr": arguments.lr,
                      "precision": "fp32", "log_every": 20, "checkpoint_every": arguments.steps, "warmup": 0.1},
        },
        name,
    )  # fmt: skip


def evaluate(subject: Subject, which: str, sources: Path) -> dict[str, float]:
    """Accuracy of linear probe and k-NN on the encoder's features."""
    neighbours = SETTINGS[which].neighbours
    if which == "sprites":  # the whole motion, of which a training view shows half
        options = EvalOptions(6, math.inf, clips=1, size=48, workers=0, batch_size=32)
        subject = replace(subject, options=options)
        fit, test = (VideoIndex.read(sources / split) for split in ("train", "val"))
        x, y = (
            extract_features(subject, index, description="features").features["trained"]
            for index in (fit, test)
        )
        folds = [(x, torch.from_numpy(fit.label_ids), y, torch.from_numpy(test.label_ids))]
        return score_folds(folds, neighbours)
    subject = replace(subject, options=EvalOptions(6, clips=2, size=48, workers=0, batch_size=32))
    groups = dict(csv.reader((sources / "groups.csv").open()))
    scores: dict[str, float] = {}
    for name in LABELLED:
        index = VideoIndex.read(sources / name)
        rows = extract_features(subject, index, description=name).features["trained"]
        labels = torch.from_numpy(index.label_ids)
        group = [groups["/".join(Path(path).parts[-2:])] for path in index.paths]
        order = {g: position for position, g in enumerate(sorted(set(group)))}
        folds = []
        for fold in range(FOLDS):
            out = torch.tensor([order[g] % FOLDS == fold for g in group])
            folds.append((rows[~out], labels[~out], rows[out], labels[out]))
        scores |= {f"{name} {probe}": value for probe, value in score_folds(folds, neighbours).items()}
    return scores


def score_folds(
    folds: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], neighbours: Sequence[int]
) -> dict[str, float]:
    """Correct answers over all folds (train rows, labels, test rows, labels), as shares."""
    total, correct = 0, Counter[str]()
    for train, train_labels, test, test_labels in folds:
        classes = int(train_labels.max()) + 1
        scores = {"linear": probe(train, train_labels, test, classes, grid=(1e-4, 1e-3, 1e-2, 1e-1, 1.0))[0]}
        scores |= {f"{k}-NN": knn_scores(train, train_labels, test, k, classes) for k in neighbours}
        correct.update({key: int((score.argmax(1) == test_labels).sum()) for key, score in scores.items()})
        total += len(test_labels)
    return {**{key: count / total for key, count in correct.items()}, "videos": total}


def prepare(which: str, videos: Path | None, work: Path) -> Path:
    """The videos at the size the network sees: rendered, or real clips re-encoded at a short side of 64 pixels."""
    folder = work / which
    if (folder / "ready").exists():
        return folder
    if which == "sprites":
        from vidssl.synthetic.motions import write_sprite_dataset

        write_sprite_dataset(folder, clips_per_class_train=40, clips_per_class_val=40, texture=0.0, seed=0)
    else:
        if videos is None:
            raise SystemExit("--set clips needs --videos")
        shrink_clips(videos, folder)
    (folder / "ready").touch()
    return folder


def shrink_clips(videos: Path, folder: Path) -> None:
    """Every clip of the manifest under ``train/``; the labelled sets in folders of their own, with the recorded groups."""
    from vidssl.data.views.crop import resize_short_side
    from vidssl.synthetic.motions import write_clip

    groups = []
    for number, row in enumerate(csv.DictReader((videos / "manifest.csv").open())):
        with open_video(videos / row["path"]) as video:
            step = max(round(video.info.fps / 10), 1)
            frames = torch.from_numpy(video.frames(range(0, video.info.num_frames, step)))
            fps = max(round(video.info.fps / step), 1)
        frames = resize_short_side(frames, 64)
        height, width = (side // 2 * 2 for side in frames.shape[1:3])
        clip = frames[:, :height, :width].contiguous().numpy()
        targets = [folder / "train" / "all" / f"{number:04d}.mp4"]
        source = row["path"].split("/")[0]
        if source in LABELLED:
            targets.append(folder / source / row["label"] / f"{number:04d}.mp4")
            groups.append((f"{row['label']}/{number:04d}.mp4", row["group"]))
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_clip(target, clip, fps)
    with (folder / "groups.csv").open("w") as stream:
        csv.writer(stream).writerows(groups)


def write_start(work: Path, patch: int) -> Path:
    """The architecture of all runs, as an open_clip folder (its weights are not used)."""
    folder = work / f"start-{patch}"
    if not (folder / "open_clip_config.json").exists():
        import open_clip

        from vidssl.synthetic.clip import save_clip, toy_clip_config

        config = toy_clip_config(image_size=48, patch_size=patch)
        config["embed_dim"] = 64
        config["vision_cfg"] |= {"width": WIDTH, "head_width": 32, "layers": 2}
        save_clip(open_clip.CLIP(**config), config, (0.45,) * 3, (0.225,) * 3, folder)
    return folder


class CachedVideo:
    """A video whose frames are all kept in memory, so that the objectives and not the decoder take the time."""

    def __init__(self, path: Path) -> None:
        with open_video(path) as video:
            self.times, self.info, self.path = video.times, video.info, path
            self.all = video.frames(range(video.info.num_frames))

    def frames(self, indices: Any) -> Any:
        return self.all[indices]

    def __enter__(self) -> CachedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def over_both_sets(scores: dict[str, float]) -> dict[str, float]:
    """The scores, and with two labelled sets the share over the videos of both."""
    if "videos" in scores:
        return scores
    videos = {name: scores[f"{name} videos"] for name in LABELLED}
    probes = [key.split()[1] for key in scores if key.startswith(LABELLED[0]) and "videos" not in key]
    both = {
        probe: sum(scores[f"{name} {probe}"] * count for name, count in videos.items()) for probe in probes
    }
    return {**{f"both {probe}": hits / sum(videos.values()) for probe, hits in both.items()}, **scores}


def write_table(which: str, work: Path, arguments: argparse.Namespace) -> None:
    """The gain over the untrained encoder of the same seed, mean over seeds with a 95 % t-interval."""
    runs = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    quantile = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}

    def summary(values: list[float]) -> str:
        mean = statistics.fmean(values)
        if len(values) < 2:
            return f"{100 * mean:.1f}"
        half = quantile.get(len(values), 1.96) * statistics.stdev(values) / math.sqrt(len(values))
        return f"{100 * mean:.1f} ± {100 * half:.1f}"

    for run in runs:
        run["scores"] = {state: over_both_sets(scores) for state, scores in run["scores"].items()}
    probes = [key for key in runs[0]["scores"]["trained"] if not key.endswith("videos")]
    untrained = {run["seed"]: run["scores"]["untrained"] for run in runs}
    start = [summary([score[key] for score in untrained.values()]) for key in probes]
    lines = [
        f"| gain of | {' | '.join(probes)} | seeds |",
        "|---" * (len(probes) + 2) + "|",
        f"| (the untrained encoder itself) | {' | '.join(start)} | {len(untrained)} |",
    ]
    for name in OBJECTIVES:
        own = [run["scores"] for run in runs if run["objective"] == name]
        if own:
            gains = [[score["trained"][key] - score["untrained"][key] for score in own] for key in probes]
            lines.append(f"| {name} | {' | '.join(map(summary, gains))} | {len(own)} |")
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"pretraining_{which}"
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    record = {"steps": arguments.steps, "batch_size": arguments.batch_size, "lr": arguments.lr, "runs": runs}
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
