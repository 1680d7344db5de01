"""Results side by side: what may be compared, by how much it differs, and what is refused."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from vidssl.errors import VidsslError
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.results.schema import mistake
from vidssl.evaluation.side_by_side.compare import _letter, compare
from vidssl.evaluation.side_by_side.pairs import Right, holm, paired, right_of
from vidssl.evaluation.side_by_side.show import notes, table_rows, write_comparison

TRUTH = [0, 1] * 20


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from vidssl.evaluation import EvalOptions, knn
    from vidssl.synthetic.motions import write_sprite_dataset

    root = tmp_path_factory.mktemp("videos")
    write_sprite_dataset(root, ("growing", "moving_up"), 2, 1, frames=4, size=16)
    options = EvalOptions(clips=1, workers=0, frames=2, size=16, device="cpu", cache=False)
    return json.loads(json.dumps(knn("conv3d/small", root / "train", root / "val", k=[1], options=options)))


@pytest.fixture
def write(found: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Writes a result of 40 videos, of which an encoder gets all but the `wrong` ones right."""

    def make(
        name: str, wrong: set[int] = frozenset(), groups: Any = None, order: Any = None, **changes: Any
    ) -> Path:
        result = copy.deepcopy(found) | {"checkpoint": name} | changes
        places = list(order or range(len(TRUTH)))
        answered = [TRUTH[i] if i not in wrong else 1 - TRUTH[i] for i in places]
        result["answers"] = {
            "videos": [f"{i}.mp4" for i in places],
            "truth": [TRUTH[i] for i in places],
            "answered": {"trained, k = 1": answered},
        } | ({} if groups is None else {"groups": [groups[i] for i in places]})
        score = result["scores"]["trained, k = 1"]
        score["top1"], score["correct"], score["total"] = (
            1 - len(wrong) / len(TRUTH),
            len(TRUTH) - len(wrong),
            len(TRUTH),
        )
        for key in ("protocol", "schema", "random_weights"):  # as of an encoder with weights
            result.pop(key)
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(sealed(result)))
        return file

    return make


def test_two_encoders_on_the_same_videos_are_paired_by_name(write, tmp_path):
    first = write("first", set(range(10)))
    second = write("second", {0, 30}, order=reversed(range(40)))  # the list in another order
    record = compare([first, second])
    assert mistake(record) is None and record["not_comparable"] == []
    [one] = record["comparisons"]
    assert (one["of"], one["to"], one["row"], one["over"]) == (
        "second",
        "first",
        "trained, k = 1",
        "40 videos",
    )
    assert one["difference"] == pytest.approx(8 / 40)
    assert (one["only_first"], one["only_second"]) == (9, 1)
    assert one["p"] == pytest.approx(binomtest(1, 10).pvalue, rel=1e-9) == one["p_holm"]
    made = write_comparison(record, tmp_path / "out")
    assert [file.name for file in made] == ["compare.json", "compare.csv", "compare.png"]
    with made[1].open(newline="") as stream:
        reference, row = csv.DictReader(stream)
    assert reference["difference"] == "" and float(row["difference"]) == pytest.approx(0.2)
    assert (row["result"], row["protocol"], float(row["value"])) == ("second", "A", 0.95)
    with Image.open(made[2]) as picture:
        assert picture.size[0] > 500


def test_numbers_of_different_protocols_are_not_compared(write):
    first, second = write("first", {1}), write("second", {2})
    other = write("other", {3}, decoder="decord", temperature=0.5)
    record = compare([first, other, second])
    assert [one["protocol"] for one in record["results"]] == ["A", "B", "A"]
    assert [(one["of"], one["to"]) for one in record["comparisons"]] == [("second", "first")]
    [pair] = record["not_comparable"]
    assert pair["differences"]["temperature"] == [0.5, 0.07] and set(pair["differences"]) == {
        "temperature",
        "decoder",
    }
    assert any("B is not comparable with A: decoder: decord instead of" in line for line in notes(record))
    assert [row["difference"] for row in table_rows(record) if "difference" in row] == [0.0]


