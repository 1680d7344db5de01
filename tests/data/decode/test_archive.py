from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vidssl.data.decode import archive
from vidssl.data.decode.archive import Slice, open_member, tar_index
from vidssl.data.decode.open import open_video, probe_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.decode.trouble import MachineTroubleError
from vidssl.errors import VidsslError


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w", **options: object) -> Path:
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def shard(tmp_path: Path, numbered: Path) -> Path:
    video = numbered.read_bytes()
    return write_tar(
        tmp_path / "shard.tar",
        {
            "a.mp4": video,
            "a.cls": b"3",
            "./run/" + "n" * 150 + ".mp4": video,
            "empty.mp4": b"",
            "text.mp4": b"words",
        },
    )


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path: Path, kind: int) -> None:
    contents = {f"{'d' * 40}/{number}.bin": os.urandom(number * 211) for number in range(7)}
    if kind != tarfile.USTAR_FORMAT:
        contents |= {"é" * 90 + ".bin": b"long name"}
    path = write_tar(tmp_path / "x.tar", contents, format=kind)
    index = tar_index(path)
    assert list(index.members) == list(contents)
    assert not index.cut
    for name, content in contents.items():
        member = open_member(path / name)
        assert member is not None
        assert member.read() == content


def test_a_member_is_a_video_like_the_file(shard: Path, numbered: Path) -> None:
    for name in ("a.mp4", "run/" + "n" * 150 + ".mp4"):
        with open_video(shard / name) as member, open_video(numbered) as file:
            assert member.info == file.info == probe_video(shard / name)
            np.testing.assert_array_equal(member.times, file.times)
            for wanted in ([0], [39, 3, 17], list(range(40))):
                np.testing.assert_array_equal(member.frames(wanted), file.frames(wanted))


def test_what_cannot_be_read_of_a_tar_file_is_told(shard: Path, tmp_path: Path) -> None:
    for path, said in (
        (shard / "text.mp4", r"Invalid data|moov|not a video"),
        (shard / "empty.mp4", "the file is empty"),
        (shard / "gone.mp4", "shard.tar has no member 'gone.mp4'"),
        (tmp_path / "gone.tar" / "a.mp4", "gone.tar: cannot be read"),
    ):
        with pytest.raises(DecodeError, match=said):
            open_video(path)
    for backend in ("decord",):
        with pytest.raises(DecodeError, match=r"cannot read what lies in shard\.tar"):
            open_video(shard / "a.mp4", backend)
    assert open_member(tmp_path / "a.mp4") is None


def test_a_tar_file_that_is_cut_off_keeps_its_whole_members(shard: Path, tmp_path: Path) -> None:
    content, index = shard.read_bytes(), tar_index(shard)
    start, size = index.members["a.mp4"]
    after = list(index.members.values())[2][0]  # the third member's content begins here
    for number, (length, names, cut) in enumerate(
        [
            (start + size - 1, [], True),
            (start + size // 2, [], True),
            ((start + size + 511) // 512 * 512 + 100, ["a.mp4"], True),  # in the second header
            (after + 10, ["a.mp4", "a.cls"], True),
            (len(content) - 1, list(index.members), False),  # a part of the end marker
        ]
    ):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(content[:length])
        found = tar_index(path)
        assert (list(found.members), found.cut) == (names, cut), length
    damaged = bytearray(content)
    damaged[(start + size + 511) // 512 * 512 + 5] ^= 255  # the second header
    (tmp_path / "damaged.tar").write_bytes(damaged)
    assert (list(tar_index(tmp_path / "damaged.tar").members), tar_index(tmp_path / "damaged.tar").cut) == (
        ["a.mp4"],
        True,
    )


def test_what_is_no_plain_tar_file_is_refused(tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "a.tar", {"a.mp4": b"x"}, "w:gz")
    with pytest.raises(
        VidsslError, match=r"a\.tar: is no tar file .* \(it is compressed; write it without\)"
    ):
        tar_index(packed)
    (tmp_path / "b.tar").write_bytes(b"words" * 400)
    with pytest.raises(VidsslError, match=r"b\.tar: is no tar file"):
        tar_index(tmp_path / "b.tar")
    with pytest.raises(VidsslError, match=r"c\.tar: cannot be read"):
        tar_index(tmp_path / "c.tar")


def test_an_index_is_kept_until_the_tar_file_changes(
    shard: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tar_index(shard)
    [kept] = (cache / "shards").iterdir()
    archive._index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("vidssl.data.decode.archive._scan", None)
        assert tar_index(shard) == first
    archive._index.cache_clear()
    kept.write_text("damaged")
    assert tar_index(shard) == first
    archive._index.cache_clear()
    write_tar(shard, {"b.mp4": b"x"})
    assert list(tar_index(shard).members) == ["b.mp4"]


def test_a_slice_reads_like_a_file(tmp_path: Path) -> None:
    content = os.urandom(5000)
    (tmp_path / "f").write_bytes(content)
    part = Slice((tmp_path / "f").open("rb", buffering=0), 1000, 300, "f")
    assert part.seek(0, os.SEEK_END) == 300
    assert part.read(10) == b""
    assert part.seek(-50, os.SEEK_CUR) == 250
    assert part.read(10) + part.read() == content[1250:1300]
    part.seek(7)
    assert part.read(13) == content[1007:1020]
    with pytest.raises(ValueError, match="before its start"):
        part.seek(-1)


def test_members_of_another_machine_come_through_fsspec(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    from vidssl.data.decode.address import local_form

    fsspec.filesystem("memory").pipe_file("/bucket/s.tar", shard.read_bytes())
    path = local_form("memory://bucket/s.tar") / "a.mp4"
    with open_video(path) as remote, open_video(shard / "a.mp4") as local:
        np.testing.assert_array_equal(remote.frames([3, 30]), local.frames([3, 30]))
    monkeypatch.setattr(archive, "FETCHED", 10)  # a large member is read in place
    with open_video(path) as remote, open_video(shard / "a.mp4") as local:
        np.testing.assert_array_equal(remote.frames([3, 30]), local.frames([3, 30]))
    with pytest.raises(DecodeError, match=r"memory://bucket/no\.tar: no such file"):
        open_video(local_form("memory://bucket/no.tar") / "a.mp4")
    with pytest.raises(VidsslError, match=r"nosuch://bucket/s\.tar: cannot be opened"):
        tar_index(local_form("nosuch://bucket/s.tar"))

    def unplugged(*_: object) -> None:
        raise RuntimeError("connection reset")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.open", unplugged)
    with pytest.raises(MachineTroubleError, match=r"could not be read \(connection reset\)"):
        open_video(path)
