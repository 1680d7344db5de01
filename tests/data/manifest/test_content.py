from __future__ import annotations

import os
from pathlib import Path

from tests.data.decode.test_archive import write_tar
from tests.data.decode.test_frames import write_frames
from vidssl.data.manifest.content import content_hash, file_stamp
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.duplicates import same_files
from vidssl.data.manifest.manifest import VideoIndex


def test_a_member_of_a_tar_file_is_known_like_the_file(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/a.mp4").write_bytes(content)
    shard = write_tar(tmp_path / "s.tar", {"run/b.mp4": content[:-1], "run/a.mp4": content})
    assert content_hash(shard / "run/a.mp4") == content_hash(tmp_path / "run/a.mp4")
    assert content_hash(shard / "run/b.mp4") != content_hash(tmp_path / "run/a.mp4")
    first = file_stamp(shard / "run/a.mp4")
    assert first is not None
    assert first[0] == 300_000
    assert file_stamp(shard / "run/c.mp4") is file_stamp(tmp_path / "t.tar/a.mp4") is None
    files, members = VideoIndex.read(tmp_path / "run"), VideoIndex.read(shard)
    assert same_files(files, members) == [(0, 1)]
    digest = data_digest(members)
    write_tar(shard, {"run/b.mp4": content[:-1], "run/a.mp4": content[::-1]})
    assert file_stamp(shard / "run/a.mp4") != first
    assert data_digest(members) != digest


def test_a_folder_of_frames_is_known_by_its_names_and_ends(tmp_path: Path) -> None:
    path = Path(f"{write_frames(tmp_path / 'a')}#fps=5")
    other = Path(f"{write_frames(tmp_path / 'sub/b')}#fps=5")
    assert content_hash(path) == content_hash(other) != content_hash(Path(f"{tmp_path / 'a'}#fps=6"))
    assert file_stamp(path) == (12, (tmp_path / "a").stat().st_mtime_ns)
    (tmp_path / "sub/b/img_00011.png").write_bytes((tmp_path / "a/img_00000.png").read_bytes())
    assert content_hash(path) != content_hash(other)
    (tmp_path / "a/img_00003.png").unlink()
    assert file_stamp(path) is None
