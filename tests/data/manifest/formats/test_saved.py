from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError

datasets: Any = pytest.importorskip("datasets")
pytestmark = pytest.mark.slow  # seconds to load `datasets`


@pytest.fixture
def rows(tmp_path: Path, numbered: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()
    content = numbered.read_bytes()
    features = datasets.Features(
        {"clip": datasets.Video(decode=False), "label": datasets.ClassLabel(names=["run", "jump"])}
    )
    videos = [
        {"bytes": content, "path": "a.mp4"},
        {"bytes": None, "path": str(numbered)},
        {"bytes": b"words", "path": None},
    ]
    return datasets.Dataset.from_dict({"clip": videos, "label": [1, 0, -1]}, features=features)


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_a_row_is_a_video_like_the_file(rows: Any, kind: str, tmp_path: Path, numbered: Path) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    rows.save_to_disk(str(folder)) if kind == "saved" else rows.to_parquet(str(folder / "train-0.parquet"))
    index = VideoIndex.read(folder)
    second = "row-000000001" if kind == "saved" else str(numbered)  # saving takes files in
    assert index.paths == ("row-000000000", second, "row-000000002")
    assert index.labels == ("jump", "run", None)
    with open_video(index.path(0)) as row, open_video(numbered) as file:
        assert row.info == file.info
        np.testing.assert_array_equal(row.frames([3, 30]), file.frames([3, 30]))
    report = check_index(index, workers=1)
    assert report.good.paths == index.paths[:2]
    assert report.bad[0].path == "row-000000002"
    assert len(data_digest(index)) == 64
    with pytest.raises(DecodeError, match="has 3 rows, none with number 7"):
        open_video(folder / "row-000000007")
    with pytest.raises(DecodeError, match=f"cannot read what lies in {kind}"):
        open_video(folder / "row-000000000", "decord")


def test_what_is_no_set_of_videos_is_told(rows: Any, tmp_path: Path) -> None:
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(VidsslError, match="holds several splits; name one: both/train, both/test"):
        VideoIndex.read(tmp_path / "both")
    assert len(VideoIndex.read(tmp_path / "both/test")) == 3
    rows.remove_columns("clip").save_to_disk(str(tmp_path / "labels"))
    with pytest.raises(VidsslError, match="needs one column of type Video, found 0 among label"):
        VideoIndex.read(tmp_path / "labels")
