"""Names over time: looks that tell objects apart, looks that do not, and the life of a track, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.association import (
    RULES,
    Detections,
    Tracked,
    clear_mot,
    clear_mots,
    hota,
    identity_f1,
    track_objects,
)
from vidssl.evaluation.tracking.many_objects.life import Tracks

STRIDE = 8
# Cells of a frame.
SIZE = (20, 30)
Boxes = dict[int, Sequence[float]]


def colours(boxes: Boxes, random: torch.Generator | None = None) -> Tensor:
    """Features (8, h, w) of a frame: one for each object, or at random, on a ground of its own."""
    cells = torch.zeros(8, *SIZE)
    cells[0] = 1
    for identity, (x, y, w, h) in boxes.items():
        region = cells[:, int(y // 8) : int(-(-(y + h) // 8)) + 1, int(x // 8) : int(-(-(x + w) // 8)) + 1]
        region[:] = torch.eye(8)[identity][:, None, None]
    return cells if random is None else torch.randn(8, *SIZE, generator=random)


def run(
    video: Sequence[Boxes], task: str = "mot", shuffle: bool = True, random: int | None = None, **options: Any
) -> tuple[Tracked, np.ndarray]:
    """Track the video's boxes, in another order in every frame; and the truth."""
    generator = np.random.default_rng(0)
    noise = None if random is None else torch.Generator().manual_seed(random)
    detections, truth = [], []
    for t, boxes in enumerate(video):
        names = list(generator.permutation(list(boxes))) if shuffle else list(boxes)
        found = np.array([boxes[int(i)] for i in names], dtype=float).reshape(-1, 4)
        truth += [[t, i, *boxes[int(i)]] for i in names]
        detections.append(Detections(masks=masks_of(found)) if task == "mots" else Detections(boxes=found))
    features = [colours(boxes, noise) for boxes in video]
    return track_objects(features, detections, STRIDE, task, **options), np.array(truth).reshape(-1, 6)


def parallel(steps: int = 20) -> list[Boxes]:
    """Three objects that never meet."""
    return [
        {1: (40 + 2 * t, 16, 32, 48), 2: (120 - 2 * t, 80, 32, 48), 3: (180, 20, 48, 32)}
        for t in range(steps)
    ]


def masks_of(boxes: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(boxes), SIZE[0] * STRIDE, SIZE[1] * STRIDE), dtype=bool)
    for mask, (x, y, w, h) in zip(masks, boxes.astype(int), strict=True):
        mask[y : y + h, x : x + w] = True
    return masks


def crossing(steps: int = 20) -> list[Boxes]:
    """Three objects that walk past each other at 8 pixels a frame, two of them through one another."""
    return [
        {1: (8 + 8 * t, 16, 32, 48), 2: (192 - 8 * t, 24, 32, 48), 3: (96, 96, 48, 32)} for t in range(steps)
    ]


def scores(tracked: Tracked, truth: np.ndarray) -> dict[str, float]:
    return {**clear_mot(truth, tracked.rows), **identity_f1(truth, tracked.rows), **hota(truth, tracked.rows)}


def test_looks_that_tell_objects_apart_keep_their_names() -> None:
    video = [
        boxes for t, boxes in enumerate(crossing()) if t not in range(9, 13)
    ]  # not while one covers the other
    tracked, truth = run(video, overlap=False)
    result = scores(tracked, truth)
    assert (result["IDF1"], result["IDSW"], result["MOTA"]) == (1, 0, 1)
    assert result["HOTA"] == pytest.approx(1)
    assert tracked.left_out.shape == (0, 2)


def test_looks_that_do_not_lose_them_and_places_hide_it() -> None:
    bad = scores(*run(parallel(), random=1, overlap=False))
    assert bad["IDF1"] < 0.7 and bad["AssA"] < 0.5
    assert bad["DetA"] == pytest.approx(1)  # what was detected is known: names alone are asked for
    _, truth = run(parallel(), shuffle=False)
    detections = [Detections(boxes=truth[truth[:, 0] == t, 2:]) for t in range(20)]
    nothing = [torch.zeros(8, *SIZE)] * 20
    hidden, bare = (track_objects(nothing, detections, STRIDE, overlap=overlap) for overlap in (True, False))
    assert scores(hidden, truth)["IDF1"] == 1
    assert scores(bare, truth)["IDF1"] == pytest.approx(1 / 20)  # a new name in every frame


