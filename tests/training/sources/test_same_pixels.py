"""The same pixels train the same model, whatever holds them."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.data.fake_videos import same
from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.data.dataset import ClipDataset
from vidssl.data.loader import build_loader
from vidssl.data.manifest import indexing
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.spec import ViewSpec
from vidssl.training import pretrain

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
FORMS = (
    "list, path,label",
    "list, path number (SlowFast)",
    "list, path 0 -1 (VideoMAE v2)",
    "list, path::number (V-JEPA)",
    "array of paths (V-JEPA)",
    "videofolder (Hugging Face)",
    "Kinetics CSV",
    "Something-Something JSON",
    "tar shards (webdataset)",
    "list of tar members (X-CLIP)",
    "manifest",
    "manifest of tar shards",
)


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What writes a set of videos in each form, from the benchmark that does so with real ones."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(indexing, "loadable_decoders", lambda: ("pyav",))
    return importlib.import_module("same_videos.writers")


def write(writers: Any, form: str, index: VideoIndex, folder: Path) -> str:
    """Names the set that was written."""
    folder.mkdir()
    if form == "PNG frames":
        assert writers.pictures(index, folder, ".png") == [*range(len(index))]
        return str(folder / "train.csv")
    return str((writers.SAME_FILES | writers.HUGGING_FACE)[form](index, folder))


@pytest.fixture
def losses(recipe: Path, tmp_path: Path):
    def of(data: str) -> list[float]:
        options = [f"data.train={data}", f"output={tmp_path / 'run'}", "train.steps=10", "train.batch_size=4"]
        options.append("views.0.flip=0.5")  # whatever the set is called
        run = pretrain(load_config(recipe, options))
        found = [row["loss"] for row in log_of(run)]
        run.rename(tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        return found

    return of


@pytest.fixture
def growing(sprites: Path) -> VideoIndex:
    names = sorted(path.name for path in (sprites / "train/growing").iterdir())
    return VideoIndex.of(sprites / "train", [f"growing/{name}" for name in names], ["growing"] * len(names))


def test_no_form_is_forgotten(writers: Any) -> None:
    assert {*FORMS} == writers.SAME_FILES.keys()


@pytest.mark.parametrize("form", [*FORMS, "PNG frames"])
def test_every_source_gives_the_same_batches(
    writers: Any, form: str, growing: VideoIndex, tmp_path: Path
) -> None:
    views = [ViewSpec("global", 2, 4, seconds=0.5, size=16)]
    sources = growing, VideoIndex.read(write(writers, form, growing, tmp_path / "form"))
    workers = int(form in ("tar shards (webdataset)", "PNG frames"))
    plain, other = (ClipDataset(index, views, window_seconds=1.0, seed=3) for index in sources)
    for a, b in zip(
        build_loader(plain, GlobalBatchSampler(8, 4, seed=3, total_steps=3), num_workers=0),
        build_loader(other, GlobalBatchSampler(8, 4, seed=3, total_steps=3), num_workers=workers),
        strict=True,
    ):
        assert same(a, b)


@pytest.mark.slow
def test_every_form_gives_the_same_losses(writers: Any, losses, growing: VideoIndex, tmp_path: Path) -> None:
    expected = losses(str(growing.root / "growing"))
    assert len(set(expected)) == 10
    for form in (*FORMS, "PNG frames", *(writers.HUGGING_FACE if find_spec("datasets") else ())):
        source = write(writers, form, growing, tmp_path / form.replace("/", " "))
        assert losses(source) == expected, form
