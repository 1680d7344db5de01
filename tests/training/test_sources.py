"""The same pixels train the same model, whatever holds them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.data.fake_videos import same
from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.loader import build_loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.spec import ViewSpec
from vidssl.training import pretrain


def as_list(index: VideoIndex, folder: Path) -> str:
    index.write(folder / "list.csv")
    return str(folder / "list.csv")


def as_shards(index: VideoIndex, folder: Path) -> str:
    for number in range(2):
        with tarfile.open(folder / f"s-{number}.tar", "w") as tar:
            for i in range(len(index) // 2 * number, len(index) // 2 * (number + 1)):
                tar.add(index.path(i), f"{index.labels[i]}/{index.path(i).name}")
    return str(folder / "s-{0..1}.tar")


def as_metadata(index: VideoIndex, folder: Path) -> str:
    rows = [{"file_name": str(index.path(i)), "label": index.labels[i]} for i in range(len(index))]
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(folder)


def as_frames(index: VideoIndex, folder: Path) -> str:
    for i in range(len(index)):
        place = folder / str(index.labels[i]) / index.path(i).stem
        place.mkdir(parents=True)
        with open_video(index.path(i)) as video:
            for number, frame in enumerate(video.frames(range(video.info.num_frames))):
                Image.fromarray(frame).save(place / f"{number:05}.png")
    return f"{folder}#fps={video.info.fps}"


@pytest.fixture
def losses(recipe: Path, tmp_path: Path):
    def of(data: str) -> list[float]:
        options = [f"data.train={data}", f"output={tmp_path / 'run'}", "train.steps=10", "train.batch_size=4"]
        run = pretrain(load_config(recipe, options))
        found = [row["loss"] for row in log_of(run)]
        run.rename(tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        return found

    return of


@pytest.fixture
def growing(sprites: Path) -> VideoIndex:
    names = sorted(path.name for path in (sprites / "train/growing").iterdir())
    return VideoIndex.of(sprites / "train", [f"growing/{name}" for name in names], ["growing"] * len(names))


@pytest.mark.parametrize("make", [as_list, as_shards, as_metadata, as_frames])
def test_every_source_gives_the_same_batches(growing: VideoIndex, make, tmp_path: Path) -> None:
    views = [ViewSpec("global", 2, 4, seconds=0.5, size=16)]
    sources = growing, VideoIndex.read(make(growing, tmp_path))
    plain, other = (ClipDataset(index, views, window_seconds=1.0, seed=3) for index in sources)
    for a, b in zip(
        build_loader(plain, GlobalBatchSampler(8, 4, seed=3, total_steps=3), num_workers=0),
        build_loader(other, GlobalBatchSampler(8, 4, seed=3, total_steps=3), num_workers=1),
        strict=True,
    ):
        assert same(a, b)


@pytest.mark.slow
def test_folder_list_shards_and_frames_give_the_same_losses(
    losses, growing: VideoIndex, tmp_path: Path
) -> None:
    expected = losses(str(growing.root / "growing"))
    assert len(set(expected)) == 10
    for make in (as_list, as_shards, as_metadata, as_frames):
        folder = tmp_path / make.__name__
        folder.mkdir()
        assert losses(make(growing, folder)) == expected, make.__name__
