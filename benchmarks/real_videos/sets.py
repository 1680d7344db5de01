"""The labelled sets and the clips without labels, as features of an image model's frames that are kept once."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
from image_text_model import image_classifier, write_model
from safetensors.torch import save_file
from torch import Tensor

from vidssl.data.features.store import FeatureStore, read_features
from vidssl.data.views.spec import ViewSpec
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.evaluation.metrics import group_numbers
from vidssl.synthetic.noise import write_noise_dataset
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
TEXTS = "texts"  # where the features of the image-text model lie
NOISE = 400  # clips


class Set(NamedTuple):
    """Rows of the whole clips of a set as evaluation shows them, (N, F, R); labels (N,); recordings (N,), or None."""

    fit: Tensor
    labels: Tensor
    fit_groups: Tensor | None
    test: Tensor
    truth: Tensor
    groups: Tensor
    names: tuple[str, ...]
    dim: int

    @property
    def classes(self) -> int:
        return len(self.names)


def weights_of(work: Path) -> Path:
    """The image model's weights as a file."""
    file = work / "lite2.safetensors"
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        save_file({name: x.contiguous() for name, x in image_classifier().state_dict().items()}, file)
    return file


def texts_model(work: Path) -> Path:
    """The folder of the image-text model, which `keep_features` makes."""
    return work / "image_text"


def keep_features(
    videos: Path, work: Path, sets: tuple[str, ...], device: str, needs: Collection[str] = ()
) -> None:
    """Write what is not there yet: `features/train` is what is trained on.

    Args:
        needs: of "texts", "noise" and "seen", what rows are trained on besides, see `training_folder`.
    """
    clips = [(work, name, split) for name in sets for split in ("train", "val")]
    pool = [(work, name, "train") for name in (*REPORTED, UNLABELLED)]
    model = f"{MODEL}:{weights_of(work)}"
    for of, name, split in (*pool, *clips):
        _keep(model, file_of(of, name, split), videos / name / ("" if name == UNLABELLED else split), device)
    if "texts" in needs:
        if not texts_model(work).is_dir():
            write_model(texts_model(work))
        for _, name, split in (*pool, *clips):
            file = file_of(work / TEXTS, name, split)
            _keep(f"local-dir:{texts_model(work)}", file, videos / name / ("" if name == UNLABELLED else split), device)  # fmt: skip
    if "noise" in needs and not (noise := work / "features" / "noise" / "noise.safetensors").exists():
        with tempfile.TemporaryDirectory() as folder:
            write_noise_dataset(folder, NOISE // 4, 0, frames=32, size=SIZE)
            _keep(model, noise, Path(folder) / "train", device)
    if "seen" in needs:
        seen = work / "features" / "seen"
        seen.mkdir(exist_ok=True)
        for _, name, split in (*pool, *((work, name, "val") for name in REPORTED)):
            for part in file_of(work, name, split).parent.glob(f"{name}.*"):
                if not (link := seen / f"{name}_{split}{part.suffix}").exists():
                    link.hardlink_to(part)


def _keep(model: str, file: Path, folder: Path, device: str) -> None:
    if not file.exists():
        options = EvalOptions(frames=FRAMES, size=SIZE, workers=0, device=device)
        extract_draws(model, folder, file, view=VIEW, grid=GRID, layer=LAYER, half=True, options=options)


def training_folder(work: Path, control: str | None, texts: bool) -> Path:
    """The features that a head is trained on: of clips, by the image model or the image-text model; of noise; or of validation parts too."""
    if control in ("noise", "seen"):
        return work / "features" / control
    return (work / TEXTS if texts else work) / "features" / "train"


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
    names, dim = tuple(stores[0].index.classes), int(stores[0].made["dim"])
    return Set(fit, labels, fit_groups, test, truth, groups, names, dim)


def _plain(store: FeatureStore) -> Tensor:
    return torch.stack([store.rows(i)[0] for i in range(len(store.index))])


def _groups(videos: Path, folder: str, store: FeatureStore) -> Tensor:
    """A number for each recording, as manifest.csv names them."""
    with (videos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        named = {row["path"]: row["group"] for row in csv.DictReader(stream)}
    numbers = group_numbers([named[f"{folder}/{path}"] for path in store.index.paths])
    assert numbers is not None
    return numbers