def test_each_row_says_which_detection_it_is() -> None:
    video = crossing(8)
    tracked, truth = run(video)
    for (frame, _, *box), which in zip(tracked.rows, tracked.detections, strict=True):
        here = truth[truth[:, 0] == frame]
        np.testing.assert_array_equal(here[which, 2:], box)
    assert tracked.rows[:, 0].tolist() == sorted(tracked.rows[:, 0])


def ids(tracked: Tracked, frame: int) -> list[int]:
    return tracked.rows[tracked.rows[:, 0] == frame, 1].astype(int).tolist()


HERE: Boxes = {1: (40, 40, 32, 48)}


def test_a_lost_object_comes_back_within_a_second() -> None:
    for gap, same in ((10, True), (11, False)):
        video = [HERE, *[{} for _ in range(gap)], {1: (160, 40, 32, 48)}, {1: (160, 40, 32, 48)}]
        tracked, _ = run(video, "mots", frame_rate=10)
        assert ids(tracked, 0) == [1]
        assert ids(tracked, gap + 1) == ([1] if same else [2]), gap


def test_a_box_that_appears_later_must_be_seen_twice() -> None:
    late: Boxes = {**HERE, 2: (160, 40, 32, 48)}
    tracked, _ = run([HERE, late, late], "mot")
    assert [len(ids(tracked, t)) for t in range(3)] == [1, 1, 2]
    once, _ = run([HERE, late, HERE, late, HERE, HERE], "mot")
    assert [ids(once, t) for t in range(6)] == [[1]] * 6
    for options in ({"task": "mots"}, {"task": "mot", "overlap": False}):
        at_once, _ = run([HERE, late, late], **options)  # type: ignore[arg-type]
        assert [len(ids(at_once, t)) for t in range(3)] == [1, 2, 2], options


def test_a_track_that_is_not_recognised_is_found_where_it_is_expected() -> None:
    """Its looks change altogether: it is found in the frame after, but not after a gap."""
    there, nowhere = Detections(boxes=[HERE[1]]), Detections(boxes=np.zeros((0, 4)))
    looks = [colours({k: HERE[1]}) for k in (1, 2, 3)]
    assert track_objects(looks, [there] * 3, STRIDE).rows[:, 1].tolist() == [1, 1, 1]
    assert track_objects(looks, [there] * 3, STRIDE, overlap=False).rows[:, 1].tolist() == [1, 2, 3]
    moved = [there, Detections(boxes=[(40 + 24, 40, 32, 48)])]  # an IoU of 1/7
    assert ids(track_objects([looks[0], colours({2: (64, 40, 32, 48)})], moved, STRIDE), 1) == []
    assert track_objects(looks, [there, nowhere, there], STRIDE).rows[:, 0].tolist() == [0]


def test_motion_shuts_out_the_improbable() -> None:
    """Looks change places far apart; with gate and weight each stays at its place."""
    video = [{1: (24, 24, 32, 48), 2: (180, 96, 32, 48)}] * 4 + [{2: (24, 24, 32, 48), 1: (180, 96, 32, 48)}]
    free, _ = run(video, shuffle=False, overlap=False)
    assert ids(free, 4) == [1, 2] and free.rows[-2, 2] == 180
    gated, _ = run(video, shuffle=False, gate=True, weight=0.98)
    assert ids(gated, 4) == [1, 2] and gated.rows[-2, 2] == 24


def test_the_looks_that_count_are_the_last_ones() -> None:
    """Two objects exchange their looks little by little, and in between look alike to what they were."""
    boxes = [HERE[1], (160, 40, 32, 48)]
    looks = []
    for angle in np.linspace(0, np.pi / 2, 16):
        cells = torch.zeros(8, *SIZE)
        cells[1:3] = torch.tensor([np.cos(angle), np.sin(angle)])[:, None, None]
        cells[1:3, :, 15:] = torch.tensor([-np.sin(angle), np.cos(angle)])[:, None, None]
        looks.append(cells)
    rows = track_objects(looks, [Detections(boxes=boxes)] * 16, STRIDE, overlap=False).rows
    assert rows[-2:, 1].tolist() == [1, 2]


