"""Videos of equal content are found under any name."""

from __future__ import annotations

from vidssl.data.manifest.duplicates import HEAD, same_files
from vidssl.data.manifest.manifest import VideoIndex


def test_content_decides_and_not_the_name(tmp_path):
    long = bytes(HEAD + 10)
    train = {"a": b"one", "b": b"two", "c": b"two", "d": long + b"x", "e": b"same name"}
    val = {"z": b"two", "y": long + b"y", "e": b"SAME NAME", "x": b"one", "w": b"three"}
    for split, files in (("train", train), ("val", val)):
        (tmp_path / split / "k").mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / split / "k" / f"{name}.mp4").write_bytes(content)
    first, second = (VideoIndex.read(tmp_path / split) for split in ("train", "val"))
    pairs = [(first.paths[a], second.paths[b]) for a, b in same_files(first, second)]
    assert pairs == [("k/a.mp4", "k/x.mp4"), ("k/b.mp4", "k/z.mp4")]


def test_a_file_that_cannot_be_read_is_equal_to_none(tmp_path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone.mp4")
    index = VideoIndex.read(tmp_path)
    assert same_files(index, index) == []
