from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError

FILES = ("a.mp4", "b b.mp4", "c,d.mp4", "run fast/x y.webm", "#1.avi")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, text: str | bytes, name: str = "list.csv") -> list[tuple[str, str | None]]:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    index = VideoIndex.read(folder / name)
    assert index.root == folder
    return list(zip(index.paths, index.labels, strict=True))


EXPECTED = [("a.mp4", "jump"), ("b b.mp4", "run"), ("run fast/x y.webm", "jump")]


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4,jump\nb b.mp4,run\nrun fast/x y.webm,jump\n",
        "path,label\na.mp4,jump\nb b.mp4,run\nrun fast/x y.webm,jump",
        "label,id,file_name\njump,1,a.mp4\nrun,2,b b.mp4\njump,3,run fast/x y.webm\n",
        '"a.mp4","jump"\r\n"b b.mp4", "run"\r\nrun fast/x y.webm,jump\r\n',
        "\ufeffa.mp4\tjump\nb b.mp4\trun\nrun fast/x y.webm\tjump\n",
        "Path\tLabel\tnote\na.mp4\tjump\t\nb b.mp4\trun\tx, y\nrun fast/x y.webm\tjump\t\n",
        "a.mp4 jump\nb b.mp4   run\nrun fast/x y.webm jump\n",
        "path label\na.mp4 jump\nb b.mp4 run\nrun fast/x y.webm jump\n",
        '"b b.mp4" run\na.mp4 jump\n"run fast/x y.webm" jump\n',
        "# a comment, with a comma\n\n  a.mp4 , jump \n\n# another\nb b.mp4,run\n./run fast//x y.webm,jump\n",
    ],
)
@pytest.mark.parametrize("name", ["list.csv", "train.txt"])
def test_the_formats_in_use(folder: Path, text: str, name: str) -> None:
    assert sorted(read(folder, text, name)) == EXPECTED


def test_utf_16_as_spreadsheets_write_it(folder: Path) -> None:
    assert read(folder, "a.mp4\tjump\nb b.mp4\trun\n".encode("utf-16")) == EXPECTED[:2]


@pytest.mark.parametrize(
    "text", ["a.mp4\nb b.mp4\nc,d.mp4\n", "path\na.mp4\nb b.mp4\n", "a.mp4,\nb b.mp4,\n"]
)
def test_labels_may_be_absent(folder: Path, text: str) -> None:
    assert {label for _, label in read(folder, text)} == {None}


