"""The demo's folder: nothing good is replaced with less."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidssl.demo.folder import claimed
from vidssl.errors import VidsslError

PARTS = ("videos", "run", "result.json")


def demo(folder: Path, word: str, fails: str | None = None) -> None:
    """One that only writes words, and fails where it is told to."""
    with claimed(folder, PARTS):
        for part in PARTS:
            target = folder / part
            if not target.suffix:
                target.mkdir()
                target /= "file"
            target.write_text(word)
            if part == fails:
                raise OSError(28, "No space left on device")


def words(folder: Path) -> list[str]:
    return [(folder / part).read_text() for part in ("videos/file", "run/file", "result.json")]


@pytest.mark.parametrize("fails", ["videos", "run", "result.json"])
def test_an_earlier_demo_is_replaced_only_when_the_new_one_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    demo(tmp_path, "first")
    with pytest.raises(OSError, match="No space"):
        demo(tmp_path, "second", fails)
    assert words(tmp_path) == ["first"] * 3
    assert "the earlier one is back" in capsys.readouterr().out
    demo(tmp_path, "third")
    assert "the earlier one is back" not in capsys.readouterr().out
    assert words(tmp_path) == ["third"] * 3
    assert not list(tmp_path.glob(".*"))


def test_a_demo_that_was_killed_gives_the_earlier_one_back(tmp_path: Path) -> None:
    demo(tmp_path, "first")
    (tmp_path / ".earlier").mkdir()
    for part in PARTS:
        (tmp_path / part).rename(tmp_path / ".earlier" / part)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "file").write_text("half")
    with pytest.raises(OSError, match="No space"):
        demo(tmp_path, "third", "videos")
    assert words(tmp_path) == ["first"] * 3


def test_what_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(VidsslError, match="no earlier demo"):
        demo(tmp_path, "first")
    with pytest.raises(VidsslError, match="is a file"):
        demo(tmp_path / "mine", "first")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
