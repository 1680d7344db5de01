"""The labelled sets and the clips without labels, as features of an image model's frames that are kept once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import torch
from image_text_model import image_classifier
from safetensors.torch import save_file
from torch import Tensor

from vidssl.data.features.store import FeatureStore, read_features
from vidssl.data.views.spec import ViewSpec
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.evaluation.metrics import group_numbers
from vidssl.trying.adapt import GRID
from vidssl.trying.adapt import SIDE as SIZE

MODEL = "timm/tf_efficientnet_lite2"
FRAMES, LAYER = 16, 3  # of which a cell stands for `CELL` pixels, as `vidssl try` chooses its layer
VIEW = ViewSpec(
    "global", 1, FRAMES, size=SIZE, scale=(0.6, 1.0), flip=0.0, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2
)  # fmt: skip
# Sets whose classes are told by motion; and others, which are not trained on either, for the same recipe on what it was not made for.
REPORTED = ("vsl_words", "ut_interaction", "table_tennis", "pushup_form", "surv_fight")
OTHERS = ("weizmann4", "traffic_crash", "handwash", "yoga")
UNLABELLED = "assets"


class Set(NamedTuple):
    """Rows of the whole clips of a set as evaluation shows them, (N, F, R); labels (N,); recordings (N,), or None."""

    fit: Tensor
    labels: Tensor
    fit_groups: Tensor | None
    test: Tensor
    truth: Tensor
    groups: Tensor
    classes: int
    dim: int


def weights_of(work: Path) -> Path:
    """The image model's weights as a file."""
    file = work / "lite2.safetensors"
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        save_file({name: x.contiguous() for name, x in image_classifier().state_dict().items()}, file)
    return file


def keep_features(videos: Path, work: Path, sets: tuple[str, ...], device: str) -> None:
    """Write what is not there yet: `features/train` is what is trained on."""
    options = EvalOptions(frames=FRAMES, size=SIZE, workers=0, device=device)
    wanted = [
        (file_of(work, name, split), videos / name / split) for name in sets for split in ("train", "val")
    ]
    pool = [(file_of(work, name, "train"), videos / name / "train") for name in REPORTED]
    for file, folder in [*pool, (file_of(work, UNLABELLED, "train"), videos / UNLABELLED), *wanted]:
        if not file.exists():
            extract_draws(
                f"{MODEL}:{weights_of(work)}", folder, file, view=VIEW, grid=GRID, layer=LAYER, half=True, options=options
            )  # fmt: skip


def file_of(work: Path, name: str, split: str) -> Path:
    """Where the features of a part of a set are kept; those of other sets apart from what is trained on."""
    return work / "features" / ("other" if name in OTHERS else "") / split / f"{name}.safetensors"


def read_set(videos: Path, work: Path, name: str) -> Set:
    """A labelled set."""
    stores = [read_features(file_of(work, name, split)) for split in ("train", "val")]
    (fit, fit_groups), (test, groups) = (
        (_plain(store), _groups(videos, f"{name}/{split}", store))
        for store, split in zip(stores, ("train", "val"), strict=True)
    )
    assert stores[0].index.classes == stores[1].index.classes
    labels, truth = (torch.from_numpy(store.index.label_ids) for store in stores)
    dim, classes = int(stores[0].made["dim"]), len(stores[0].index.classes)
    return Set(fit, labels, fit_groups, test, truth, groups, classes, dim)


def _plain(store: FeatureStore) -> Tensor:
    return torch.stack([store.rows(i)[0] for i in range(len(store.index))])


def _groups(videos: Path, folder: str, store: FeatureStore) -> Tensor:
    """A number for each recording, as manifest.csv names them."""
    with (videos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        named = {row["path"]: row["group"] for row in csv.DictReader(stream)}
    numbers = group_numbers([named[f"{folder}/{path}"] for path in store.index.paths])
    assert numbers is not None
    return numbers
