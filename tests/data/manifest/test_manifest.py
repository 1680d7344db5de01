from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_classes_are_the_folders_of_the_videos(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/zumba/b.mp4",
        "train/zumba/a.MKV",
        "val/arm wrestling/x.webm",
        "val/zumba/c.avi",
        "top.mov",
    )
    touch(
        tmp_path, "train/zumba/notes.txt", "train/.hidden/x.mp4", "train/zumba/._a.mp4", "train/zumba/.a.mp4"
    )
    index = VideoIndex.read(tmp_path)
    assert index.paths == (
        "top.mov",
        "train/zumba/a.MKV",
        "train/zumba/b.mp4",
        "val/arm wrestling/x.webm",
        "val/zumba/c.avi",
    )
    assert index.labels == (None, "zumba", "zumba", "arm wrestling", "zumba")
    assert index.classes == ("arm wrestling", "zumba")
    assert index.label_ids.tolist() == [-1, 1, 1, 0, 1]
    assert index.label_ids.dtype == np.int64
    assert len(index) == 5
    assert index.path(3) == tmp_path / "val/arm wrestling/x.webm"
    assert index.labels[1] is index.labels[4]  # one string per class


def test_every_extension_in_any_case(tmp_path: Path) -> None:
    endings = [
        "mp4",
        "mkv",
        "webm",
        "avi",
        "mov",
        "m4v",
        "mpg",
        "mpeg",
        "ts",
        "MP4",
        "WebM",
        "wmv",
        "flv",
        "3gp",
        "gif",
        "ogv",
        "m2ts",
        "asf",
    ]
    names = [f"a.{ending}" for ending in endings]
    assert set(VideoIndex.read(touch(tmp_path, *names)).paths) == set(names)


def test_files_that_are_left_out_are_named(tmp_path: Path) -> None:
    names = (
        "run/a.mp4",
        "run/b.xyz",
        "run/c.JPG",
        "jump/a.xyz",
        "deep/er/b.avi",
        "deep/notes.txt",
        "top.txt",
        ".h/x.xyz",
    )
    touch(tmp_path, *names)
    (tmp_path / "none").mkdir()
    index = VideoIndex.read(tmp_path)
    assert index.paths == ("deep/er/b.avi", "run/a.mp4")
    assert index.remarks == (
        "left out, not named like videos: 4 files, 2 x .xyz, 1 x .txt, 1 x .jpg (deep/notes.txt, jump/a.xyz, run/b.xyz, "
        "run/c.JPG)",
        "folders without a video, which give no class: 2 (jump, none)",
    )
    assert all(remark in index.describe() for remark in index.remarks)
    assert index.subset([1]).remarks == index.remarks
    assert VideoIndex.read(touch(tmp_path / "clean", "run/a.mp4", "classes.csv")).remarks == ()


def test_labels_from_folders(tmp_path: Path) -> None:
    """UCF101's testlist01.txt."""
    touch(tmp_path, "Hugging/a.avi", "Kicking/b.avi", "c.avi")
    (tmp_path / "testlist01.txt").write_text("Hugging/a.avi\nKicking/b.avi\nc.avi\n")
    index = VideoIndex.read(tmp_path / "testlist01.txt")
    assert set(index.labels) == {None}
    by_folder = index.labelled_by_folders()
    assert by_folder.labels == ("Hugging", "Kicking", None)
    assert by_folder.remarks == ("the list has no labels; classes are the 2 folders of its paths",)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    index = VideoIndex.read(touch(tmp_path, "b.mp4", "a.mp4"))
    assert index.labels == (None, None)
    assert index.classes == ()
    assert index.label_ids.tolist() == [-1, -1]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "jump/a.mp4")
    elsewhere = touch(tmp_path / "elsewhere", "b.mp4", "c.mp4")
    (root / "run").symlink_to(elsewhere)
    (root / "jump" / "again").symlink_to(root)
    (elsewhere / "back").symlink_to(root / "run")
    (root / "jump" / "file.mp4").symlink_to(elsewhere / "c.mp4")
    (root / "jump" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    index = VideoIndex.read(root)
    assert dict(zip(index.paths, index.labels, strict=True)) == {
        "jump/a.mp4": "jump",
        "jump/file.mp4": "jump",
        "jump/gone.mp4": "jump",  # stays, so that a check names it
        "run/b.mp4": "run",
        "run/c.mp4": "run",
    }


def test_a_link_to_itself_is_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run/a.mp4", "b"):
        (tmp_path / name).symlink_to(tmp_path / name)
    assert VideoIndex.read(tmp_path).paths == ("run/a.mp4",)


def test_a_relative_root_stays_right_when_the_working_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "data/run/a.mp4")
    monkeypatch.chdir(tmp_path)
    index = VideoIndex.read("data")
    monkeypatch.chdir("/")
    assert index.path(0).is_file()


