"""The data set of a run, and how its batches are waited for."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from vidssl.config import Config
from vidssl.data.batch import ClipBatch
from vidssl.data.cache.videos import cached
from vidssl.data.dataset import ClipDataset
from vidssl.data.features.batch import FeatureBatch
from vidssl.data.features.dataset import FeatureDataset
from vidssl.data.loader import build_loader
from vidssl.data.manifest.quarantine import Quarantine
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.spec import ViewSpec
from vidssl.training.sources.videos import TrainingVideos

Batch = ClipBatch | FeatureBatch


def training_dataset(
    config: Config, videos: TrainingVideos, views: Sequence[ViewSpec], known: Quarantine | None
) -> ClipDataset | FeatureDataset:
    """What batches are made of.

    Args:
        known: of a run that goes on: videos that it found to end their process are not tried again.
    """
    data, index = config.data, videos.index
    if videos.features is not None:
        return FeatureDataset(videos.features, views, window_seconds=data.window_seconds, seed=config.seed)
    window = data.model_dump(include={"window_seconds", "decode_size", "max_attempts", "repeats"})
    dataset = ClipDataset(index, views, seed=config.seed, backend=data.decoder, **window)
    dataset.opener = cached(dataset.opener, data.decode_size, **data.cache.model_dump())
    if known is not None:
        dataset.failed = {
            i: known.rows[p].cause for i, p in enumerate(index.paths) if known.costs_a_process(p)
        }
    return dataset


def batches_of(
    dataset: ClipDataset | FeatureDataset, sampler: GlobalBatchSampler, workers: int
) -> Generator[Batch, None, None]:
    """The batches of a run's steps that are left; closing it ends the workers. Kept features need none."""
    if isinstance(dataset, FeatureDataset):
        yield from dataset.batches(sampler)
    else:
        yield from build_loader(dataset, sampler, num_workers=workers)