def test_a_lost_track_goes_on_but_does_not_grow() -> None:
    tracks = Tracks(RULES["mots"], weight=1, gate=False, overlap=True, patience=30, temperature=100)
    looks = [torch.ones(4, 3)]
    for t in range(15):
        tracks.step(t, looks, np.array([[40.0 + 2 * t, 40, 32 + 2 * t, 48 + 3 * t]]), np.ones(1))
    states = []
    for t in range(15, 19):
        assert tracks.step(t, [], np.zeros((0, 4)), np.zeros(0)) == []
        states.append(tracks._alive[0].mean)
    heights, places = (np.diff([state[k] for state in states]) for k in (3, 0))
    np.testing.assert_allclose(heights, 0, atol=1e-9)
    np.testing.assert_allclose(places, 3, atol=0.2)  # its middle moves by 2 + 1 pixels a frame


def test_a_lost_track_where_another_is_seen_is_dropped() -> None:
    """A newcomer stands where a lost track is expected: the one that lived for longer goes on."""
    there, nowhere = (
        Detections(masks=masks_of(np.array([HERE[1]]))),
        Detections(masks=np.zeros((0, 160, 240))),
    )
    detections = [there, there, nowhere, there, there]
    looks = [colours({k: HERE[1]}) for k in (1, 1, 1, 2, 1)]
    rows = track_objects(looks, detections, STRIDE, "mots").rows
    assert rows[:, :2].tolist() == [[0, 1], [1, 1], [4, 1]]
    rows = track_objects(looks, detections, STRIDE, "mots", overlap=False).rows
    assert rows[:, :2].tolist() == [[0, 1], [1, 1], [3, 2], [4, 1]]
    # Object 2 walks to where the short-lived object 1 was lost: 1 is forgotten, and has a new name when it comes back.
    video = [{1: (120, 40, 32, 48), 2: (120 - 24 * (5 - t), 40, 32, 48)} for t in range(6)]
    video = [boxes if t < 1 else {2: boxes[2]} for t, boxes in enumerate(video)]
    video.append({1: (40, 100, 32, 48), 2: (144, 40, 32, 48)})
    for overlap, name in ((True, 3), (False, 1)):
        tracked, _ = run(video, "mots", shuffle=False, overlap=overlap)
        assert ids(tracked, 6)[-1 if overlap else 0] == name
        assert len(ids(tracked, 6)) == 2


def test_unsure_detections_begin_nothing_but_go_on() -> None:
    detections = [Detections(boxes=[HERE[1]], scores=[s]) for s in (0.4, 0.9, 0.1, 0.9)]
    rows = track_objects([colours(HERE)] * 4, detections, STRIDE, "mot", overlap=False).rows
    assert rows[:, 0].tolist() == [1, 2, 3]
    assert set(rows[:, 1]) == {1}


def test_masks_are_tracked_and_painted() -> None:
    video = parallel()
    tracked, truth = run(video, "mots", overlap=False)
    detections = [Detections(masks=masks_of(truth[truth[:, 0] == t, 2:])) for t in range(len(video))]
    maps = tracked.label_maps(detections, (SIZE[0] * STRIDE, SIZE[1] * STRIDE))
    true = []
    for t, found in enumerate(detections):
        labels = np.zeros(maps[0].shape, dtype=int)
        for name, mask in zip(truth[truth[:, 0] == t, 1], found.masks, strict=True):
            labels[mask] = name
        true.append(labels)
    result = clear_mots(true, maps)
    assert result["sMOTSA"] == 1 and result["IDSW"] == 0


def test_a_mask_that_is_there_twice_counts_once() -> None:
    masks = masks_of(np.array([[40, 40, 32, 48], [40, 40, 30, 48], [160, 40, 32, 48]]))
    looks = colours({1: (40, 40, 32, 48), 2: (160, 40, 32, 48)})
    tracked = track_objects([looks], [Detections(masks=masks, scores=[0.6, 0.9, 0.9])], STRIDE, "mots")
    assert tracked.detections.tolist() == [1, 2]
    assert tracked.left_out.tolist() == [[0, 0]]


