"""CLEAR, IDF1, HOTA and sMOTSA against trackeval, against motmetrics, and by hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.association import (
    clear_mot,
    clear_mots,
    compare_masks,
    hota,
    hota_scores,
    identity_f1,
    identity_scores,
    without_distractors,
)
from vidssl.evaluation.tracking.layouts.tables import DISTRACTORS, OF_MOT20, read_objects, read_others

Rows = np.ndarray


def oracle(name: str, data: dict[str, object], **config: object) -> dict[str, float]:
    trackeval = pytest.importorskip("trackeval")
    metric = getattr(trackeval.metrics, name)
    result = (metric({"PRINT_CONFIG": False, **config}) if name != "HOTA" else metric()).eval_sequence(data)
    return {key: float(np.mean(value)) for key, value in result.items()}


def data_of(true: Rows, tracked: Rows) -> dict[str, object]:
    """What trackeval's metrics take, with its own IoU."""
    trackeval = pytest.importorskip("trackeval")
    frames = sorted({*true[:, 0], *tracked[:, 0]})
    numbers = [{x: i for i, x in enumerate(sorted(set(rows[:, 1])))} for rows in (true, tracked)]
    parts: list[list[np.ndarray]] = [[], [], []]
    for frame in frames:
        here = [rows[rows[:, 0] == frame] for rows in (true, tracked)]
        for part, rows, number in zip(parts, here, numbers, strict=False):
            part.append(np.array([number[x] for x in rows[:, 1]], dtype=int))
        iou = trackeval.datasets._base_dataset._BaseDataset._calculate_box_ious(
            here[0][:, 2:], here[1][:, 2:], box_format="xywh"
        )
        parts[2].append(iou if iou.size else np.zeros((len(here[0]), len(here[1]))))
    return _data(*parts)


def _data(true: list[np.ndarray], tracked: list[np.ndarray], iou: list[np.ndarray]) -> dict[str, object]:
    return {
        "num_timesteps": len(iou),
        "num_gt_ids": len({x for ids in true for x in ids}),
        "num_tracker_ids": len({x for ids in tracked for x in ids}),
        "num_gt_dets": sum(map(len, true)),
        "num_tracker_dets": sum(map(len, tracked)),
        "gt_ids": true,
        "tracker_ids": tracked,
        "similarity_scores": iou,
    }


def assert_agrees(true: Rows, tracked: Rows) -> dict[str, float]:
    data = data_of(true, tracked)
    ours = {**clear_mot(true, tracked), **identity_f1(true, tracked), **hota(true, tracked)}
    clear, names, higher = oracle("CLEAR", data), oracle("Identity", data), oracle("HOTA", data)
    theirs = {
        **{key: clear[key] for key in ("MOTA", "MOTP", "IDSW")},
        **{key: clear[f"CLR_{key}"] for key in ("FP", "FN")},
        **{key: names[key] for key in ("IDF1", "IDP", "IDR", "IDTP", "IDFP", "IDFN")},
        **{key: higher[key] for key in ("HOTA", "DetA", "AssA")},
    }
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, abs=1e-9), key
    return ours


def scene(seed: int, keep: float = 0.8, swap: float = 0.4) -> tuple[Rows, Rows]:
    """Objects that walk, and a tracker that misses some, invents some, wobbles, and takes one for another."""
    generator = np.random.default_rng(seed)
    start = generator.uniform(0, 30, (5, 2))
    name = np.arange(5) + 100
    true, tracked = [], []
    for t in range(12):
        if generator.random() < swap:
            pair = generator.permutation(5)[:2]
            name[pair] = name[pair[::-1]]
        for i in range(5):
            box = np.array([*(start[i] + t * generator.uniform(0, 2, 2)), 12.0, 20.0])
            if generator.random() < keep:
                true.append([t, 7 * i - 3, *box])
            if generator.random() < keep:
                tracked.append([t, name[i], *(box + generator.normal(0, 1.5, 4))])
        if generator.random() < 0.5:
            tracked.append([t, 999, *generator.uniform(5, 40, 4)])
    return generator.permutation(np.array(true)), generator.permutation(np.array(tracked))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("benchmark", ["MOT17", "MOT20"])
