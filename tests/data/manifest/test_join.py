from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidssl.data.decode.part import Part
from vidssl.data.decode.reader import DecodeError
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.join import common_root, join_indexes, moved
from vidssl.data.manifest.manifest import VideoIndex


@pytest.fixture
def indexes(tmp_path: Path) -> list[VideoIndex]:
    for name in ("one/run/a.mp4", "one/jump/b.mp4", "two/videos/run/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "two/list.csv").write_text(
        f"path,label,start,end\nvideos/run/a.mp4,run,1,2\nvideos/run/a.mp4,run,3,4\n{tmp_path}/one/jump/b.mp4,walk,,\ngone.mp4,run,,\n"
    )
    return [VideoIndex.read(tmp_path / "one"), VideoIndex.read(tmp_path / "two/list.csv", "skip")]


def test_videos_lie_one_set_after_the_other(indexes: list[VideoIndex], tmp_path: Path) -> None:
    root = common_root(indexes)
    joined = join_indexes(indexes, root)
    assert root == tmp_path
    assert [joined.path(i) for i in range(len(joined))] == [
        index.path(i) if index.path(i).is_absolute() else index.root / index.path(i)
        for index in indexes
        for i in range(len(index))
    ]
    assert joined.paths[2:4] == ("two/videos/run/a.mp4#t=1,2", "two/videos/run/a.mp4#t=3,4")
    assert joined.labels == ("jump", "run", "run", "run", "walk")
    assert joined.classes == ("jump", "run", "walk")
    assert joined.parts == (None, None, Part(1, 2), Part(3, 4), None)
    assert joined.groups[:3] == (None, None, "videos/run/a.mp4")
    assert joined.missing == ("two/gone.mp4",)
    assert len(data_digest(joined)) == 64


def test_a_video_of_two_sets_stays_in_both_and_is_named(indexes: list[VideoIndex], tmp_path: Path) -> None:
    joined = join_indexes([indexes[0], indexes[0]], tmp_path)
    assert len(joined) == 4
    assert "videos in more than one training set: 2 (one/jump/b.mp4, one/run/a.mp4)" in joined.remarks


def test_one_index_is_left_alone(indexes: list[VideoIndex]) -> None:
    assert join_indexes(indexes[:1], common_root(indexes[:1])) is indexes[0]
    assert moved(indexes[1], indexes[1].root) == indexes[1]


def test_what_is_known_of_all_sets_is_known_of_the_whole(tmp_path: Path, numbered: Path) -> None:
    for name in ("one/a.mp4", "one/b.mp4", "two/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(numbered.read_bytes())
    sets = [check_index(VideoIndex.read(tmp_path / name), cache=False).known for name in ("one", "two")]
    joined = join_indexes([sets[0].subset([1]), sets[1]], tmp_path)
    os.utime(tmp_path / "two/c.mp4", ns=(1, 1))
    assert joined.timeline(0) is not None
    with pytest.raises(DecodeError, match=r"two/c.mp4: .* changed since it was checked"):
        joined.timeline(1)
    assert join_indexes([sets[0], VideoIndex.read(tmp_path / "two")], tmp_path).facts is None
