from __future__ import annotations

import errno
import warnings
from pathlib import Path

import pytest

from vidssl.data.decode import trouble
from vidssl.data.manifest.formats.rows import read_lines
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError

FILES = ("a.mp4", "b b.mp4", "shaking hands/c.mp4", "#20_d.mp4", "e;f.mp4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, text: str) -> list[tuple[str, str | None]]:
    (folder / "list.txt").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [(line.path, line.label) for line in read_lines(folder / "list.txt")]


EXPECTED = [("a.mp4", "0"), ("b b.mp4", "2"), ("shaking hands/c.mp4", "1")]


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4;0\nb b.mp4;2\nshaking hands/c.mp4;1\n",
        "path;label\na.mp4;0\nb b.mp4;2\nshaking hands/c.mp4;1\n",
        "a.mp4,0,\nb b.mp4,2,\nshaking hands/c.mp4,1,\n",
        "path,label,\na.mp4,0,\nb b.mp4,2,\nshaking hands/c.mp4,1,\n",
        "path,label\na.mp4,0,\nb b.mp4,2,\nshaking hands/c.mp4,1,,\n",
        "a.mp4;0;\nb b.mp4;2;\nshaking hands/c.mp4;1;\n",
        ".\\a.mp4 0\nb b.mp4 2\nshaking hands\\c.mp4 1\n",
        "a.mp4 0\nb b.mp4 2\nshaking hands/c.mp4   1\n",
    ],
)
def test_separators_and_back_slashes(folder: Path, text: str) -> None:
    assert read(folder, text) == EXPECTED


def test_a_separator_in_a_name_is_none(folder: Path) -> None:
    assert read(folder, "e;f.mp4,x\na.mp4,y\n") == [("e;f.mp4", "x"), ("a.mp4", "y")]
    assert read(folder, "e;f.mp4\nb b.mp4\n") == [("e;f.mp4", None), ("b b.mp4", None)]


@pytest.mark.parametrize("separator", [" ", ","])
def test_video_mae_2_writes_first_frame_and_minus_one_for_the_whole_video(
    folder: Path, separator: str
) -> None:
    text = "\n".join(separator.join((name, "0", "-1")) for name in ("a.mp4", "b b.mp4"))
    assert read(folder, text) == [("a.mp4", None), ("b b.mp4", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "b b.mp4 0 x\n",
            r"line 1 does not hold a path and at most one label but 2 \(0, x\): 'b b.mp4 0 x'; more ",
        ),
        ("a.mp4 0\nb b.mp4 playing guitar\n", r"line 2 .* but 2 \(playing, guitar\)"),
        ("a.mp4,x,y,z\n", r"but 3 \(x, y, z\): 'a.mp4,x,y,z'; more columns need a header such as path,label"),
        ("a.mp4;x\nb b.mp4;x;y\n", r"line 2 .* but 2 \(x, y\)"),
    ],
)
def test_several_labels_are_named(folder: Path, text: str, message: str) -> None:
    with pytest.raises(VidsslError, match=message) as caught:
        read(folder, text)
    assert str(folder / "list.txt") in str(caught.value)


@pytest.mark.parametrize("separator", [" ", ","])
def test_mmaction2_lists_several_labels_of_a_video(folder: Path, separator: str) -> None:
    rows = [("a.mp4", "0"), ("b b.mp4", "2", "0"), ("shaking hands/c.mp4", "1", "2", "4")]
    (folder / "list.txt").write_text("".join(f"{separator.join(row)}\n" for row in rows))
    with pytest.warns(UserWarning, match=r"several labels: 2, the first is line 2; no video of the list has"):
        lines = read_lines(folder / "list.txt")
    assert [(line.path, line.label) for line in lines] == [(row[0], None) for row in rows]
    (folder / "list.txt").write_text(f"{separator.join(rows[0])}\n")
    assert read_lines(folder / "list.txt")[0].label == "0"  # of one label each it is a list as any other


def test_quoted_labels_may_hold_blanks(folder: Path) -> None:
    assert read(folder, 'a.mp4 "playing guitar"\n"b b.mp4" run\n') == [
        ("a.mp4", "playing guitar"),
        ("b b.mp4", "run"),
    ]


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_names_that_begin_with_a_hash_are_no_comments(folder: Path, separator: str) -> None:
    text = f"# the a's\na.mp4{separator}0\n#20_d.mp4{separator}1\n#a.mp4{separator}0\n"
    assert read(folder, text) == [("a.mp4", "0"), ("#20_d.mp4", "1")]
    assert read(folder, f"#20_d.mp4{separator}1\n") == [("#20_d.mp4", "1")]
    assert read(folder, "#path label\n# nothing\n") == []


def test_a_hash_before_a_video_that_does_not_exist_is_said(folder: Path) -> None:
    (folder / "list.txt").write_text("a.mp4 0\n#122_pick.mp4 1\n# a.mp4 0\n# about nothing.\n")
    with pytest.warns(UserWarning, match=r"comments: 1, the first is line 2: '#122_pick.mp4 1'"):
        assert [line.path for line in read_lines(folder / "list.txt")] == ["a.mp4"]


def test_a_line_too_long_for_a_file_name_is_still_a_line(folder: Path) -> None:
    long = "x" * 5000
    assert read(folder, f"a.mp4 0\n#{long}\n") == [("a.mp4", "0")]


def test_a_file_system_that_does_not_answer_has_lost_no_video(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "list.txt").write_text("a.mp4 0\nb b.mp4 2\n")
    ask, asked = Path.stat, []

    def stale(path: Path, **options: bool) -> object:
        if path.name == "b b.mp4" and len(asked) < often:
            asked.append(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return ask(path, **options)

    monkeypatch.setattr(Path, "stat", stale)
    monkeypatch.setattr(trouble, "WAITS", (0.0, 0.0))
    often = 2
    assert len(VideoIndex.read(folder / "list.txt", "skip")) == 2
    often = 9
    with pytest.raises(VidsslError, match=r"b b\.mp4: could not be read"):
        VideoIndex.read(folder / "list.txt", "skip")
