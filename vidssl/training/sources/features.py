"""Kept features as what a run is trained on: the encoder has to be the one that they were made with."""

from __future__ import annotations

from vidssl.config import Config
from vidssl.data.features.store import FeatureStore, read_features
from vidssl.data.mixture import Mixture
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.temporal.trunk import trunk_digest
from vidssl.training.sources.videos import TrainingVideos


def read_kept(source: str) -> TrainingVideos:
    """The videos that have features in a file or folder, and the others, with the reason.

    Raises:
        VidsslError: see `read_features`.
    """
    try:
        store = read_features(source)
    except VidsslError as error:
        raise VidsslError(f"data.features: {error}") from None
    return TrainingVideos(store.index, store.failed, Mixture.of([len(store.index)]), store)


def check_kept(config: Config, encoder: VideoEncoder, store: FeatureStore) -> None:
    """Find out whether a recipe's encoder and views go with the features.

    Raises:
        VidsslError: naming the key, for another image model, another grid or size, and views of more frames than there are.
    """
    made, source = store.made, f"data.features: {config.data.features}"
    grid = int(config.model.options.get("head_grid") or 0)
    if grid != made["grid"]:
        raise VidsslError(
            f"model.options.head_grid: {grid}: {source} has a grid of {made['grid']} cells a side; set it to that"
            + ("" if made["grid"] else " (leave it out)")
        )
    layer, kept = config.model.options.get("head_layer"), made.get("layer")
    if grid and layer != kept:
        raise VidsslError(
            f"model.options.head_layer: {'the last' if layer is None else layer}: the grid of {source} is of "
            + ("the last layer; leave it out" if kept is None else f"layer {kept}; set it to that")
        )
    most = max(len(times) for times in store.times)
    for number, view in enumerate(config.views):
        if view.size != made["size"]:
            raise VidsslError(
                f"views.{number}.size: {view.size}: {source} was made of frames of {made['size']} pixels; set it to that"
            )
        if view.frames > most:
            raise VidsslError(
                f"views.{number}.frames: {view.frames}: {source} has {most} frames of a video at most; set it to that or less"
            )
    if trunk_digest(encoder) != made["trunk"]:
        raise VidsslError(
            f"{source}: was made with other weights than those of model.name={config.model.name}, "
            f"model.pretrained={config.model.pretrained}; name the model that it was made with, or extract again"
        )