def test_subset_keeps_classes_and_order(tmp_path: Path) -> None:
    index = VideoIndex.read(touch(tmp_path, "a/1.mp4", "b/2.mp4", "c/3.mp4"))
    part = index.subset(np.array([2, 0]))
    assert part.paths == ("c/3.mp4", "a/1.mp4")
    assert part.label_ids.tolist() == [2, 0]
    assert part.classes == ("a", "b", "c")
    assert index.subset([]).paths == ()


def test_digest_depends_on_paths_and_labels_only(tmp_path: Path) -> None:
    names = ("a/1.mp4", "b/2.mp4")
    index = VideoIndex.read(touch(tmp_path / "x", *names))
    same = VideoIndex.read(touch(tmp_path / "y", *names))
    assert index.digest == same.digest
    assert len(index.digest) == 16
    assert index.subset([1, 0]).digest == index.digest
    assert index.subset([0]).digest != index.digest
    others = [
        VideoIndex.of(index.root, index.paths, labels)
        for labels in (["a", "a"], ["a", None], ["b", "a"], [None, None])
    ]
    assert len({index.digest, *(other.digest for other in others)}) == 5


def test_an_index_cannot_be_changed(tmp_path: Path) -> None:
    index = VideoIndex.read(touch(tmp_path, "a/1.mp4"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        index.paths = ()  # type: ignore[misc]


def test_classes_that_are_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    index = VideoIndex.read(touch(tmp_path, *(f"{i}/a.mp4" for i in (0, 2, 10, 1))))
    assert index.classes == ("0", "1", "2", "10")


def test_single_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "here/a.mp4", "b.dat")
    monkeypatch.chdir(tmp_path / "here")
    index = VideoIndex.of_files(["a.mp4", tmp_path / "b.dat"])
    assert index.paths == ("a.mp4", (tmp_path / "b.dat").as_posix())
    assert [index.path(i).is_file() for i in range(2)] == [True, True]
    assert index.labels == (None, None)
    with pytest.raises(VidsslError, match=r"no such file or folder; did you mean 'a.mp4'"):
        VideoIndex.of_files(["aa.mp4"])
    with pytest.raises(VidsslError, match="is not a file"):
        VideoIndex.of_files([tmp_path])
    with pytest.raises(VidsslError, match="no video files"):
        VideoIndex.of_files([])


def complaint(path: Path) -> str:
    with pytest.raises(VidsslError) as caught:
        VideoIndex.read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_errors_name_the_path_and_the_way_out(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "kinetics/train/run/a.mp4",
        "texts/a.txt",
        "texts/b.txt",
        "texts/deep/c.json",
        "texts/README",
    )
    (tmp_path / "nothing").mkdir()
    assert complaint(tmp_path / "kinetics/trian") == (
        f"{tmp_path}/kinetics/trian: no such file or folder; did you mean 'train'?"
    )
    assert complaint(tmp_path / "kinetic/train") == (
        f"{tmp_path}/kinetic/train: no such file or folder ({tmp_path}/kinetic does not exist); did you mean 'kinetics'?"
    )
    assert complaint(tmp_path / "nothing").endswith("no videos found; the folder is empty")
    found = complaint(tmp_path / "texts")
    assert "looked for .mp4, .mkv, .webm" in found
    assert (
        "found 2 x .txt, 1 x .json, 1 x no suffix" in found
        or "found 2 x .txt, 1 x no suffix, 1 x .json" in found
    )
    assert complaint(tmp_path / "kinetics/train/run/a.mp4").endswith(
        "is a video, not a folder or a list of videos"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4")
    (tmp_path / "a").chmod(0)
    assert "cannot be read (Permission denied)" in complaint(tmp_path)
    (tmp_path / "a").chmod(0o700)
