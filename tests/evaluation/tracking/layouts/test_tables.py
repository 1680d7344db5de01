from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts.mots import mots_masks
from vidssl.evaluation.tracking.layouts.tables import (
    DISTRACTORS,
    OF_MOT20,
    read_boxes,
    read_detections,
    read_keypoints,
    read_objects,
    read_others,
)


@pytest.mark.parametrize(
    "text", ["1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\n\n5 6  7 8", "\ufeff1, 2, 3, 4,\n5;6;7;8"]
)
def test_separators_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.txt").write_text(text, encoding="utf-8")
    assert read_boxes(tmp_path / "b.txt")[0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_box_without_area_or_number_is_not_seen(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("1,2,3,4\nnan,nan,nan,nan\n0,0,0,0\n1,1,-2,5\n")
    assert np.isnan(read_boxes(tmp_path / "b.txt")[0]).all(1).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no boxes"),
        ("1,2,3\n", "line 1 has 3 numbers; expected x,y,w,h or four corners"),
        ("1,2,3,4\n1,2,3,4,5,6,7,8\n", "line 2 has 8 numbers"),
        ("m12,3,4,5\n", "line 1: 'm12,3,4,5': expected numbers"),
    ],
)
def test_lines_that_are_no_boxes_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "b.txt").write_text(text)
    with pytest.raises(VidsslError, match=said):
        read_boxes(tmp_path / "b.txt")


def test_objects_are_sorted_counted_from_zero_and_unique(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text("3,2,1,1,5,5,1\n1,7,0,0,2,2,1\n1,3,0,0,2,2\n2,3,0,0,2,2,0\n")
    assert read_objects(file)[:, :2].tolist() == [[0, 3], [0, 7], [2, 2]]
    file.write_text("1,7,0,0,2,2\n1,7,9,9,2,2\n")
    with pytest.raises(VidsslError, match="id 7 stands twice in frame 1"):
        read_objects(file)
    file.write_text("1,7,0,0,2\n")
    with pytest.raises(VidsslError, match="row 1 has 5 numbers"):
        read_objects(file)
    file.write_text("1.5,7,0,0,2,3\n")
    with pytest.raises(VidsslError, match=r"row 1: frame 1\.5; must be a whole number"):
        read_objects(file)
    file.write_text("1,7,0,0,nan,3\n")
    with pytest.raises(VidsslError, match="row 1 has a number that is not finite"):
        read_objects(file)


def test_classes_say_what_is_counted_and_what_distracts(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text(
        "1,1,0,0,2,2,1,1,1\n1,2,0,0,2,2,0,7,1\n2,3,1,1,2,2,1,3,1\n2,4,5,5,2,2,0,6,.5\n2,5,8,8,2,2,0,1,0\n"
    )
    assert read_objects(file)[:, :2].tolist() == [[0, 1]]
    others = read_others(file)
    assert others is not None
    assert others[:, [0, 1, 5]].tolist() == [[0, 0, 1], [1, 1, 0], [1, 5, 0], [1, 8, 0]]
    of_mot20 = read_others(file, DISTRACTORS | OF_MOT20)
    assert of_mot20 is not None
    assert of_mot20[:, 5].tolist() == [1, 0, 1, 0]
    file.write_text("1,1,0,0,2,2,1,1,1\n1,2,0,0,2,2,0,14,1\n")
    with pytest.raises(
        VidsslError, match="row 2: class 14; must be a whole number from 1 to 13, or -1 in all rows"
    ):
        read_objects(file)
    for without in ("1,1,0,0,2,2,1,-1,-1\n", "1,1,0,0,2,2,1,-1,-1,-1\n", "1,1,0,0,2,2\n", ""):
        file.write_text(without)
        assert read_others(file) is None


def test_detections_keep_their_score_or_have_one(tmp_path: Path) -> None:
    file = tmp_path / "det.txt"
    file.write_text("2,-1,1,2,3,4,0.25\n1,-1,5,6,7,8\n")
    assert read_detections(file).tolist() == [[0, 5, 6, 7, 8, 1], [1, 1, 2, 3, 4, 0.25]]


def test_key_points_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    file = tmp_path / "keypoints.csv"
    for text, said in (
        ("a,b\n", "header 'a,b'; expected frame,id,joint,x,y"),
        ("", "header ''; expected"),
        ("frame,id,joint,x,y\n0,1,0,x,2\n", "a line that is not five numbers"),
        ("frame,id,joint,x,y\n0,1,0,2\n", "a line that is not five numbers"),
        ("frame,id,joint,x,y\n0,1,99999999,2,3\n", "joint 99999999; must be from 0 to 999"),
        ("frame,id,joint,x,y\n5,1,0,2,3\n", "3 frames, but key points of frame 5"),
    ):
        file.write_text(text)
        with pytest.raises(VidsslError, match=said):
            read_keypoints(file, 3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="0123456789.,-+einfa \t\n;_", max_size=60).map(str.encode),
        st.text(alphabet="0123456789,-\n", max_size=40).map(lambda t: b"frame,id,joint,x,y\n" + t.encode()),
    )
)
def test_whatever_a_file_holds_is_read_or_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "table.txt"
    file.write_bytes(content)
    for read in (
        read_boxes,
        read_objects,
        read_detections,
        lambda f: read_keypoints(f, 3),
        lambda f: mots_masks(f, 3, (4, 5))[0],
    ):
        with suppress(VidsslError):
            read(file)