def test_of_another_task_nothing_else_is_said(write):
    record = compare([write("first", {1}), write("other", {3}, temperature=0.5)])
    record["not_comparable"][0]["differences"]["task"] = ["linear-probe", "knn"]
    [line] = [line for line in notes(record) if "not comparable" in line]
    assert line == "B is not comparable with A: linear-probe is another task than knn"


def test_groups_widen_the_interval(write):
    """Ten recordings of four videos; one encoder fails on whole recordings."""
    groups = [f"recording {i // 4}" for i in range(40)]
    alone = compare([write("a", set(range(8))), write("b")])["comparisons"][0]
    together = compare([write("a", set(range(8)), groups), write("b", (), groups)])["comparisons"][0]
    assert together["over"] == "10 groups" and together["difference"] == alone["difference"]
    low, high = together["interval"]
    assert high - low > 1.4 * (alone["interval"][1] - alone["interval"][0])


def test_what_does_not_say_what_was_answered_is_compared_without_a_test(write):
    first, second = write("first"), write("second", {1})
    result = json.loads(second.read_text())
    del result["answers"]
    second.write_text(json.dumps(result))
    record = compare([first, second])
    assert "difference" not in record["comparisons"][0]
    assert any("no paired test" in line for line in notes(record))


def test_what_cannot_be_compared_is_refused(write, tmp_path):
    first = write("first")
    (tmp_path / "note.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    for files, said in (
        ([first], "at least two"),
        ([first, first], "is given twice"),
        ([first, tmp_path / "gone.json"], "no such file"),
        ([first, tmp_path / "note.json"], "is no result of vidssl"),
        ([first, tmp_path / "broken.json"], "cannot be read as JSON"),
    ):
        with pytest.raises(VidsslError, match=said) as caught:
            compare(files)
        assert "\n" not in str(caught.value)
    with pytest.raises(VidsslError, match="rows nothing: no result has them"):
        compare([first, write("second")], ["nothing"])
    record = compare([first, write("second")], ["untrained, k = 1", "motion energy, k = 1"])
    assert list(record["results"][0]["scores"]) == ["motion energy, k = 1"]


def test_results_of_one_encoder_have_names_of_their_own(write):
    first, second = write("first"), write("second", checkpoint="first")
    assert [one["label"] for one in compare([first, second])["results"]] == [
        "first (first)",
        "first (second)",
    ]


def of(right: str, videos: list[tuple[int, str]]) -> Right:
    return Right(tuple(videos), torch.tensor([x == "1" for x in right]), ())


def test_other_videos_are_not_paired():
    here, there = [(0, "a"), (0, "b")], [(0, "a"), (0, "c")]
    assert paired(of("10", here), of("01", there)) is None
    assert paired(of("10", here), of("0", here[:1])) is None
    assert paired(of("", []), of("", [])) is None


def test_videos_that_recur_in_splits_are_groups_and_have_no_test():
    def result(rows: list[list[int]]) -> Mapping[str, Any]:
        return {"splits": [{"answers": {"videos": ["a", "b"], "right": {"trained": row}}} for row in rows]}

    first, second = (
        right_of(result([[0, 0], [0, 1]]), "trained"),
        right_of(result([[1, 0], [1, 1]]), "trained"),
    )
    assert first is not None and second is not None and first.groups == ("a", "b", "a", "b")
    record = paired(second, first)
    assert record is not None and record["p"] is None
    assert record["difference"] == 0.5 and record["over"] == "2 groups"
    assert record["interval"] == (0.0, 1.0)
    assert right_of({"splits": [{}, {}]}, "trained") is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == []


def test_letters_go_on():
    assert [_letter(n) for n in (0, 25, 26, 51, 52)] == ["A", "Z", "AA", "AZ", "BA"]


def test_the_command(vidssl, write, tmp_path):
    from tests.command_line import one_line

    first, second = write("first", set(range(6))), write("second", {7})
    code, out, _ = vidssl("compare", first, second, "--output", tmp_path / "out")
    assert code == 0 and "+12.5 [" in out and "A: knn on" in out
    assert "compare.json, compare.csv, compare.png" in out
    (tmp_path / "note.json").write_text("[]")
    said = one_line(*vidssl("compare", first, tmp_path / "note.json", "--output", tmp_path / "new"))
    assert "note.json" in said and not (tmp_path / "new").exists()