def test_absolute_paths_are_kept_short_where_possible(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "z.mp4"
    other.touch()
    assert read(folder, f"{folder}/a.mp4,x\n{other},y\n") == [("a.mp4", "x"), (str(other), "y")]


def test_numbers_become_names_through_classes_csv(folder: Path) -> None:
    text = "a.mp4 1\nb b.mp4 0\nrun fast/x y.webm -1\n"
    assert [label for _, label in read(folder, text)] == ["1", "0", None]
    (folder / "classes.csv").write_text('id,name,text\n0,run,"run, fast"\n1,"jump, high",…\n')
    assert [label for _, label in read(folder, text)] == ["jump, high", "run", None]
    (folder / "classes.csv").write_text("1,jump\n0,run\n")
    assert [label for _, label in read(folder, text)] == ["jump", "run", None]
    assert [label for _, label in read(folder, "a.mp4,1st\nb b.mp4,0\n")] == ["1st", "0"]
    (folder / "classes.csv").write_text("id,name\n0,run\n")
    with pytest.raises(VidsslError, match=r"list.csv: line 1: label 1 is not an id of .*classes.csv"):
        read(folder, text)


def test_a_path_listed_twice_counts_once(folder: Path) -> None:
    with pytest.warns(UserWarning, match="listed again, each counts once: 2"):
        assert read(folder, "a.mp4,x\n./a.mp4,x\nb b.mp4,y\na.mp4,x\n") == [("a.mp4", "x"), ("b b.mp4", "y")]
    with pytest.raises(VidsslError, match=r"'a.mp4' is labelled 'x' on line 1 and 'y' on line 3"):
        read(folder, "a.mp4,x\n\na.mp4,y\n")


def test_missing_files(folder: Path) -> None:
    text = "a.mp4,x\nzz.mp4,x\ngone.mp4,y\n"
    with pytest.raises(
        VidsslError, match=r"2 of 3 listed videos do not exist, the first is 'zz.mp4' \(line 2\)"
    ):
        read(folder, text)
    skipped = VideoIndex.read(folder / "list.csv", missing="skip")
    assert (skipped.paths, skipped.missing) == (("a.mp4",), ("zz.mp4", "gone.mp4"))
    assert skipped.remarks == (
        "listed but missing, left out: 2 (zz.mp4, gone.mp4)",
        "classes all of whose videos are missing: 1 (y)",
    )
    assert skipped.remarks[0] in skipped.describe()
    counted = VideoIndex.read(folder / "list.csv", missing="count")
    assert (counted.paths, counted.missing) == (("a.mp4", "zz.mp4", "gone.mp4"), ("zz.mp4", "gone.mp4"))
    assert counted.remarks == ("listed but missing, counted as failed: 2 (zz.mp4, gone.mp4)",)
    assert counted.subset([0]).missing == counted.missing
    (folder / "list.csv").write_text("zz.mp4,x\n")
    for how in ("skip", "count"):
        with pytest.raises(VidsslError, match="none of the 1 listed videos exists"):
            VideoIndex.read(folder / "list.csv", missing=how)


def test_the_message_names_what_helps(folder: Path) -> None:
    with pytest.raises(VidsslError, match=r"--missing skip leaves them out, .*data.missing=skip"):
        read(folder, "a.mp4,x\nzz.mp4,x\n")
    with pytest.raises(VidsslError, match=rf"2 of 2 .*; paths count from the folder of the list, {folder}"):
        read(folder, "zz.mp4,x\nyy.mp4,x\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.mp4,x\nb b.mp4,y,z\na.mp4,x\n",
            r"line 2 does not hold a path and at most one label but 2 \(y, z\): 'b b.mp4,y,z'",
        ),
        ("path,label\na.mp4,x\nb b.mp4\n", "line 3 does not hold the 2 columns of its header"),
        ('a.mp4,x\n"b b.mp4,y\na.mp4,x\n', "line 2 does not hold"),
        ("a.mp4,x\n,y\na.mp4,x\n", "line 2 does not hold"),
        (
            "label,youtube_id\nx,abc\n",
            r"has no column for the path \(found label, youtube_id; expected 'path'\)",
        ),
        ("", "lists no videos"),
        ("# nothing\n\n", "lists no videos"),
        ("path,label\n", "lists no videos"),
        ("path label\n\n", "lists no videos"),
        ("path\tlabel\n", "lists no videos"),
        (b"GIF89a\0\0\1", "is not a list of videos .*binary"),
        ("Dear reader,\nthis is a letter.\n", "is not a list of videos"),
    ],
)
def test_what_is_no_list(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(VidsslError, match=message) as caught:
        read(folder, text)
    assert str(folder / "list.csv") in str(caught.value)


# Anything a file system allows, but for line breaks and for names that only a path could not hold.
stems = st.text(
    st.characters(exclude_characters="/\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: not name.startswith("."))
labels = st.none() | st.text(
    st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.dictionaries(stems.map(lambda stem: stem + ".mp4"), labels, min_size=1, max_size=6))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, str | None]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    try:
        for name in rows:
            (folder / name).touch()
    except OSError:
        return  # too long for the file system once encoded
    index = VideoIndex.of(folder, list(rows), list(rows.values()))
    if any(label and re.fullmatch(r"-0*1(\.0+)?|nan|NaN|<NA>|-?\d+\.0+", label) for label in rows.values()):
        return  # no label in lists, or written as 1.0
    index.write(folder / "list.csv")
    again = VideoIndex.read(folder / "list.csv")
    assert (again.paths, again.labels, again.digest) == (index.paths, index.labels, index.digest)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    index.write(elsewhere / "list.csv")
    assert [p.name for p in elsewhere.iterdir()] == ["list.csv"]
    moved = VideoIndex.read(elsewhere / "list.csv")
    assert [moved.path(i).samefile(index.path(i)) for i in range(len(index))] == [True] * len(index)


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.mp4").touch()  # the bytes of Latin-1
    assert read(tmp_path, b"caf\xe9.mp4,drink\n") == [("caf\udce9.mp4", "drink")]


def test_a_line_break_in_a_name_cannot_be_listed(tmp_path: Path) -> None:
    index = VideoIndex.of(tmp_path, ["a\nb.mp4"], [None])
    with pytest.raises(VidsslError, match="line break"):
        index.write(tmp_path / "list.csv")
    assert list(tmp_path.iterdir()) == []


def test_recorded_groups_are_read_and_written_back(folder: Path) -> None:
    (folder / "list.csv").write_text(
        "group,path,label\ng1,a.mp4,jump\nnan,b b.mp4,run\ng1,run fast/x y.webm,jump\n"
    )
    index = VideoIndex.read(folder / "list.csv")
    assert index.groups == ("g1", None, "g1")
    assert index.subset([1, 2]).groups == (None, "g1")
    assert "recorded groups: 1" in index.describe()
    index.write(folder / "again.csv")
    assert VideoIndex.read(folder / "again.csv") == index
    ungrouped = dataclasses.replace(index, groups=())
    ungrouped.write(folder / "ungrouped.csv")
    assert VideoIndex.read(folder / "ungrouped.csv") == ungrouped
    assert ungrouped.digest == index.digest and data_digest(ungrouped) == data_digest(index)


def test_a_column_of_empty_groups_is_none(folder: Path) -> None:
    (folder / "list.csv").write_text("path,label,group\na.mp4,jump,\nb b.mp4,run,\n")
    assert VideoIndex.read(folder / "list.csv").groups == ()


def test_a_video_in_two_groups_is_an_error(folder: Path) -> None:
    with pytest.raises(VidsslError, match=r"'a.mp4' is in the group 'g1' on line 2 and 'g2' on line 3"):
        read(folder, "path,label,group\na.mp4,jump,g1\na.mp4,jump,g2\n")
