from __future__ import annotations

from pathlib import Path

import pytest

from vidssl.data.decode.address import local_form, split_archive, split_rate, url_of, with_rate
from vidssl.errors import VidsslError


def test_urls_survive_being_paths() -> None:
    for url in ("s3://bucket/a/b.tar", "https://host:80/x?y=1.tar", "memory://a.tar"):
        assert url_of(local_form(url)) == url
        assert url_of(local_form(Path(url))) == url  # a Path drops one slash
    assert url_of(local_form("a/b.tar")) is None
    assert local_form("a") == Path.cwd() / "a"
    assert url_of(Path("/home/x:/y")) is None


def test_paths_into_tar_files(tmp_path: Path) -> None:
    assert split_archive(tmp_path / "a.tar/b/c.mp4") == (tmp_path / "a.tar", "b/c.mp4")
    assert split_archive(tmp_path / "a.tar") is None
    (tmp_path / "a.tar").mkdir()
    assert split_archive(tmp_path / "a.tar/b.mp4") is None
    assert split_archive(Path("/s3:/b/a.tar/b.mp4")) == (Path("/s3:/b/a.tar"), "b.mp4")


def test_rates_of_folders(tmp_path: Path) -> None:
    assert split_rate("a/b#fps=12.5") == (Path("a/b"), 12.5)
    assert split_rate("a/b") == (Path("a/b"), None)
    assert with_rate("a/b", 12.0) == "a/b#fps=12"
    (tmp_path / "x#fps=3").mkdir()
    assert split_rate(tmp_path / "x#fps=3") == (tmp_path / "x#fps=3", None)
    for wrong in ("fast", "0", "-1", "inf", "nan"):
        with pytest.raises(VidsslError, match="is not a number of frames a second"):
            split_rate(f"a#fps={wrong}")
