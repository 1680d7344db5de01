from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.data.conftest import numbers_of
from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.decode.timeline import read_timeline
from vidssl.data.manifest import indexing
from vidssl.data.manifest import probe as probing
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.indexing import write_index
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.store import build
from vidssl.data.manifest.store.build import _journals
from vidssl.data.manifest.store.mapped import read_table
from vidssl.errors import VidsslError


@pytest.fixture(autouse=True)
def pyav_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "loadable_decoders", lambda: ("pyav",))


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are really opened."""
    names: list[str] = []
    original = probing._Prober.probe
    monkeypatch.setattr(
        probing._Prober, "probe", lambda self, path: original(self, names.append(path.name) or path)
    )
    return names


def test_a_manifest_is_the_index_that_it_was_made_of(index: VideoIndex, tmp_path: Path) -> None:
    file = tmp_path / "all.arrow"
    made = write_index(index, file, 2)
    read = VideoIndex.read(file)
    assert read == index
    assert (read.digest, data_digest(read)) == (index.digest, data_digest(index))
    assert np.array_equal(read.label_ids, index.label_ids)
    assert [read.path(i) for i in range(6)] == [index.path(i) for i in range(6)]
    some = read.subset([4, 0])
    assert some == index.subset([4, 0])
    assert some.subset([1]) == index.subset([0]) and list(some.paths[-1:]) == [index.paths[0]]
    report = check_index(read)
    assert (report.good, report.bad) == (check_index(index).good, check_index(index).bad)
    assert (
        "all.arrow: 6 videos, 3 unreadable (jump/empty.mp4, jump/text.mp4, run/broken.mp4)" in made.describe()
    )


def test_segments_groups_and_names_that_are_not_text(tmp_path: Path, numbered: Path) -> None:
    name = os.fsdecode(b"\xff.mp4")
    (tmp_path / name).write_bytes(numbered.read_bytes())
    rows = f'path,label,group,start,end\n"{name}",run,g,0,1\n"{name}",jump,g,0.5,\n'
    (tmp_path / "list.csv").write_text(rows, errors="surrogateescape")
    index = VideoIndex.read(tmp_path / "list.csv")
    made = write_index(index, tmp_path / "list.arrow")
    read = VideoIndex.read(tmp_path / "list.arrow")
    assert read == index and list(read.parts) == list(index.parts)
    assert [read.file(i) for i in range(2)] == [name] * 2
    assert (made.examined.opened, read.timeline(1).info.num_frames) == (1, 40)  # type: ignore[union-attr]


def test_a_known_file_is_not_scanned(
    index: VideoIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_index(index, tmp_path / "all.arrow")
    read = VideoIndex.read(tmp_path / "all.arrow")
    expected = read_timeline(index.path(3))
    monkeypatch.setattr("vidssl.data.decode.open.read_timeline", lambda path: 1 / 0)
    monkeypatch.setattr("vidssl.data.decode.pyav_reader.read_timeline", lambda path: 1 / 0)
    with open_video(read.path(3), timeline=read.timeline(3)) as video:
        assert np.array_equal(video.times, expected.times)
        assert numbers_of(video.frames([7, 31])) == [7, 31]


def test_only_new_and_changed_files_are_opened_again(
    index: VideoIndex, tmp_path: Path, numbered: Path, probed: list[str]
) -> None:
    file = tmp_path / "all.arrow"
    write_index(index, file)
    assert write_index(index, file).examined[2:] == (6, 0, 0)
    os.utime(index.path(3), ns=(1, 1))
    index.path(1).write_bytes(numbered.read_bytes())
    (index.root / "run/new.mp4").write_bytes(numbered.read_bytes())
    probed.clear()
    again = write_index(VideoIndex.read(index.root), file)
    assert again.examined[2:] == (4, 1, 2)
    assert sorted(probed) == ["empty.mp4", "new.mp4"]
    assert len(check_index(again.index).good) == 5
    moved = tmp_path / "moved"
    index.root.rename(moved)
    probed.clear()
    assert write_index(VideoIndex.read(moved), file).examined.known == 7
    assert probed == []


def test_a_file_that_changed_is_named_and_never_decoded(
    index: VideoIndex, tmp_path: Path, numbered: Path
) -> None:
    write_index(index, tmp_path / "all.arrow")
    index.path(3).write_bytes(numbered.read_bytes() + b"\0")
    index.path(4).unlink()
    read = VideoIndex.read(tmp_path / "all.arrow")
    with pytest.raises(DecodeError, match=r"a.mp4: .*it has changed since .*all.arrow was made"):
        read.timeline(3)
    with pytest.raises(DecodeError, match="no such file"):
        read.timeline(4)
    with pytest.raises(DecodeError, match="the file is empty"):
        read.timeline(1)
    bad = {video.path: video.reason for video in check_index(read).bad}
    assert bad.keys() == {"jump/empty.mp4", "jump/text.mp4", "run/a.mp4", "run/b.mp4", "run/broken.mp4"}
    assert "it has changed since" in bad["run/a.mp4"] and bad["run/b.mp4"] == "no such file"


def test_a_killed_index_goes_on(
    tmp_path: Path, numbered: Path, probed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for i in range(60):
        os.link(numbered, tmp_path / f"data/{i:02}.mp4")
    file = tmp_path / "all.arrow"
    monkeypatch.setattr(build, "FLUSH_ROWS", 3)
    index = VideoIndex.read(tmp_path / "data")
    process = multiprocessing.get_context("fork").Process(target=write_index, args=(index, file, 1))
    process.start()
    while not any(journal.stat().st_size > 12_000 for journal in _journals(file)):
        assert process.is_alive()
        time.sleep(0.005)
    process.kill()
    process.join()
    (journal,) = _journals(file)
    with journal.open("r+b") as stream:  # as if killed over a write
        stream.truncate(journal.stat().st_size - 100)
    done = read_table(journal).num_rows
    assert 0 < done < 60 and not file.exists()
    made = write_index(index, file)
    assert (made.examined.known, made.examined.opened, len(probed)) == (done, 60 - done, 60 - done)
    assert _journals(file) == []
    for i in (0, done, 59):
        assert np.array_equal(made.index.timeline(i).pts, read_timeline(numbered).pts)  # type: ignore[union-attr, arg-type]


def test_another_process_maps_the_file_itself(index: VideoIndex, tmp_path: Path) -> None:
    file = tmp_path / "all.arrow"
    read = write_index(index, file).index
    handed = pickle.dumps(read.subset([3, 0]))
    assert str(file).encode() in handed
    there = pickle.loads(handed)
    assert there == index.subset([3, 0])
    assert there.timeline(0).info == read.timeline(3).info  # type: ignore[union-attr]
    file.unlink()
    with pytest.raises(VidsslError, match="every process needs it"):
        pickle.loads(handed)
    checked = check_index(index).good
    assert pickle.loads(pickle.dumps(checked)).facts is not None
    handed = pickle.dumps(checked)
    check_index(VideoIndex.of_files([index.path(0)]), cache=False)
    (cache := next((tmp_path / "cache").rglob("*.arrow"))).unlink()
    assert cache.name.encode() in handed
    assert pickle.loads(handed).facts is None  # on another machine every file is scanned


def test_what_is_no_manifest_is_refused(index: VideoIndex, tmp_path: Path) -> None:
    table = pa.table({"path": ["a.mp4"]})
    with (
        pa.OSFile(str(tmp_path / "other.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    with pytest.raises(VidsslError, match="an Arrow file, but no manifest; make it with: vidssl data index"):
        VideoIndex.read(tmp_path / "other.arrow")
    (tmp_path / "cut.arrow").write_bytes((tmp_path / "other.arrow").read_bytes()[:40])
    with pytest.raises(VidsslError, match=r"cut\.arrow: is no manifest that can be read"):
        VideoIndex.read(tmp_path / "cut.arrow")
    with pytest.raises(VidsslError, match=r"a file that ends in \.arrow"):
        write_index(index, tmp_path / "list.csv")
    (tmp_path / "text.arrow").write_text("mine")
    with pytest.raises(VidsslError, match="is there, and is no manifest"):
        write_index(index, tmp_path / "text.arrow")
    assert (tmp_path / "text.arrow").read_text() == "mine"
