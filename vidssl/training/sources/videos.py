"""The videos of a run: the readable ones of its training sets, which are trained on as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vidssl.config import Config
from vidssl.data.features.store import FeatureStore
from vidssl.data.manifest.check import check_index, require_readable_classes
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.join import common_root, join_indexes, moved
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo, Quarantine
from vidssl.data.mixture import Mixture
from vidssl.errors import VidsslError
from vidssl.evaluation.classes import class_list, join_labels
from vidssl.evaluation.setup import EvalOptions, read_labelled
from vidssl.models.encoder import VideoEncoder


def check_evaluation(config: Config, encoder: VideoEncoder) -> dict[str, int]:
    """Find what is wrong with the videos and the encoder that `evaluate` names. Every process has to call this.

    Returns:
        How many videos are "train" and "val"; nothing without `evaluate`.

    Raises:
        VidsslError: naming the key, for videos that are not there, have no label or share no class; for the same videos twice;
            for zero-shot without a text tower.
    """
    wanted = config.evaluate
    if wanted is None:
        return {}
    if "zero_shot" in wanted.protocols and encoder.text is None:
        raise VidsslError(
            f"evaluate.protocols: zero_shot: model.name={config.model.name} has no text tower; leave it out"
        )
    if Path(wanted.train).resolve() == Path(wanted.val).resolve():
        raise VidsslError(
            f"evaluate.val: {wanted.val}: is evaluate.train, so that every video would find itself"
        )
    options, found = EvalOptions(workers=config.data.workers, backend=config.data.decoder), {}
    for key in ("train", "val"):
        data = getattr(wanted, key)
        try:
            found[key] = read_labelled(data, options).videos
        except VidsslError as error:
            raise VidsslError(f"evaluate.{key}: {error}") from None
    join_labels(
        found["val"].labels, class_list(found["train"].classes, wanted.train), f"evaluate.val: {wanted.val}"
    )
    return {key: len(index) for key, index in found.items()}


@dataclass(frozen=True)
class TrainingVideos:
    """What a run is trained on.

    Attributes:
        index: of all sets, one after the other. unusable: those left out, as it would name them. mixture: of the sets.
        features: that were kept of their frames, which are then not decoded.
    """

    index: VideoIndex
    unusable: tuple[FailedVideo, ...]
    mixture: Mixture
    features: FeatureStore | None = None

    def digest(self) -> str:
        """By which a run knows whether it goes on with what it began with."""
        return data_digest(self.index) if self.features is None else self.features.digest()


def read_videos(config: Config, known: Quarantine | None = None) -> TrainingVideos:
    """The readable training videos, and the others, and those listed but missing, with the reason.

    Args:
        known: of a run that goes on: it has the videos that it had.

    Raises:
        VidsslError: for a set that is not there or has no readable video.
    """
    data, sets = config.data, config.data.train
    check = partial(check_index, workers=max(data.workers, 1), backend=data.decoder)
    indexes = [VideoIndex.read(one.path, data.missing) for one in sets]
    root = common_root(indexes)
    unusable: list[FailedVideo] = []
    for number, index in enumerate(indexes):
        if known is not None and known.file.is_file():
            names = moved(index, root).paths
            index = index.subset([i for i, name in enumerate(names) if not known.is_left_out(name)])
            indexes[number] = check(index).known if data.check else index
            continue
        missing = [FailedVideo(-1, path, "listed, but does not exist") for path in moved(index, root).missing]
        unusable += missing
        if data.check:
            report = check(index)
            require_readable_classes(report, allow_empty_classes=data.allow_empty_classes)
            names = moved(index, root).paths
            unusable += [replace(video, path=names[video.video_id]) for video in report.bad]
            indexes[number] = report.good
    said = [
        replace(index, remarks=tuple(f"{one.path}: {remark}" for remark in index.remarks))
        for index, one in zip(indexes, sets, strict=True)
    ]
    weights = [one.weight for one in sets if one.weight is not None]
    mixture = Mixture.of([len(index) for index in indexes], weights or None)
    return TrainingVideos(join_indexes(said, root), tuple(unusable), mixture)
