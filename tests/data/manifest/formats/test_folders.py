"""Folders of frames, found in folders and named by lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.decode.test_frames import write_frames
from vidssl.data.decode.part import Part
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("run/a", "run/b b", "jump/c"):
        write_frames(tmp_path / "data" / name, range(1, 7))
    (tmp_path / "data/jump/notes.txt").touch()
    (tmp_path / "data/empty").mkdir()
    return tmp_path / "data"


def test_folders_of_frames_are_videos_at_the_rate_that_is_stated(folder: Path) -> None:
    index = VideoIndex.read(f"{folder}#fps=12")
    assert index.paths == ("jump/c#fps=12", "run/a#fps=12", "run/b b#fps=12")
    assert index.labels == ("jump", "run", "run")
    assert index.remarks == (
        "left out, not named like pictures: 1 file, 1 x .txt (jump/notes.txt)",
        "folders without a video, which give no class: 1 (empty)",
    )
    (folder / "run/a/img_00003.png").unlink()
    report = check_index(index)
    assert report.good.paths == ("jump/c#fps=12", "run/b b#fps=12")
    assert report.bad[0].reason == "frames are missing: 1, the first after img_00002.png"
    assert VideoIndex.read(f"{folder}#fps=24").digest != index.digest
    assert VideoIndex.read(f"{folder / 'run/a'}#fps=5").paths == ("a#fps=5",)
    with pytest.raises(
        VidsslError,
        match=r"no videos found .* found 17 x \.png, 1 x \.txt\); frames need their rate: data#fps=12",
    ):
        VideoIndex.read(folder)
    (folder.parent / "texts/a").mkdir(parents=True)
    (folder.parent / "texts/a/b.txt").touch()
    with pytest.raises(VidsslError, match=r"no folders of pictures, which #fps asks for \(found 1 x \.txt\)"):
        VideoIndex.read(f"{folder.parent / 'texts'}#fps=3")


@pytest.mark.parametrize(
    ("text", "rate", "paths", "parts"),
    [
        ("path,label,fps\nrun/a,1,8\nrun/b b,0,12.5\n", "", ("run/a#fps=8", "run/b b#fps=12.5"), ()),
        ("run/a 6 1\nrun/b b 6 0\n", "#fps=8", ("run/a#fps=8", "run/b b#fps=8"), ()),  # TSN, mmaction2
        ("run/a 1 4 1\nrun/b b 0 2 0\n", "#fps=8", ("run/a#fps=8#t=0.125,0.625", "run/b b#fps=8#t=0,0.25"), (Part(0.125, 0.625), Part(0, 0.25))),
        ("run/a,1\nrun/b b,0\n", "#fps=8", ("run/a#fps=8", "run/b b#fps=8"), ()),
        ("run/a 1\nrun/b b 0\n", "#fps=8", ("run/a#fps=8", "run/b b#fps=8"), ()),
        ("path,label,start,end,fps\nrun/a,1,0.25,,8\nrun/b b,0,,,8\n", "", ("run/a#fps=8#t=0.25", "run/b b#fps=8"), (Part(0.25), None)),
    ],
)  # fmt: skip
def test_lists_of_folders_of_frames(
    folder: Path, text: str, rate: str, paths: tuple[str, ...], parts: tuple[Part | None, ...]
) -> None:
    (folder / "list.txt").write_text(text)
    index = VideoIndex.read(f"{folder}/list.txt{rate}")
    assert index.paths == paths
    assert index.labels == ("1", "0")
    assert index.parts == parts
    assert len(check_index(index).good) == 2
    index.write(folder / "again.csv")
    assert VideoIndex.read(folder / "again.csv") == index


def test_a_list_without_a_rate_is_refused(folder: Path) -> None:
    for text, said in (
        ("run/a 6 1\n", "line 1: 'run/a' is a folder of frames, whose rate is not stated; add a column fps"),
        ("path,fps\nrun/a,fast\n", "line 2: fps 'fast' is not a number of frames a second"),
        ("run/gone 6 1\n", "'run/gone'"),
    ):
        (folder / "list.txt").write_text(text)
        with pytest.raises(VidsslError) as error:
            VideoIndex.read(folder / "list.txt")
        assert said in str(error.value)
