from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.decode.test_archive import write_tar
from vidssl.data.decode.address import local_form
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.formats.shards import shard_files
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError


def test_webdataset_shards(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "train-000.tar",
        {"b.mp4": b"1", "b.cls": b"1\n", "a.mp4": b"2", "a.cls": b"0", "c.seg.mp4": b"3", "c.json": b'{"label": 2, "x": 1}'},
    )  # fmt: skip
    write_tar(tmp_path / "train-001.tar", {"d.webm": b"4", "d.cls": b"1", "d.jpg": b"5", "sub/e.mp4": b"6"})
    (tmp_path / "classes.csv").write_text("id,name\n0,run\n1,jump\n2,walk\n")
    index = VideoIndex.read(tmp_path)
    assert index.paths == (
        "train-000.tar/b.mp4", "train-000.tar/a.mp4", "train-000.tar/c.seg.mp4", "train-001.tar/d.webm", "train-001.tar/sub/e.mp4",
    )  # fmt: skip
    assert index.remarks == ("left out, not named like videos: 1 member, 1 x .jpg (train-001.tar/d.jpg)",)
    assert index.labels[:4] == ("1", "0", "2", "1")  # a name among the labels: none of them is a number
    assert index.labels[4] == "sub"
    for source in (tmp_path / "train-000.tar", tmp_path / "train-{000..000}.tar"):
        assert VideoIndex.read(source).labels == ("jump", "run", "walk")
    listed = VideoIndex.read(tmp_path / "train-{000..001}.tar")
    assert listed == index
    index.write(tmp_path / "list.csv")
    assert VideoIndex.read(tmp_path / "list.csv").paths == index.paths
    (tmp_path / "xclip.txt").write_text("train-000.tar@b.mp4 1\ntrain-001.tar@sub/e.mp4 0\n")
    assert VideoIndex.read(tmp_path / "xclip.txt").paths == (index.paths[0], index.paths[4])


def test_texts_are_labels_only_where_they_repeat(tmp_path: Path) -> None:
    members = {
        f"{i}.{kind}": text
        for i in range(6)
        for kind, text in (("mp4", b"x"), ("txt", b"run" if i % 2 else b"jump"))
    }
    assert VideoIndex.read(write_tar(tmp_path / "a.tar", members)).classes == ("jump", "run")
    members = {name: name.encode() for name in members}
    index = VideoIndex.read(write_tar(tmp_path / "b.tar", members))
    assert index.classes == ()
    assert index.remarks == ("texts that say something else of nearly every video are no labels: 6",)


def test_names_of_shards(tmp_path: Path) -> None:
    names = [file.name for file in shard_files(tmp_path / "{train,val}-{08..11}.tar")]
    assert names == [f"{part}-{number:02}.tar" for part in ("train", "val") for number in range(8, 12)]
    for wrong, said in (
        ("a-{9..1}.tar", r"\{9\.\.1\} is no range that grows"),
        ("a-{000..}.tar", r"\{000\.\.\} is neither a range"),
        ("a.tar.gz", "compressed"),
        ("a.tgz", "compressed"),
    ):
        with pytest.raises(VidsslError, match=said):
            VideoIndex.read(tmp_path / wrong)


def test_bad_shards_are_told(tmp_path: Path, numbered: Path) -> None:
    with pytest.raises(VidsslError, match=r"a\.tar: cannot be read"):
        VideoIndex.read(tmp_path / "a.tar")
    write_tar(tmp_path / "a.tar", {"a.jpg": b"1", "b.cls": b"2"})
    with pytest.raises(VidsslError, match=r"a\.tar: no videos in it \(found 1 x \.jpg, 1 x \.cls\)"):
        VideoIndex.read(tmp_path / "a.tar")
    whole = write_tar(
        tmp_path / "a.tar",
        {"run/a.mp4": numbered.read_bytes(), "run/b.mp4": b"words", "run/c.mp4": b"x" * 9000},
    )
    whole.write_bytes(whole.read_bytes()[:-9000])
    index = VideoIndex.read(whole)
    assert index.remarks == ("tar files that are cut off or damaged, read as far as they go: 1 (a.tar)",)
    report = check_index(index)
    assert report.good.paths == ("a.tar/run/a.mp4",)
    assert [(bad.path, bad.label) for bad in report.bad] == [("a.tar/run/b.mp4", "run")]
    (tmp_path / "list.txt").write_text("a.tar/run/a.mp4 run\na.tar/run/gone.mp4 run\n")
    with pytest.raises(
        VidsslError, match=r"1 of 2 listed videos do not exist, the first is 'a\.tar/run/gone\.mp4'"
    ):
        VideoIndex.read(tmp_path / "list.txt")


def test_a_folder_with_videos_is_no_folder_of_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.mp4": b"1"})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/b.mp4").touch()
    index = VideoIndex.read(tmp_path)
    assert index.paths == ("run/b.mp4",)
    assert index.remarks == ("tar files beside the videos, left out: 1 (a.tar)",)


def test_shards_of_another_machine(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for number in range(2):
        store.pipe_file(
            f"/b/s-{number}.tar", write_tar(tmp_path / "x.tar", {f"run/{number}.mp4": b"1"}).read_bytes()
        )
    index = VideoIndex.read("memory://b/s-{0..1}.tar")
    assert index.paths == ("s-0.tar/run/0.mp4", "s-1.tar/run/1.mp4")
    assert index.labels == ("run", "run")
    assert index.path(1) == local_form("memory://b/s-1.tar/run/1.mp4")
    with pytest.raises(VidsslError, match="of other machines only tar files can be read"):
        VideoIndex.read("memory://b/videos")
