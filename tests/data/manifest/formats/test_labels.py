from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from vidssl.data.manifest.formats.labels import name_labels
from vidssl.data.manifest.formats.line import Line
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError


def named(folder: Path, *rows: tuple[str, str | None]) -> list[str | None]:
    lines = [Line(number, path, label) for number, (path, label) in enumerate(rows, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [line.label for line in name_labels(folder / "list.txt", lines)]


def test_a_pandas_column_with_gaps_holds_numbers(tmp_path: Path) -> None:
    rows = [("a.mp4", "1.0"), ("b.mp4", "nan"), ("c.mp4", "0.0"), ("d.mp4", None), ("e.mp4", "-1.0")]
    assert named(tmp_path, *rows) == ["1", None, "0", None, None]
    (tmp_path / "classes.csv").write_text("0,run\n1,jump\n")
    assert named(tmp_path, *rows) == ["jump", None, "run", None, None]


def test_numbers_that_are_not_whole_stay_as_they_are(tmp_path: Path) -> None:
    assert named(tmp_path, ("a.mp4", "1.5"), ("b.mp4", "1.0"), ("c.mp4", "NaN")) == ["1.5", "1.0", None]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.csv", "id,name,text\n1,Hugging,\n2,Kicking,\n"),
        ("classes.csv", "1,Hugging\n2,Kicking\n"),
        ("classes.csv", "1;Hugging\n2;Kicking\n"),
        ("classes.csv", "name,id\nKicking,2\nHugging,1\n"),
        ("classInd.txt", "1 Hugging\n2 Kicking\n"),
    ],
)
def test_ucf101_counts_from_one(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    assert named(tmp_path, ("Hugging/a.avi", "1"), ("Kicking/b.avi", "2")) == ["Hugging", "Kicking"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test_idx2cls.csv", "0,brush hair\n1,cartwheel\n"),
        ("raw_test_idx2cls.json", '{"0": "brush hair", "1": "cartwheel"}'),
    ],
)
@pytest.mark.parametrize("listed", ["test.csv", "test_1.csv"])
def test_classes_of_one_list_lie_beside_it_in_froster(
    tmp_path: Path, listed: str, name: str, text: str
) -> None:
    for file in ("brush_hair/a.avi", "cartwheel/#20_b.avi"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    (tmp_path / listed).write_text("brush_hair/a.avi,0\ncartwheel/#20_b.avi,1")
    (tmp_path / "train_idx2cls.csv").write_text("0,chew\n1,dive\n")  # of another list
    assert VideoIndex.read(tmp_path / listed).labels == ("0", "1")
    (tmp_path / name).write_text(text)
    assert VideoIndex.read(tmp_path / listed).labels == ("brush hair", "cartwheel")


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"0": 1}', '{"run": "0"}'])
def test_json_that_numbers_no_classes_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "raw_list_idx2cls.json").write_text(text)
    with pytest.raises(VidsslError, match=r"raw_list_idx2cls\.json: numbers no classes; expected such as"):
        named(tmp_path, ("a.mp4", "0"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("archery\nrun\n", "classes.csv: numbers no classes; expected lines such as 0,archery"),
        ("id,name\n0,run\nx,jump\n", "classes.csv: class 'jump' has no number but 'x'"),
        ("0,run\n0,jump\n", "classes.csv: 'run' and 'jump' have the same number, 0"),
        ('0,run\n1,"jump\n', "classes.csv: quotes do not close"),
        ("0,run\n", r"list.txt: line 2: label 1 is not an id of .*classes.csv \(it has 0 to 0; are "),
    ],
)
def test_class_lists_that_cannot_name_the_labels(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(VidsslError, match=message):
        named(tmp_path, ("a.mp4", "0"), ("b.mp4", "1"))


def test_labels_from_one_beside_classes_from_zero_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name\n0,Hand stand\n1,Kicking\n2,Other\n")
    with pytest.raises(VidsslError) as caught:
        named(
            tmp_path, ("x/v.mp4", "0"), ("handStand/a.mp4", "1"), ("kicking/b.mp4", "2"), ("Other/c.mp4", "2")
        )
    assert str(caught.value) == (
        f"{tmp_path}/list.txt: line 2: label 1, which is 'Kicking', of a video in the folder 'handStand'; labels and folders "
        "disagree in 2 of 3 lines; are the labels counted from 1 and the classes from 0?"
    )


def test_a_few_labels_that_differ_from_their_folders_are_said(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("0,run\n1,jump\n")
    lines = [Line(number, f"run/{number}.mp4", "0") for number in range(1, 4)] + [Line(4, "run/4.mp4", "1")]
    with pytest.warns(
        UserWarning, match=r"line 4: label 1, which is 'jump', of a video in the folder 'run'.* 1 of 4 "
    ):
        assert [line.label for line in name_labels(tmp_path / "list.txt", lines)] == ["run"] * 3 + ["jump"]
    words = [Line(1, "run/a.mp4", "jump"), Line(2, "jump/b.mp4", "run"), Line(3, "other/c.mp4", "run")]
    with pytest.warns(
        UserWarning, match=r"line 1: label 'jump' of a video in the folder 'run'.* 2 of 2 lines"
    ):
        assert [line.label for line in name_labels(tmp_path / "other.txt", words)] == ["jump", "run", "run"]
