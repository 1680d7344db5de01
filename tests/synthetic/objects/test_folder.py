"""Sequences on disk: read back, each file says what the renderer said."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.synthetic.factors.test_folder import digests
from vidssl.data.decode import open_video
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts.find import find_sequences
from vidssl.synthetic.objects.folder import write_objects
from vidssl.synthetic.objects.render import object_clip
from vidssl.synthetic.objects.scene import Difficulty

CROWD = Difficulty(fewest=5, most=6, speed=0.04)


def test_every_file_says_what_was_rendered(tmp_path: Path) -> None:
    write_objects(tmp_path / "out", clips=2, frames=5, size=48, seed=3, difficulty=CROWD)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0000", "0001", "objects.json"]
    for number in range(2):
        clip, folder = object_clip(3, number, 5, 48, CROWD), tmp_path / "out" / f"{number:04d}"
        for kind, expected in (("frames", clip.frames), ("masks", clip.masks)):
            files = sorted((folder / kind).iterdir())
            assert [file.name for file in files] == [f"{frame:05d}.png" for frame in range(5)]
            assert np.array_equal([np.asarray(Image.open(file)) for file in files], expected)
        assert Image.open(folder / "masks" / "00000.png").mode == "P"
        rows = np.loadtxt(folder / "gt.txt", delimiter=",", dtype=int)
        seen = clip.boxes[..., 2] > 0
        assert len(rows) == seen.sum()
        for frame, identity, *box, confidence, a, b, c in rows.tolist():
            assert box == clip.boxes[frame - 1, identity - 1].tolist()
            assert (confidence, a, b, c) == (1, -1, -1, -1)
        assert np.array_equal(np.loadtxt(folder / "groundtruth.txt", delimiter=","), clip.boxes[:, 0])
        with (folder / "keypoints.csv").open(newline="") as file:
            header, *points = csv.reader(file)
        assert header == ["frame", "id", "joint", "x", "y"]
        assert len(points) == clip.keypoints.shape[0] * clip.keypoints.shape[1] * 5
        for frame, identity, joint, *place in points:
            expected = clip.keypoints[int(frame), int(identity) - 1, int(joint)]
            np.testing.assert_allclose(list(map(float, place)), expected, rtol=1e-9)


def test_tracking_reads_all_of_it(tmp_path: Path) -> None:
    write_objects(tmp_path / "out", clips=2, frames=4, size=48, difficulty=CROWD)
    found = find_sequences(tmp_path / "out")
    assert [one.name for one in found] == ["0000", "0001"]
    for number, one in enumerate(found):
        sequence, clip = one.read(), object_clip(0, number, 4, 48, CROWD)
        assert np.array_equal([sequence.frames[t] for t in range(4)], clip.frames)
        assert sequence.masks is not None
        assert np.array_equal([sequence.masks[t] for t in range(4)], clip.masks)
        assert not sequence.masks_introduce
        assert sequence.boxes is not None
        assert np.array_equal(sequence.boxes, clip.boxes[:, 0])
        assert sequence.keypoints is not None
        for identity, points in sequence.keypoints.items():
            np.testing.assert_allclose(points, clip.keypoints[:, identity - 1], rtol=1e-9)
        assert sequence.objects is not None
        for frame, identity, *box in sequence.objects.astype(int).tolist():
            assert box == clip.boxes[frame, identity - 1].tolist()


def test_videos_are_other_scenes_without_truth(tmp_path: Path) -> None:
    write_objects(tmp_path / "a", clips=2, frames=4, size=48, videos=True)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "000000.mp4",
        "000001.mp4",
        "objects.json",
    ]
    clip = object_clip(0, 0, 4, 48, split="videos").frames.astype(int)
    with open_video(tmp_path / "a" / "000000.mp4") as reader:
        shown = np.asarray(reader.frames(range(4))).astype(int)
    assert np.abs(shown - clip).mean() < 6
    assert np.abs(shown - object_clip(0, 0, 4, 48).frames).mean() > 12


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    for name, videos in (("a", False), ("b", False), ("c", True), ("d", True)):
        write_objects(tmp_path / name, clips=1, frames=3, size=32, videos=videos)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "c") == digests(tmp_path / "d")


@pytest.mark.parametrize(("name", "value"), [("clips", 0), ("frames", 0), ("size", 8), ("seed", -1)])
def test_a_mistake_is_named_and_nothing_written(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(VidsslError, match=f"{name}={value}"):
        write_objects(tmp_path / "a", **{name: value})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(VidsslError, match="is not empty"):
        write_objects(tmp_path, clips=1)
