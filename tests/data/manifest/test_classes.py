from __future__ import annotations

from pathlib import Path

import pytest

from vidssl.data.manifest.classes import class_table, numbered_names, read_class_list, table_rows
from vidssl.errors import VidsslError


def put(folder: Path, text: str, name: str = "list.txt") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="")
    return file


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff# mine\r\nbrush_hair\r\n\r\nmoving, slowly\r\n",
        "1 brush_hair\n2 moving, slowly\n",
        "0: brush_hair\n1: moving, slowly\n",
        "id,name,text\n# out\n7,brush_hair,\n3,\"moving, slowly\",a text\n",
        "id\tname\tdisplay\na\tbrush_hair\tbrush hair\nb\tmoving, slowly\tm\n",
        "3,brush_hair\n1,\"moving, slowly\"\n",
        "id;name\n3;brush_hair\n1;moving, slowly\n",
        "Label\nbrush_hair\n\"moving, slowly\"\n",
    ],
)  # fmt: skip
def test_names_come_out_as_they_are_spelt(text: str, tmp_path: Path) -> None:
    listed = read_class_list(put(tmp_path, text))
    assert listed is not None
    assert listed.names == ["brush_hair", "moving, slowly"]


def test_columns_of_texts_are_found() -> None:
    table = class_table("id,Class Name,GPT3 discription\n0,YoYo\n1,run,fast\n")
    assert table is not None and table.text == 2
    assert table.rows == [["0", "YoYo", ""], ["1", "run", "fast"]]  # short rows are filled
    assert class_table("a,b\n1,2\n") is None


def test_only_numbers_without_gaps_number_a_list() -> None:
    assert numbered_names(["3 balls", "5 balls"]) is None
    assert numbered_names(["1 a", "b"]) is None
    assert numbered_names([]) is None


def test_other_files_are_not_taken_for_lists(tmp_path: Path) -> None:
    assert read_class_list(put(tmp_path, '{"a": ["b"]}')) is None
    assert read_class_list(put(tmp_path, "## Mine\n```python\nclasses = []\n```\n")) is None
    with pytest.raises(VidsslError, match=r"columns \['a', 'b'\] have no `name`"):
        read_class_list(put(tmp_path, "a,b\n1,2\n", "list.csv"))


def test_quotes_that_do_not_close_are_seen_where_asked() -> None:
    text = 'id,name\n0,run\n1,"jump\n'
    assert list(table_rows(text, strict=True))[-1] == (3, [])
    assert list(table_rows(text))[-1][1] == ["1", "jump\n"]


@pytest.mark.parametrize("names", [["moving, slowly", "run"], ["run", "moving, slowly"], ["a; b", "c, d"]])
def test_names_with_commas_may_stand_first(names: list[str], tmp_path: Path) -> None:
    listed = read_class_list(put(tmp_path, "\n".join(names)))
    assert listed is not None
    assert listed.names == names


def test_utf_16_as_spreadsheets_write_it(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_bytes("0\tsauté\n1\trun\n".encode("utf-16"))
    listed = read_class_list(file)
    assert listed is not None
    assert listed.numbered(file) == {0: "sauté", 1: "run"}
