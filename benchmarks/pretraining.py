"""Every objective at the same budget, beside the encoder it started from.

    OMP_NUM_THREADS=1 python benchmarks/pretraining.py --set sprites
    OMP_NUM_THREADS=1 python benchmarks/pretraining.py --set clips --videos VIDEOS

Each run pretrains the same small ViT (2 layers, width 64, 48 pixels, random weights) for the same number of steps on
the same batches and is then probed: logistic regression and 20-NN on frozen clip features. ``sprites`` are rendered
motions, ``clips`` a folder of real videos of which ``ut_interaction`` is the labelled part (evaluated by leaving out one
recorded sequence at a time). Controls: SSL-HSIC with gamma = 0, and SSL-HSIC whose second view comes from another video.

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
from pathlib import Path
from typing import Any

import torch

from vidssl.config import Config, validate_config
from vidssl.data.dataset import ClipDataset
from vidssl.data.index import VideoIndex
from vidssl.data.video import open_video
from vidssl.evaluation.knn import knn_scores
from vidssl.evaluation.probes import probe
from vidssl.evaluation.setup import EvalOptions, Subject, features_of, load_subject
from vidssl.models.heads import HeadOutput
from vidssl.training import pretrain, trainer
from vidssl.training.trainer import Trainer

RESULTS = Path(__file__).parent / "results"
WIDTH = 64
HEADS = {"projector": [256, 128]}
PREDICTED = {**HEADS, "predictor": [256, 128]}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "hsic": {"hsic": {"gamma": 3.0, "gamma_start": 1.0, "estimator": "exact", **PREDICTED}},
    "hsic, features": {"hsic": {"gamma": 3.0, "gamma_start": 1.0, "estimator": "rff", **PREDICTED}},
    "hsic, no teacher": {"hsic": {"gamma": 1.0, "target": False, "last_norm": True, **HEADS}},
    "hsic, time-aware": {"hsic": {"gamma": 3.0, "gamma_start": 1.0, "time_width": 1.0, **PREDICTED}},
    "hsic, frames": {"hsic": {"gamma": 3.0, "gamma_start": 1.0, "frames": True, **PREDICTED}},
    "spectral": {"spectral": {"mu": 1.0, **HEADS}},
    "spectral, temporal": {"temporal_spectral": {**HEADS}},
    "ressl": {"ressl": {"queue_size": 512, **HEADS}},
    "infonce": {"infonce": {**HEADS}},
    "byol": {"byol": {**PREDICTED}},
    "simsiam": {"simsiam": {**PREDICTED}},
    "vicreg": {"vicreg": {**HEADS}},
    "barlow": {"barlow": {**HEADS}},
    "dino": {"dino": {"projector": [256, 512]}},
    "control: hsic, gamma = 0": {"hsic": {"gamma": 0.0, "estimator": "exact", **PREDICTED}},
    "control: hsic, shuffled identities": {
        "hsic": {"gamma": 3.0, "gamma_start": 1.0, "estimator": "exact", **PREDICTED}
    },
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
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument(
        "--table-only", action="store_true", help="write the table of the runs that are there"
    )
    arguments = parser.parse_args()
    work = arguments.work / f"{arguments.set}-{arguments.steps}"
    work.mkdir(parents=True, exist_ok=True)
    if not arguments.table_only:
        opener = functools.lru_cache(maxsize=None)(CachedVideo)
        trainer.ClipDataset = functools.partial(ClipDataset, opener=opener)  # type: ignore[misc,assignment]
        sources = prepare(arguments.set, arguments.videos, arguments.work)
        model = write_start(arguments.work / "start")
        for seed in arguments.seeds:
            for name in arguments.objectives:
                run_one(name, seed, sources, model, work, arguments)
    write_table(arguments.set, work, arguments)


def run_one(
    name: str, seed: int, sources: Path, model: Path, work: Path, arguments: argparse.Namespace
) -> None:
    """Pretrain and probe once, unless the result is there."""
    label = "".join(character if character.isalnum() else "-" for character in name)
    file = work / f"{label}-{seed}.json"
    if file.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        config = recipe(name, seed, sources, model, Path(folder) / "run", arguments)
        shuffled = Trainer._loss
        if "shuffled" in name:
            Trainer._loss = with_shuffled_identities  # type: ignore[method-assign]
        try:
            run = pretrain(config)
        finally:
            Trainer._loss = shuffled  # type: ignore[method-assign]
        subject = load_subject(run, "cpu")
        scores = evaluate(subject, arguments.set, sources)
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    file.write_text(json.dumps({"objective": name, "seed": seed, "scores": scores, "log": last}, indent=1))
    print(f"{arguments.set} {name} seed {seed}: {scores}", flush=True)


def with_shuffled_identities(self: Trainer, views: Any, heads: Any, info: Any) -> Any:
    """The loss of views of which all but the first come from the next video of the batch."""

    def roll(output: HeadOutput) -> HeadOutput:
        return HeadOutput(*(None if x is None else x.roll(1, dims=0) for x in output))  # type: ignore[arg-type]

    moved = {name: [outputs[0], *map(roll, outputs[1:])] for name, outputs in heads.items()}
    targets = self.teacher(views).heads if self.objective.needs_teacher else None
    if targets is not None:
        targets = {name: [outputs[0], *map(roll, outputs[1:])] for name, outputs in targets.items()}
    return self.objective(moved, targets, info)


def recipe(
    name: str, seed: int, sources: Path, model: Path, output: Path, arguments: argparse.Namespace
) -> Config:
    """The same for all objectives but the objective."""
    sprites = arguments.set == "sprites"
    view = {
        "frames": 4 if not sprites else 6,
        "seconds": 1.5,
        "size": 48,
        "scale": [0.5, 1.0],
        "flip": 0.0 if sprites else 0.5,  # sprites: the classes are directions
        "jitter": [0.6, 0.6, 0.8, 0.5] if sprites else [0.4, 0.4, 0.4, 0.1],
        "jitter_p": 1.0 if sprites else 0.8,
        "gray_p": 0.4 if sprites else 0.2,
        "blur_p": 0.0,
    }
    return validate_config(
        {
            "output": str(output),
            "seed": seed,
            "data": {"train": str(sources / "train"), "window_seconds": None if sprites else 4.0, "decode_size": 64,
                     "workers": 0},
            "views": [view],
            "model": {"name": f"local-dir:{model}", "options": {"load_weights": False}},
            "objective": OBJECTIVES[name],
            "teacher": {"momentum": 0.97},
            "train": {"batch_size": arguments.batch_size, "steps": arguments.steps, "lr": arguments.lr,
                      "precision": "fp32", "log_every": 20, "checkpoint_every": arguments.steps, "warmup": 0.1},
        },
        name,
    )  # fmt: skip


def evaluate(subject: Subject, which: str, sources: Path) -> dict[str, dict[str, float]]:
    """Accuracy of linear probe and 20-NN for trained and untrained encoder."""
    options = EvalOptions(clips=1 if which == "sprites" else 3, workers=0, batch_size=32)
    if which == "sprites":
        fit, test = (VideoIndex.read(sources / split) for split in ("train", "val"))
        rows = [
            features_of(subject, index, options, description="features").features for index in (fit, test)
        ]
        folds = [(rows[0], torch.from_numpy(fit.label_ids), rows[1], torch.from_numpy(test.label_ids))]
        return {key: score_folds(key, folds) for key in ("trained", "untrained")}
    index = VideoIndex.read(sources / "labelled.csv")
    features = features_of(subject, index, options, description="features").features
    labels = torch.from_numpy(index.label_ids)
    groups = dict(csv.reader((sources / "groups.csv").open()))
    group = [groups[Path(path).as_posix().split("labelled/")[-1]] for path in index.paths]
    folds = []
    for left_out in sorted(set(group)):
        out = torch.tensor([g == left_out for g in group])
        folds.append(
            (
                {name: rows[~out] for name, rows in features.items()},
                labels[~out],
                {name: rows[out] for name, rows in features.items()},
                labels[out],
            )
        )
    return {key: score_folds(key, folds) for key in ("trained", "untrained")}


def score_folds(key: str, folds: list[Any]) -> dict[str, float]:
    """Correct answers over all folds, as shares."""
    linear = neighbours = total = 0
    for train, train_labels, test, test_labels in folds:
        classes = int(train_labels.max()) + 1
        logits, _ = probe(train[key], train_labels, test[key], classes, grid=(1e-4, 1e-3, 1e-2, 1e-1, 1.0))
        votes = knn_scores(train[key], train_labels, test[key], 20, classes)
        linear += int((logits.argmax(1) == test_labels).sum())
        neighbours += int((votes.argmax(1) == test_labels).sum())
        total += len(test_labels)
    return {"linear": linear / total, "knn": neighbours / total, "videos": total}


def prepare(which: str, videos: Path | None, work: Path) -> Path:
    """The videos at the size the network sees: rendered, or real clips re-encoded at a short side of 64 pixels."""
    folder = work / which
    if (folder / "ready").exists():
        return folder
    if which == "sprites":
        from vidssl.data.sprite_files import write_sprite_dataset

        write_sprite_dataset(folder, clips_per_class_train=40, clips_per_class_val=20, texture=0.0, seed=0)
    else:
        if videos is None:
            raise SystemExit("--set clips needs --videos")
        shrink_clips(videos, folder)
    (folder / "ready").touch()
    return folder


def shrink_clips(videos: Path, folder: Path) -> None:
    """Every clip of the manifest under ``train/``; the labelled set under ``labelled/`` with its sequences."""
    from vidssl.data.decode import resize_short_side
    from vidssl.data.sprite_files import write_clip
    from vidssl.data.video import open_video

    rows = list(csv.DictReader((videos / "manifest.csv").open()))
    groups = []
    for number, row in enumerate(rows):
        with open_video(videos / row["path"]) as video:
            step = max(round(video.info.fps / 10), 1)
            frames = torch.from_numpy(video.frames(range(0, video.info.num_frames, step)))
            fps = max(round(video.info.fps / step), 1)
        frames = resize_short_side(frames, 64)
        height, width = (side // 2 * 2 for side in frames.shape[1:3])
        clip = frames[:, :height, :width].contiguous().numpy()
        targets = [folder / "train" / "all" / f"{number:04d}.mp4"]
        if row["path"].startswith("ut_interaction/"):
            name = f"{row['label']}/{number:04d}.mp4"
            targets.append(folder / "labelled" / name)
            groups.append((name, row["group"]))
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_clip(target, clip, fps)
    with (folder / "groups.csv").open("w") as stream:
        csv.writer(stream).writerows(groups)
    VideoIndex.read(folder / "labelled").write(folder / "labelled" / "list.csv")
    (folder / "labelled" / "list.csv").rename(folder / "labelled.csv")


def write_start(folder: Path) -> Path:
    """The architecture of all runs, as an open_clip folder (its weights are not used)."""
    if not (folder / "open_clip_config.json").exists():
        import open_clip

        from vidssl.training.toy_clip import save_clip, toy_clip_config

        config = toy_clip_config(image_size=48, patch_size=16)
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


def write_table(which: str, work: Path, arguments: argparse.Namespace) -> None:
    """Mean over seeds with a 95 % t-interval, and the gain over the untrained encoder of the same seed."""
    runs = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    quantile = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}

    def summary(values: list[float]) -> str:
        mean = statistics.fmean(values)
        if len(values) < 2:
            return f"{100 * mean:.1f}"
        half = quantile.get(len(values), 1.96) * statistics.stdev(values) / math.sqrt(len(values))
        return f"{100 * mean:.1f} ± {100 * half:.1f}"

    lines = [
        "| objective | linear | gain | 20-NN | gain | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name in OBJECTIVES:
        own = [run["scores"] for run in runs if run["objective"] == name]
        if not own:
            continue
        cells = []
        for key in ("linear", "knn"):
            cells.append(summary([score["trained"][key] for score in own]))
            cells.append(summary([score["trained"][key] - score["untrained"][key] for score in own]))
        lines.append(f"| {name} | {' | '.join(cells)} | {len(own)} |")
    untrained = {run["seed"]: run["scores"]["untrained"] for run in runs}
    cells = [summary([score[key] for score in untrained.values()]) for key in ("linear", "knn")]
    lines.append(f"| untrained | {cells[0]} | | {cells[1]} | | {len(untrained)} |")
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"pretraining_{which}"
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    record = {"steps": arguments.steps, "batch_size": arguments.batch_size, "lr": arguments.lr, "runs": runs}
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
