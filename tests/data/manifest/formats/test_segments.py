"""Lists whose rows are segments of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.conftest import write_numbered
from vidssl.data.decode.part import Part
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError


def read(folder: Path, *rows: str, header: str = "path,label,start,end") -> VideoIndex:
    (folder / "list.csv").write_text("\n".join((header, *rows)))
    return VideoIndex.read(folder / "list.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_numbered(tmp_path / "a#1.mp4", frames=50)  # 2 s
    write_numbered(tmp_path / "b.mp4", frames=25)
    return tmp_path


ROWS = ("a#1.mp4,run,0.5,1.5", "a#1.mp4,jump,1.5,", "b.mp4,run,,nan", "a#1.mp4,run,0,0.5")


def test_rows_are_parts_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = read(folder, *ROWS)
    assert index.paths == ("a#1.mp4#t=0.5,1.5", "a#1.mp4#t=1.5", "b.mp4", "a#1.mp4#t=0,0.5")
    assert index.labels == ("run", "jump", "run", "run")
    assert [index.part(i) for i in range(4)] == [Part(0.5, 1.5), Part(1.5), None, Part(0, 0.5)]
    assert [index.path(i).name for i in range(4)] == ["a#1.mp4", "a#1.mp4", "b.mp4", "a#1.mp4"]
    assert index.groups == ("a#1.mp4", "a#1.mp4", "b.mp4", "a#1.mp4")
    assert "parts of files: 3; whole files: 1; files: 2" in index.describe()
    some = index.subset([3, 2])
    assert (some.part(0), some.part(1)) == (Part(0, 0.5), None)
    assert some.labelled_by_folders().parts == some.parts


def test_a_written_list_is_read_the_same(folder: Path) -> None:
    index = read(folder, *ROWS)
    index.write(folder / "again.csv")
    assert VideoIndex.read(folder / "again.csv") == index
    (folder / "lists").mkdir()
    index.write(folder / "lists/again.csv")
    far = VideoIndex.read(folder / "lists/again.csv")
    assert [far.path(i).resolve() for i in range(4)] == [index.path(i).resolve() for i in range(4)]
    assert far.parts == index.parts


def test_digests_see_the_segments(folder: Path) -> None:
    index, other = read(folder, *ROWS), read(folder, *ROWS[1:], "a#1.mp4,run,0.5,1.25")
    assert index.digest != other.digest
    assert data_digest(index) != data_digest(other)
    whole = read(folder, "b.mp4,run,,")
    assert whole.parts == ()
    (folder / "plain.csv").write_text("b.mp4,run\n")
    assert whole == VideoIndex.read(folder / "plain.csv")


def test_a_file_of_several_segments_is_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidssl.data.manifest.store import build

    asked: list[list[Path]] = []
    original = build.probe_all
    monkeypatch.setattr(
        build, "probe_all", lambda paths, *rest: original(asked.append(list(paths)) or paths, *rest)
    )
    index = read(folder, *ROWS, "a#1.mp4,jump,2,3", "a#1.mp4,jump,1.9,2.5")
    report = check_index(index)
    assert asked == [[folder / "a#1.mp4", folder / "b.mp4"]]
    assert report.good.paths == (*index.paths[:4], "a#1.mp4#t=1.9,2.5")
    [bad] = report.bad
    assert (bad.path, bad.label) == ("a#1.mp4#t=2,3", "jump")
    assert bad.reason == "the part begins at 2 s, but the video ends at 2 s"
    assert report.good.remarks == (
        "segments that end after their video, taken to its end: 1 (a#1.mp4#t=1.9,2.5)",
    )
    assert check_index(index) == report
    assert asked[1] == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b.mp4,run,2,1", "line 2: the segment ends at 1 s, not after its start at 2 s"),
        ("b.mp4,run,1,1", "line 2: the segment ends at 1 s, not after its start at 1 s"),
        ("b.mp4,run,-1,1", "line 2: start '-1' is not a number of seconds from 0 on"),
        ("b.mp4,run,0,0:01", "line 2: end '0:01' is not a number of seconds from 0 on"),
        ("b.mp4,run,inf,", "line 2: start 'inf' is not a number of seconds from 0 on"),
    ],
)
def test_what_is_no_segment_is_named(folder: Path, row: str, said: str) -> None:
    with pytest.raises(VidsslError) as error:
        read(folder, row)
    assert said in str(error.value)


def test_the_same_segment_twice_counts_once(folder: Path) -> None:
    with pytest.warns(UserWarning, match="listed again, each counts once: 1"):
        index = read(folder, "b.mp4,run,0,1", "b.mp4,run,0.0,1.0", "b.mp4,jump,0,0.5")
    assert index.labels == ("run", "jump")
    with pytest.raises(VidsslError, match=r"'b\.mp4#t=0,1' is labelled 'run' on line 2 and 'jump' on line 3"):
        read(folder, "b.mp4,run,0,1", "b.mp4,jump,0,1")


def test_missing_files_are_counted_by_segment(folder: Path) -> None:
    (folder / "list.csv").write_text("path,start,end\nb.mp4,0,1\ngone.mp4,0,1\ngone.mp4,1,2\n")
    with pytest.raises(VidsslError, match="2 of 3 listed videos do not exist"):
        VideoIndex.read(folder / "list.csv")
    index = VideoIndex.read(folder / "list.csv", "count")
    assert index.missing == index.paths[1:] == ("gone.mp4#t=0,1", "gone.mp4#t=1,2")
    (folder / "list.csv").write_text("path,start,end\ngone.mp4,0,1\ngone.mp4,1,2\n")
    with pytest.raises(VidsslError, match="none of the 2 listed videos exists"):
        VideoIndex.read(folder / "list.csv", "skip")