def test_poses_are_tracked_by_their_bodies() -> None:
    video = [boxes for t, boxes in enumerate(crossing()) if t not in range(9, 13)]
    generator = np.random.default_rng(0)
    detections, truth = [], []
    for t, boxes in enumerate(video):
        points, names = [], generator.permutation(list(boxes))
        for i in names:
            x, y, w, h = boxes[int(i)]
            points.append(
                [[x + 4, y + 4], [x + w - 4, y + 4], [x + w / 2, y + h / 2], [x + 4, y + h - 4], [-1, -1]]
            )
        detections.append(Detections(points=points))
        truth += [[t, name, *box] for name, box in zip(names, detections[-1].boxes, strict=True)]
    tracked = track_objects(map(colours, video), detections, STRIDE, "pose", overlap=False)
    assert identity_f1(truth, tracked.rows)["IDF1"] == 1


def test_what_cannot_be_used_is_counted_and_the_rest_goes_on() -> None:
    boxes = [[40, 40, 32, 48], [np.nan] * 4, [5, 5, 0, 3], [5, 5, 3, -1], [999, 5, 10, 10], [-50, 5, 10, 10]]
    tracked = track_objects([colours(HERE)] * 2, [Detections(boxes=boxes)] * 2, STRIDE)
    assert tracked.rows[:, 1].tolist() == [1, 1]
    assert tracked.left_out.tolist() == [[t, i] for t in range(2) for i in range(1, 6)]
    masks = np.concatenate((masks_of(np.array([HERE[1]])), np.zeros((1, 160, 240), dtype=bool)))
    assert track_objects([colours(HERE)], [Detections(masks=masks)], STRIDE, "mots").left_out.tolist() == [
        [0, 1]
    ]
    passing = [[100, 500], [500, 100]]  # its box shows in the frame, its body does not
    points = [[[50.0, 50.0], [60, 70]], [[-1, -1], [-1, -1]], [[300, 50], [400, 60]], passing]
    tracked = track_objects([colours(HERE)], [Detections(points=points)], STRIDE, "pose")
    assert tracked.left_out.tolist() == [[0, 1], [0, 2], [0, 3]]


@pytest.mark.parametrize("task", list(RULES))
def test_empty_videos_and_frames(task: str) -> None:
    nothing = {
        "mot": {"boxes": np.zeros((0, 4))},
        "mots": {"masks": np.zeros((0, 160, 240))},
        "pose": {"points": np.zeros((0, 5, 2))},
    }
    assert track_objects([], [], STRIDE, task).rows.shape == (0, 6)
    tracked = track_objects(
        [colours({})] * 3, [Detections(**nothing[task])] * 3, STRIDE, task, gate=True, weight=0.5
    )
    assert tracked.rows.shape == (0, 6) and tracked.left_out.shape == (0, 2)


def endless() -> Iterator[Detections]:
    while True:
        yield Detections(boxes=[HERE[1]])


@pytest.mark.parametrize(
    ("features", "detections", "task", "said"),
    [
        ([colours(HERE)] * 3, [Detections(boxes=[HERE[1]])] * 2, "mot", "detections of 2 frames, features of more: must be as many"),
        ([colours(HERE)] * 3, endless(), "mot", "features of 3 frames, detections of more"),
        ([colours(HERE)], endless(), "mos", "task='mos': unknown; did you mean 'mot"),
        ([colours(HERE)], endless(), "mots", "frame 0: detections as boxes: task=mots takes masks"),
        ([colours(HERE), colours(HERE) * torch.nan], endless(), "mot", "frame 1: its features are not finite"),
        ([colours(HERE)], [Detections(masks=np.ones((1, 40, 40)))], "mots", "features of 20 x 30 cells of 8 pixels: must be of the same frame"),
    ],
)  # fmt: skip
def test_what_does_not_match_is_named(
    features: list[Tensor], detections: list[Detections], task: str, said: str
) -> None:
    with pytest.raises(VidsslError, match=said):
        track_objects(features, detections, STRIDE, task)
