"""What is written of factors is what is read, and a wrong file is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.synthetic.factors.table import FactorTable, read_factors, write_factors


def table(values: list[list[int]], sizes: dict[str, int], motion: set[str]) -> FactorTable:
    paths = [Path("clips", f"{i}.mp4") for i in range(len(values))]
    return FactorTable(paths, list(sizes), np.array(values, dtype=np.int64), sizes, motion)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), clips=st.integers(1, 7))
def test_written_and_read_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, sizes: list[int], clips: int
) -> None:
    folder = tmp_path_factory.mktemp("factors")
    values = [[data.draw(st.integers(0, size - 1)) for size in sizes] for _ in range(clips)]
    named = {f'f{k},"é': size for k, size in enumerate(sizes)}
    motion = set(data.draw(st.lists(st.sampled_from(list(named)))))
    written = table(values, named, motion)
    write_factors(folder, written, {"seed": 3})
    read = read_factors(folder)
    assert read.paths == [folder / path for path in written.paths]
    assert (read.names, read.sizes, read.motion) == (written.names, written.sizes, written.motion)
    assert read.values.dtype == np.int64
    assert np.array_equal(read.values, written.values)
    assert sorted(read.columns(motion=True) + read.columns(motion=False)) == list(range(len(sizes)))
    assert json.loads((folder / "factors.json").read_text())["seed"] == 3


def test_without_a_description_the_values_say_the_sizes(tmp_path: Path) -> None:
    (tmp_path / "factors.csv").write_text("path,hue,speed\na.mp4,0,3\nb.mp4,1,0\n")
    read = read_factors(tmp_path)
    assert (read.sizes, read.motion) == ({"hue": 2, "speed": 4}, set())


@pytest.mark.parametrize(
    ("text", "description", "said"),
    [
        ("", None, "columns"),
        ("file,hue\na.mp4,1\n", None, "must be path and one or more factors"),
        ("path,hue\n", None, "lists no clips"),
        ("path,hue\na.mp4,1\nb.mp4,1.5\n", None, "row 3: hue '1.5'"),
        ("path,hue\na.mp4,-1\n", None, "row 2: hue '-1'"),
        ("path,hue\na.mp4\n", None, "row 2: 1 columns instead of 2"),
        ("path,hue\na.mp4,1\n", {"sizes": {"hue": 1}, "motion": []}, "hue 1: must be more than 1"),
        ("path,hue\na.mp4,1\n", {"sizes": {"hue": 2}, "motion": ["hew"]}, "did you mean 'hue'"),
        ("path,hue\na.mp4,1\n", {"sizes": {}, "motion": []}, "hue None"),
        ("path,hue\na.mp4,1\n", {"motion": []}, "expected sizes"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(
    tmp_path: Path, text: str, description: dict[str, object] | None, said: str
) -> None:
    (tmp_path / "factors.csv").write_text(text)
    if description is not None:
        (tmp_path / "factors.json").write_text(json.dumps(description))
    with pytest.raises(VidsslError, match=said):
        read_factors(tmp_path)


def test_a_folder_without_factors_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match=r"no factors\.csv in it; expected"):
        read_factors(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "motion"), [({"a": 2}, set()), ({"a": 2, "b": 2}, set()), ({"a": 2, "b": 3}, {"c"})]
)
def test_a_table_that_does_not_fit_itself_is_refused(sizes: dict[str, int], motion: set[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        FactorTable([Path("a")], ["a", "b"], np.array([[1, 2]]), sizes, motion)