def test_distractors_are_taken_away_as_in_trackeval(seed: int, benchmark: str, tmp_path: Path) -> None:
    """Files of MOTChallenge through its own preprocessing, and through ours."""
    trackeval = pytest.importorskip("trackeval")
    generator = np.random.default_rng(100 + seed)
    true, tracked = scene(seed, keep=0.9)
    name = f"{benchmark}-02"
    kinds = dict(zip(np.unique(true[:, 1]), generator.choice([1, 1, 2, 3, 6, 7, 8, 12], 5), strict=True))
    counted = generator.random(len(true)) < 0.9
    rows = [
        [row[0] + 1, row[1] + 10, *row[2:], int(kinds[row[1]] == 1 and one), kinds[row[1]], 1]
        for row, one in zip(true, counted, strict=True)
    ]
    found = [[row[0] + 1, row[1], *row[2:], 1, -1, -1, -1] for row in tracked]
    for folder, table in (("gt/" + name + "/gt/gt.txt", rows), ("results/ours/data/" + name + ".txt", found)):
        file = tmp_path / folder
        file.parent.mkdir(parents=True)
        file.write_text("".join(",".join(f"{x:.17g}" for x in row) + "\n" for row in table))
    data = trackeval.datasets.MotChallenge2DBox(
        {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "results"), "BENCHMARK": benchmark,
         "SEQ_INFO": {name: 12}, "SKIP_SPLIT_FOL": True, "PRINT_CONFIG": False}
    )  # fmt: skip
    raw = data.get_raw_seq_data("ours", name)
    theirs = data.get_preprocessed_seq_data(raw, "pedestrian")
    file = tmp_path / "gt" / name / "gt" / "gt.txt"
    own = read_objects(file)
    others = read_others(file, DISTRACTORS | (OF_MOT20 if benchmark == "MOT20" else set()))
    left = without_distractors(own, others, tracked)
    assert len(left) == theirs["num_tracker_dets"]
    assert len(own) == theirs["num_gt_dets"]
    clear, names, higher = oracle("CLEAR", theirs), oracle("Identity", theirs), oracle("HOTA", theirs)
    ours = {**clear_mot(own, left), **identity_f1(own, left), **hota(own, left)}
    for key, value in {"MOTA": clear["MOTA"], "IDSW": clear["IDSW"], "FP": clear["CLR_FP"], "FN": clear["CLR_FN"],
                       "IDF1": names["IDF1"], "HOTA": higher["HOTA"]}.items():  # fmt: skip
        assert ours[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize("seed", range(12))
def test_all_scores_are_those_of_trackeval(seed: int) -> None:
    true, tracked = scene(seed, keep=(0.5, 0.8, 1.0)[seed % 3], swap=(0.0, 0.4, 0.8)[seed % 3])
    ours = assert_agrees(true, tracked)
    assert 0 < ours["HOTA"] < 1 and ours["IDTP"] > 0


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_and_on_few_boxes_of_whole_numbers(data: st.DataObject) -> None:
    """Frames that lack either side, sides that lack everything, boxes that coincide."""
    cell = st.tuples(st.integers(0, 3), st.integers(0, 2))
    sides = []
    for _ in range(2):
        keys = data.draw(st.lists(cell, unique=True, max_size=8))
        boxes = [data.draw(st.tuples(*[st.floats(0, 3)] * 2, *[st.floats(1, 4)] * 2)) for _ in keys]
        sides.append(
            np.array([[*key, *box] for key, box in zip(keys, boxes, strict=True)], dtype=float).reshape(-1, 6)
        )
    assert_agrees(*sides)


def without(rows: Rows, frames: set[int]) -> Rows:
    return rows[~np.isin(rows[:, 0], list(frames))]


def test_frames_without_truth_or_without_tracks() -> None:
    true, tracked = scene(3)
    nothing = np.zeros((0, 6))
    assert_agrees(without(true, {0, 4, 5}), tracked)
    assert_agrees(true, without(tracked, {0, 4, 5}))
    assert_agrees(without(true, {2, 3}), without(tracked, {3, 4}))
    assert assert_agrees(true, nothing)["FN"] == len(true)
    assert assert_agrees(nothing, tracked)["FP"] == len(tracked)
    assert set(assert_agrees(nothing, nothing).values()) == {0}


def tud(name: str) -> tuple[Rows, Rows]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        motmetrics = pytest.importorskip("motmetrics")
    folder = Path(motmetrics.__file__).parent / "data" / name
    true, tracked = (np.loadtxt(folder / f"{x}.txt", delimiter=",") for x in ("gt", "test"))
    return true[:, :6], tracked[:, :6]


@pytest.mark.parametrize(
    ("name", "mota", "idf1", "higher"),
    [("TUD-Campus", 0.5265, 0.5577, 0.3914), ("TUD-Stadtmitte", 0.5640, 0.6446, 0.3979)],
)
def test_real_tracks_score_as_in_the_libraries(name: str, mota: float, idf1: float, higher: float) -> None:
    true, tracked = tud(name)
    ours = assert_agrees(true, tracked)
    assert (ours["MOTA"], ours["IDF1"], ours["HOTA"]) == pytest.approx((mota, idf1, higher), abs=1e-4)


@pytest.mark.parametrize("name", ["TUD-Campus", "TUD-Stadtmitte"])
def test_motmetrics_agrees_on_real_tracks(name: str) -> None:
    true, tracked = tud(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        motmetrics = pytest.importorskip("motmetrics")
        accumulator = motmetrics.MOTAccumulator()
        data = data_of(true, tracked)
        for t, ids in enumerate(data["gt_ids"]):  # type: ignore[arg-type, var-annotated]
            iou = data["similarity_scores"][t]  # type: ignore[index]
            distances = np.where(iou >= 0.5, 1 - iou, np.nan)
            accumulator.update(ids, data["tracker_ids"][t], distances, frameid=t)  # type: ignore[index]
        names = ["mota", "idf1", "num_switches", "num_false_positives", "num_misses"]
        theirs = motmetrics.metrics.create().compute(accumulator, metrics=names).iloc[0]
    ours = {**clear_mot(true, tracked), **identity_f1(true, tracked)}
    for key, name in zip(("MOTA", "IDF1", "IDSW", "FP", "FN"), names, strict=True):
        assert ours[key] == pytest.approx(float(theirs[name]), abs=1e-9), key


def test_scores_by_hand() -> None:
    """One object of 4 frames; one track for 2 of them, another for 1, none for 1; one track elsewhere."""
    box = [0, 0, 10, 10]
    true = [[t, 1, *box] for t in range(4)]
    tracked = [[0, 5, *box], [1, 5, *box], [3, 6, 0, 0, 10, 8], [3, 5, 50, 50, 10, 10]]
    clear, names = clear_mot(true, tracked), identity_f1(torch.tensor(true), torch.tensor(tracked))
    assert clear == pytest.approx({"MOTA": 1 - 3 / 4, "MOTP": 2.8 / 3, "FP": 1, "FN": 1, "IDSW": 1})
    assert names == pytest.approx({"IDF1": 0.5, "IDP": 0.5, "IDR": 0.5, "IDTP": 2, "IDFP": 2, "IDFN": 2})
    pairs = np.where(np.arange(1, 20) / 20 <= 0.8 + 1e-9, 3, 2)
    detection = pairs / (8 - pairs)
    association = np.where(pairs == 3, (2 * 2 / 5 + 1 / 4) / 3, 2 / 5)
    expected = {
        "HOTA": np.sqrt(detection * association).mean(),
        "DetA": detection.mean(),
        "AssA": association.mean(),
    }
    assert hota(true, tracked) == pytest.approx(expected)


def test_identity_is_what_shuffled_names_lose() -> None:
    true, _ = scene(1, keep=1.0)
    assert hota(true, true)["HOTA"] == pytest.approx(1)
    assert clear_mot(true, true)["MOTA"] == identity_f1(true, true)["IDF1"] == 1
    shuffled = true.copy()
    generator = np.random.default_rng(0)
    for t in set(true[:, 0]):
        here = shuffled[:, 0] == t
        shuffled[here, 1] = generator.permutation(shuffled[here, 1])
    scores = {**hota(true, shuffled), **identity_f1(true, shuffled), **clear_mot(true, shuffled)}
    assert scores["DetA"] == pytest.approx(1)
    assert scores["AssA"] < 0.4 and scores["IDF1"] < 0.5 and scores["MOTA"] < 0.5


@pytest.mark.parametrize("broken", [[np.nan] * 4, [0, 0, 0, 10], [0, 0, 10, -1], [np.inf, 0, 10, 10]])
def test_a_true_box_that_is_none_is_missed(broken: list[float]) -> None:
    rows = [[0, 1, 0, 0, 10, 10], [1, 1, *broken]]
    clear = clear_mot(rows, rows)
    assert (clear["FN"], clear["FP"], clear["MOTA"]) == (1, 1, 0)
    assert identity_f1(rows, rows)["IDTP"] == 1
    assert hota(rows, rows)["DetA"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0, 1, 0, 0, 1, 1], [0, 1, 5, 5, 1, 1]], "id 1 stands twice in frame 0: must be once"),
        ([[0, np.nan, 0, 0, 1, 1]], "a frame or an id is not finite"),
        ([[0, 1, 0, 0, 1]], r"rows of shape \(1, 5\): must be \(N, 6\)"),
        ([0, 1, 0, 0, 1, 1], r"rows of shape \(6,\): must be \(N, 6\)"),
    ],
)
def test_rows_that_are_none_are_named(rows: list[list[float]], said: str) -> None:
    good = [[0, 1, 0, 0, 1, 1]]
    for score in (clear_mot, identity_f1, hota):
        with pytest.raises(
            VidsslError, match="true rows?.*" + said if "shape" not in said else "true " + said
        ):
            score(rows, good)
        with pytest.raises(VidsslError, match="tracked"):
            score(good, rows)


