"""Tasks that name what is detected. Two squares change places at once: only looks tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.tracking.layouts.test_mots import runs_of
from tests.evaluation.tracking.run.sources import constant, source, three
from vidssl.evaluation.tracking.layouts import find_sequences
from vidssl.evaluation.tracking.run import track as module
from vidssl.evaluation.tracking.run.many import ManyBoxes, ManyMasks
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.sequence import Lazy, Sequence

COUNT, SIDE = 6, 16
PLACES = ((8, 8), (48, 40))  # (x, y), exchanged from frame 3 on
TRUTH = TrackOptions()


def place(number: int, t: int) -> tuple[int, int]:
    x, y = PLACES[number - 1 if t < 3 else 2 - number]
    return x + 4 * (t % 3), y


def frame(t: int) -> Any:
    image = np.random.default_rng(0).integers(0, 60, (64, 80, 3)).astype(np.uint8)
    for number in (1, 2):
        x, y = place(number, t)
        image[y : y + SIDE, x : x + SIDE] = np.random.default_rng(number).integers(100, 255, (SIDE, SIDE, 3))
    return image


def mask(t: int) -> Any:
    labels = np.zeros((64, 80), np.int64)
    for number in (1, 2):
        x, y = place(number, t)
        labels[y : y + SIDE, x : x + SIDE] = 10 * number
    return labels


def sequence(**changes: Any) -> Sequence:
    rows = [[t, 10 * n, *place(n, t), SIDE, SIDE] for t in range(COUNT) for n in (1, 2)]
    objects = np.array(rows, dtype=np.float64)
    whole = Sequence("s", Lazy(COUNT, frame), objects=objects, masks=Lazy(COUNT, mask))
    return replace(whole, **changes)


@pytest.mark.parametrize("task", [ManyBoxes(TRUTH), ManyMasks(TRUTH)], ids=["boxes", "masks"])
def test_looks_keep_names_where_places_do_not(task: Any) -> None:
    one = sequence()
    [good] = task.score(task.follow(source(), one), one)
    assert good["IDF1"] == good["IDF1 by looks"] == good["HOTA"] == 1 and good["IDSW"] == 0
    plain = {name: task.score(tracked, one)[0] for name, tracked in task.plain(one).items()}
    assert plain["place alone"]["IDF1"] < 0.6
    assert plain["first label copied"]["IDF1"] < 0.7 and "IDF1 by looks" not in plain["place alone"]
    [truth] = task.score(task.truth(one), one)
    assert truth["IDF1"] == truth["HOTA"] == 1


@pytest.mark.parametrize("task", [ManyBoxes(TRUTH), ManyMasks(TRUTH)], ids=["boxes", "masks"])
def test_the_order_of_the_detections_tells_no_names(task: Any) -> None:
    """Where all look the same the names must come out by chance, and not as the truth has them."""
    one = sequence()
    [blind] = task.score(task.follow(source(features=constant), one), one)
    assert blind["IDF1 by looks"] < 0.8 and blind["IDSW"] > 0


def test_masks_come_back_as_they_were_under_other_names() -> None:
    one, task = sequence(), ManyMasks(TRUTH)
    tracked = task.follow(source(), one)
    assert tracked.masks is not None
    for t in range(COUNT):
        found, true = tracked.masks(t), mask(t)
        assert found is not None and np.array_equal(found > 0, true > 0)
        assert {int(found[true == 10][0]), int(found[true == 20][0])} == {1, 2}


def test_an_object_that_leaves_and_comes_back_is_known_again() -> None:
    rows = sequence().objects
    assert rows is not None
    gone = sequence(objects=rows[~((rows[:, 1] == 20) & np.isin(rows[:, 0], (1, 2)))])
    [scores] = ManyBoxes(TRUTH).score(ManyBoxes(TRUTH).follow(source(), gone), gone)
    assert scores["IDSW"] == 0 and scores["FN"] == 0


def test_what_a_sequence_lacks_is_said() -> None:
    boxes, masks = ManyBoxes(TRUTH), ManyMasks(TRUTH)
    assert boxes.lacks(sequence(objects=None)) == "no true boxes of objects"
    assert boxes.lacks(sequence(objects=np.zeros((0, 6)))) == "no true boxes of objects"
    assert ManyBoxes(TrackOptions(detections="given")).lacks(sequence()) == "no detections"
    assert masks.lacks(sequence(masks=None)) == "no masks"
    empty = Lazy(COUNT, lambda t: np.zeros((64, 80), np.int64))
    assert masks.lacks(sequence(masks=empty)) == "masks without an object"
    some = Lazy(COUNT, lambda t: mask(t) if t % 2 else None)
    assert masks.lacks(sequence(masks=some)) == "masks on some frames only"
    detected = ManyMasks(TrackOptions(detections="given"))
    assert detected.lacks(sequence()) == "no detected masks"
    assert detected.lacks(sequence(detected=empty)) == "masks without an object"
    assert detected.lacks(sequence(detected=Lazy(COUNT, mask), masks=None)) is None
    assert detected.unscored(sequence(detected=Lazy(COUNT, mask), masks=None)) == "no masks"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        folder = tmp_path / "data" / name
        (folder / "img1").mkdir(parents=True)
        (folder / "gt").mkdir()
        (folder / "det").mkdir()
        rows = sequence().objects
        assert rows is not None
        for t in range(COUNT):
            Image.fromarray(frame(t)).save(folder / "img1" / f"{t + 1:06d}.png")
        text = [f"{t + 1:.0f},{n:.0f},{x},{y},{w},{h},1,-1,-1,-1" for t, n, x, y, w, h in rows]
        (folder / "gt" / "gt.txt").write_text("\n".join(text))
        found = [f"{t + 1:.0f},-1,{x},{y},{w},{h},0.9" for t, n, x, y, w, h in rows if n == 10]
        (folder / "det" / "det.txt").write_text("\n".join(found))
    return tmp_path / "data"


def test_detections_come_from_where_they_are_said_to(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_sources", lambda checkpoint, options: three())

    def missed(where: Path, detections: str) -> float:
        result = module.track("s", where, "mot", options=TrackOptions(detections=detections))
        return float(result["scores"]["encoder"]["mean"]["FN"])

    assert missed(data, "truth") == 0
    assert missed(data, "given") == COUNT  # the second object was not detected
    assert missed(data / "a", str(data / "a" / "det" / "det.txt")) == COUNT
    (tmp_path / "boxes").mkdir()
    for found in find_sequences(data):
        text = (data / found.name / "det" / "det.txt").read_text().splitlines()
        (tmp_path / "boxes" / f"{found.name}.txt").write_text("\n".join(text[:3]))
    assert missed(data, str(tmp_path / "boxes")) == COUNT + 3
    with pytest.raises(ValueError, match="one file, but 2 sequences; must be a folder"):
        missed(data, str(data / "a" / "det" / "det.txt"))
    (tmp_path / "boxes" / "b.txt").unlink()
    result = module.track("s", data, "mot", options=TrackOptions(detections=str(tmp_path / "boxes")))
    assert [record["path"] for record in result["data"]["failed"]] == ["b"]


def test_detected_masks_come_from_where_they_are_said_to(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_sources", lambda checkpoint, options: three())

    def lines(ids: tuple[int, ...], name: int | None = None) -> str:
        rows = [(t, number) for t in range(COUNT) for number in ids]
        return "\n".join(f"{t + 1} {name or n} 2 64 80 {runs_of(mask(t) == n)}" for t, n in rows)

    for name in ("a", "b"):
        (data / name / "gt" / "gt.txt").write_text(lines((10, 20)))
        (data / name / "det" / "det.txt").write_text(lines((10,)))

    def scores(where: Path, detections: str) -> dict[str, float]:
        result = module.track("s", where, "mots", options=TrackOptions(detections=detections))
        mean: dict[str, float] = result["scores"]["encoder"]["mean"]
        return mean

    assert scores(data, "truth")["FN"] == 0
    assert scores(data, "given")["FN"] == COUNT  # the second object was not detected
    everything = tmp_path / "all.txt"
    everything.write_text(lines((20, 10), name=-1))  # ids of a detector say nothing
    assert scores(data / "a", str(everything)) == scores(data / "a", "truth")
    assert scores(data / "a", str(data / "a" / "det" / "det.txt"))["FN"] == COUNT
    everything.write_text("1,-1,0,0,5,5\n")  # boxes
    with pytest.raises(ValueError, match="a: no detected masks"):
        scores(data / "a", str(everything))


def test_distractors_count_neither_way() -> None:
    one = sequence(others=np.array([[t, 60, 2, SIDE, SIDE, 1] for t in range(COUNT)], dtype=np.float64))
    task = ManyBoxes(TRUTH)
    tracked = task.follow(source(), one)
    rows = np.array([[t, 99, 60, 3, SIDE, SIDE] for t in range(COUNT)], dtype=np.float64)
    assert tracked.objects is not None
    more = replace(tracked, objects=np.concatenate([tracked.objects, rows]))
    assert task.score(more, one)[0]["FP"] == 0
    assert task.score(more, sequence())[0]["FP"] == COUNT
    away = replace(more, objects=np.concatenate([tracked.objects, rows + np.array([0, 0, 0, 14, 0, 0])]))
    assert task.score(away, one)[0]["FP"] == COUNT