def label_maps(seed: int, frames: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles of four objects, the later in front, and the same moved a little with two names changed."""
    generator = np.random.default_rng(seed)
    true, tracked = np.zeros((2, frames, 24, 32), dtype=np.int64)
    for t in range(frames):
        for i in range(4):
            if generator.random() < 0.2:
                continue
            y, x = 4 * i + t % 3, 6 * i
            true[t, y : y + 8, x : x + 9] = 1001 + i
            name = 2001 + (i if t < 4 or i > 1 else 1 - i)
            dy, dx = generator.integers(0, 3, 2)
            tracked[t, y + dy : y + 8, x + dx : x + 9] = name
    return true, tracked


def masks_for_trackeval(true: np.ndarray, tracked: np.ndarray) -> dict[str, object]:
    parts: list[list[np.ndarray]] = [[], [], []]
    for a, b in zip(true, tracked, strict=True):
        ids = [[x for x in np.unique(labels) if x] for labels in (a, b)]
        parts[0].append(np.array([x - 1001 for x in ids[0]], dtype=int))
        parts[1].append(np.array([x - 2001 for x in ids[1]], dtype=int))
        iou = [[((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum() for j in ids[1]] for i in ids[0]]
        parts[2].append(np.array(iou, dtype=float).reshape(len(ids[0]), len(ids[1])))
    return _data(*parts)


@pytest.mark.parametrize("seed", range(4))
def test_masks_score_as_in_trackeval(seed: int) -> None:
    true, tracked = label_maps(seed)
    data = masks_for_trackeval(true, tracked)
    clear, names, higher = oracle("CLEAR", data), oracle("Identity", data), oracle("HOTA", data)
    ours = clear_mots(true, list(torch.from_numpy(tracked)))
    theirs = {"sMOTSA": clear["sMOTA"], "MOTSA": clear["MOTA"], "MOTSP": clear["MOTP"], "FP": clear["CLR_FP"]}
    assert ours == pytest.approx({**theirs, "FN": clear["CLR_FN"], "IDSW": clear["IDSW"]}, abs=1e-9)
    assert ours["sMOTSA"] < ours["MOTSA"]
    comparison = compare_masks(true, tracked)
    assert identity_scores(comparison)["IDF1"] == pytest.approx(names["IDF1"], abs=1e-9)
    for key, value in hota_scores(comparison).items():
        assert value == pytest.approx(higher[key], abs=1e-9)


def test_what_lies_in_a_region_of_many_is_not_wrong() -> None:
    true, tracked = np.zeros((2, 1, 10, 20), dtype=np.int64)
    true[0, :, 10:] = 10_000
    true[0, :4, :4] = 1
    tracked[0, :4, :4] = 7
    tracked[0, 6:, 12:16] = 8  # inside of the region
    tracked[0, 6:, 6:12] = 9  # a third inside
    assert clear_mots(true, tracked, ignore=10_000) == {
        "sMOTSA": 0,
        "MOTSA": 0,
        "MOTSP": 1,
        "FP": 1,
        "FN": 0,
        "IDSW": 0,
    }
    assert clear_mots(true, tracked)["FP"] == 2


def test_empty_masks_and_masks_that_do_not_match() -> None:
    true, tracked = label_maps(0)
    nothing = np.zeros_like(true)
    assert clear_mots(true, nothing)["FN"] == sum(len(np.unique(x)) - 1 for x in true)
    assert clear_mots(nothing, nothing) == {"sMOTSA": 0, "MOTSA": 0, "MOTSP": 0, "FP": 0, "FN": 0, "IDSW": 0}
    assert clear_mots([], [])["FN"] == 0
    with pytest.raises(VidsslError, match="8 frames of true masks, 7 of tracked ones: must be as many"):
        clear_mots(true, tracked[:7])
    with pytest.raises(
        VidsslError, match=r"frame 0: true mask of \(24, 32\), tracked one of \(24, 16\) pixels"
    ):
        clear_mots(true, tracked[:, :, :16])
