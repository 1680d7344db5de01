"""One object: scores by hand, filters by closed forms, the tracker on squares that move as told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.boxes import (
    CorrelationFilter,
    correlation_response,
    normalised_precision,
    precision,
    success_auc,
    success_curve,
    track_box,
)
from vidssl.evaluation.tracking.overlap import box_iou
from vidssl.evaluation.tracking.single_object.crops import crop_windows
from vidssl.evaluation.tracking.single_object.filters import centre_block

BOX = [[10.0, 10.0, 20.0, 10.0]]


def test_iou_of_boxes_by_counting_cells() -> None:
    generator = np.random.default_rng(0)
    boxes = generator.integers(1, 12, (50, 2, 4))
    for (a, b), iou in zip(boxes, box_iou(boxes[:, 0].astype(float), boxes[:, 1].astype(float)), strict=True):
        cells = np.zeros((2, 30, 30), dtype=bool)
        for cell, (x, y, w, h) in zip(cells, (a, b), strict=True):
            cell[y : y + h, x : x + w] = True
        assert iou == pytest.approx((cells[0] & cells[1]).sum() / (cells[0] | cells[1]).sum(), abs=1e-12)


def test_success_counts_overlaps_above_each_threshold() -> None:
    # IoU 1, 1/3 (half a width off), 0.5 (half as high) and 0 (elsewhere).
    predicted = [[10, 10, 20, 10], [20, 10, 20, 10], [10, 10, 20, 5], [90, 90, 20, 10]]
    curve = success_curve(predicted, BOX * 4)
    expected = [np.mean([t < 1, t < 1 / 3, t < 0.5, t < 0]) for t in np.arange(21) / 20]
    np.testing.assert_allclose(curve, expected, atol=1e-12)
    assert success_auc(predicted, torch.tensor(BOX * 4)) == pytest.approx(np.mean(expected), abs=1e-12)


def test_a_perfect_tracker_has_an_area_of_20_21ths() -> None:
    generator = np.random.default_rng(1)
    boxes = generator.uniform(0.1, 100, (1000, 4))  # sizes whose products round
    assert success_auc(boxes, boxes) == pytest.approx(20 / 21, abs=1e-12)
    assert success_curve(boxes, boxes)[-1] == 0
    assert precision(boxes, boxes) == normalised_precision(boxes, boxes) == 1


def test_precision_is_of_centres_and_reaches_its_limit() -> None:
    predicted = [[30.0, 10.0, 20, 10], [30.1, 10.0, 20, 10], [0, 5, 40, 20]]  # 20, 20.1 and 0 pixels away
    assert precision(predicted, BOX * 3) == pytest.approx(2 / 3)
    assert precision(predicted, BOX * 3, pixels=21) == 1
    predicted = [
        [14, 10, 20, 10],
        [10, 12, 20, 10],
        [13, 11.5, 20, 10],
    ]  # (.2, 0), (0, .2), (.15, .15) sizes away
    assert normalised_precision(predicted, BOX * 3) == pytest.approx(2 / 3)
    assert normalised_precision(predicted, BOX * 3, at=0.22) == 1


NOWHERE = [
    [np.nan] * 4,
    [0, 0, 0, 0],
    [10, 10, -20, 10],
    [10, 10, 20, 0],
    [np.inf, 10, 20, 10],
    [10, 10, np.inf, 10],
]


@pytest.mark.parametrize("broken", NOWHERE)
@pytest.mark.parametrize("score", [success_auc, precision, normalised_precision])
def test_a_frame_without_a_true_box_is_a_miss(score: Callable[..., float], broken: list[float]) -> None:
    whole = score(BOX, BOX)
    assert score(BOX * 2, [*BOX, broken]) == pytest.approx(whole / 2)
    assert score([*BOX, broken], [*BOX, broken]) == pytest.approx(whole / 2)


@pytest.mark.parametrize("broken", [NOWHERE[0], NOWHERE[4], NOWHERE[5]])
@pytest.mark.parametrize("score", [success_auc, precision, normalised_precision])
def test_a_prediction_that_is_not_finite_is_a_miss(score: Callable[..., float], broken: list[float]) -> None:
    assert score([*BOX, broken], BOX * 2) == pytest.approx(score(BOX, BOX) / 2)


@pytest.mark.parametrize(
    ("predicted", "true"), [(BOX, BOX * 2), ([], []), (np.ones((2, 3)), np.ones((2, 3)))]
)
@pytest.mark.parametrize("score", [success_curve, precision, normalised_precision])
def test_boxes_and_truth_must_match_in_number(
    score: Callable[..., float], predicted: object, true: object
) -> None:
    with pytest.raises(VidsslError, match=r"shape .*: both must be \(T, 4\)"):
        score(predicted, true)


def features(size: int, channels: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, size, size, dtype=torch.float64, generator=generator)


def placed(size: int, block: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """A map that is zero but for the block, which stands in the middle and then is moved."""
    cells = torch.zeros(len(block), size, size, dtype=torch.float64)
    start = centre_block(size).start
    cells[:, start + down :, start + right :][:, : block.shape[1], : block.shape[2]] = block
    return cells


@pytest.mark.parametrize("size", [65, 32, 9])
def test_the_correlation_is_the_sum_of_products(size: int) -> None:
    block = centre_block(size)
    template, search = features(size)[:, block, block], features(size, seed=1)
    t = template.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    windowed = search.numpy() * window
    places = size - t + 1
    expected = np.array(
        [
            [(windowed[:, r : r + t, c : c + t] * template.numpy()).sum() for c in range(places)]
            for r in range(places)
        ]
    )
    np.testing.assert_allclose(correlation_response(template, search), 0.1 * expected, atol=1e-12)


def test_a_template_at_rest_answers_where_it_was_cut() -> None:
    block = centre_block(65)
    assert (block.start, block.stop) == (25, 39)  # 14 of 65 cells
    cells = features(65)
    response = correlation_response(cells[:, block, block], cells)
    assert response.shape == (52, 52)
    assert divmod(int(response.argmax()), 52) == (25, 25)


def filter_in_the_spatial_domain(seen: np.ndarray, searched: np.ndarray) -> np.ndarray:
    """Ridge regression with all circular shifts of the object as data, solved without a transform."""
    size = seen.shape[-1]
    offset = np.minimum(np.arange(size), size - np.arange(size))
    width = size / 4.5 * 0.1
    label = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * width**2)).ravel()
    block = centre_block(size)
    windowed = np.zeros_like(seen)
    windowed[:, block, block] = seen[:, block, block]
    searched = searched * np.outer(np.hanning(size), np.hanning(size))
    shifts = [(r, c) for r in range(size) for c in range(size)]
    rows = np.stack([np.roll(windowed, shift, (1, 2)).ravel() for shift in shifts])
    dual = np.linalg.solve(rows @ rows.T + 1e-4 * np.eye(len(rows)), label)
    return ((searched.ravel() @ rows.T).reshape(size, size), dual.reshape(size, size))  # type: ignore[return-value]


@pytest.mark.parametrize("size", [9, 10])
def test_the_filter_is_the_ridge_regression_on_all_shifts(size: int) -> None:
    seen, searched = features(size), features(size, seed=1)
    found = CorrelationFilter(size)
    found.update(seen, 1)
    kernel, dual = filter_in_the_spatial_domain(seen.numpy(), searched.numpy())
    expected = np.zeros((size, size))  # response(d) = Σ_u dual(u) k(d - u)
    for r in range(size):
        for c in range(size):
            expected += dual[r, c] * np.roll(kernel, (r, c), (0, 1))
    response = found.response(searched)
    assert response.dtype == torch.float64
    np.testing.assert_allclose(response, expected, atol=1e-9)


@pytest.mark.parametrize("size", [65, 64, 33])
def test_the_filter_answers_an_object_at_rest_at_the_origin(size: int) -> None:
    found = CorrelationFilter(size)
    cells = features(size)
    found.update(cells, 1)
    response = found.response(cells)
    assert response.shape == (size, size)
    assert int(response.argmax()) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(-8, 8), st.integers(-8, 8), st.sampled_from([65, 48]), st.integers(0, 100))
def test_whole_cells_of_movement_are_found(down: int, right: int, size: int, seed: int) -> None:
    block = centre_block(size)
    extent = block.stop - block.start
    looks = features(extent, channels=8, seed=seed)
    found = CorrelationFilter(size)
    found.update(placed(size, looks), 1)
    row, column = divmod(int(found.response(placed(size, looks, down, right)).argmax()), size)
    assert (row, column) == (down % size, right % size)
    response = correlation_response(looks, placed(size, looks, down, right))
    row, column = divmod(int(response.argmax()), len(response))
    assert (row - block.start, column - block.start) == (down, right)


def test_updates_are_running_averages_of_spectra() -> None:
    first, second, searched = features(16), features(16, seed=1), features(16, seed=2)
    found, one, other = (CorrelationFilter(16) for _ in range(3))
    found.update(first, 1)
    found.update(second, 0.25)
    one.update(first, 1)
    other.update(second, 1)
    assert found._object is not None and one._object is not None and other._object is not None
    torch.testing.assert_close(found._object, 0.75 * one._object + 0.25 * other._object)
    assert found._weight is not None and one._weight is not None and other._weight is not None
    torch.testing.assert_close(found._weight, 0.75 * one._weight + 0.25 * other._weight)
    found.update(second, 1)
    torch.testing.assert_close(found.response(searched), other.response(searched))


def test_a_filter_that_has_seen_nothing_says_so() -> None:
    with pytest.raises(VidsslError, match="seen no object"):
        CorrelationFilter(16).response(features(16))
    with pytest.raises(VidsslError, match=r"rate=0.01: must be 1 in the first update"):
        CorrelationFilter(16).update(features(16), 0.01)
    with pytest.raises(VidsslError, match="8 x 8 cells: must be at least 9"):
        CorrelationFilter(8)


def test_crops_are_bilinear_with_the_border_outside() -> None:
    frame = torch.rand(3, 7, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    windows = np.array([[-2.5, 1.25, 13.0, 4.5], [2.0, 1.0, 6.0, 5.0]])
    crops = crop_windows(frame, windows, 5, border=(0.1, 0.2, 0.3))
    padded = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)[:, None, None].repeat(1, 27, 31)
    padded[:, 10:17, 10:21] = frame
    for crop, (left, top, right, bottom) in zip(crops, windows, strict=True):
        for row, y in enumerate(np.linspace(top, bottom, 5)):
            for column, x in enumerate(np.linspace(left, right, 5)):
                i, j = int(np.floor(y)), int(np.floor(x))
                a, b = y - i, x - j
                near = padded[:, i + 10 : i + 12, j + 10 : j + 12]
                weights = torch.tensor(
                    [[(1 - a) * (1 - b), (1 - a) * b], [a * (1 - b), a * b]], dtype=torch.float64
                )
                torch.testing.assert_close(crop[:, row, column], (near * weights).sum((1, 2)))
    torch.testing.assert_close(crops[1], frame[:, 1:6, 2:7])  # whole pixels are copied


def cells_of_pixels(crops: Tensor) -> Tensor:
    """Raw pixels as features: (N, 3, S, S) -> (N, 3, S / 8, S / 8)."""
    return functional.avg_pool2d(crops - 0.5, 8)


def moving_square(
    steps: int = 12, speed: tuple[int, int] = (2, 1), growth: float = 1.0
) -> tuple[Tensor, np.ndarray]:
    """Frames (T, 3, 120, 160) with one textured square on a flat ground, and its boxes."""
    generator = torch.Generator().manual_seed(3)
    texture = torch.rand(1, 3, 4, 4, generator=generator)
    frames, boxes = [], []
    for t in range(steps):
        side = round(24 * growth**t)
        x, y = 40 + speed[0] * t, 50 + speed[1] * t
        frame = torch.full((3, 120, 160), 0.5)
        frame[:, y : y + side, x : x + side] = functional.interpolate(
            texture, size=(side, side), mode="nearest"
        )[0]
        frames.append(frame)
        boxes.append((x, y, side, side))
    return torch.stack(frames), np.array(boxes, dtype=float)


@pytest.mark.parametrize("head", ["dcf", "xcorr"])
def test_a_moving_square_is_followed(head: str) -> None:
    frames, boxes = moving_square()
    found = track_box(cells_of_pixels, frames, boxes[0], head=head, crop=264)
    assert found.shape == (12, 4)
    np.testing.assert_array_equal(found[0], boxes[0])
    assert box_iou(found, boxes).min() > 0.7
    assert success_auc(found, boxes) > success_auc(np.repeat(boxes[:1], 12, 0), boxes) + 0.3


def test_a_square_that_grows_is_followed_by_size() -> None:
    frames, boxes = moving_square(steps=15, speed=(1, 0), growth=1.03)
    found = track_box(cells_of_pixels, frames, boxes[0], crop=264)
    assert found[-1, 2] > 1.2 * found[0, 2]
    still = moving_square(steps=15, speed=(1, 0))[0]
    assert track_box(cells_of_pixels, still, boxes[0], crop=264)[-1, 2] < 1.06 * boxes[0, 2]


@pytest.mark.parametrize("head", ["dcf", "xcorr"])
def test_an_object_at_rest_stays_where_it_is(head: str) -> None:
    frames, boxes = moving_square(steps=4, speed=(0, 0))
    found = track_box(cells_of_pixels, frames, boxes[0], head=head, crop=264)
    np.testing.assert_allclose(found[:, :2] + found[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2, atol=1e-6)
    assert abs(found[:, 2:] / 24 - 1).max() < (0.03 if head == "dcf" else 1e-9)  # one step of size


def test_the_reference_drifts_from_an_object_at_rest() -> None:
    """Its correlation head takes a peak at cell b of n places for one at n / 2, one place away, of a size window / n."""
    frames, boxes = moving_square(steps=4, speed=(0, 0))
    found = track_box(cells_of_pixels, frames[:2], boxes[0], head="xcorr", crop=520, legacy=True)
    np.testing.assert_allclose(found[1] - found[0], [-24 * 4.5 / 52] * 2 + [0, 0], atol=1e-6)


def test_the_reference_reads_a_response_that_lacks_a_column() -> None:
    cells = features(65)
    found, legacy = CorrelationFilter(65), CorrelationFilter(65, legacy=True)
    for each in (found, legacy):
        each.update(cells, 1)
    assert legacy.response(cells).shape == (65, 64)
    spectrum = torch.fft.rfft2(found.response(cells))
    torch.testing.assert_close(legacy.response(cells), torch.fft.irfft2(spectrum, s=(65, 64)))
    even = CorrelationFilter(64, legacy=True)
    even.update(features(64), 1)
    assert even.response(features(64)).shape == (64, 64)


def test_the_crops_are_those_of_the_protocol() -> None:
    """Three sizes of 4.5 boxes round the object, then for the Fourier head one more to learn from."""
    frames, boxes = moving_square(steps=2, speed=(0, 0))
    seen: list[Tensor] = []

    def extract(crops: Tensor) -> Tensor:
        seen.append(crops)
        return cells_of_pixels(crops)

    track_box(extract, frames, boxes[0], crop=264)
    assert [len(crops) for crops in seen] == [1, 3, 1]
    centre = boxes[0, :2] + 12 - 0.5  # in pixels' centres
    for crops, factors in zip(seen[:2], ([1.0], [1.0, 1 / 1.0275, 1.0275]), strict=True):
        for crop, factor in zip(crops, factors, strict=True):
            half = 24 * factor * 4.5 / 2
            window = np.concatenate((centre - half, centre + half))[None]
            torch.testing.assert_close(crop, crop_windows(frames[0], window, 264)[0])


def preferring(which: int) -> Callable[[Tensor], Tensor]:
    """Features that are alike everywhere but ten times as strong in one of the three sizes."""

    def extract(crops: Tensor) -> Tensor:
        cells = features(9)[None].repeat(len(crops), 1, 1, 1)
        if len(crops) == 3:
            cells[which] *= 10
        return cells

    return extract


def test_sizes_stay_within_their_limits() -> None:
    frames = torch.rand(90, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    size = {
        legacy: track_box(preferring(2), frames, [20, 10, 10, 10], crop=16, legacy=legacy)[-1, 2:]
        for legacy in (False, True)
    }
    np.testing.assert_allclose(size[False], [50, 40])  # five times as wide, and as high as the frame
    np.testing.assert_allclose(size[True], [40, 50])  # the reference takes the frame's height for its width
    for side, least in ((10, 4), (30, 6)):
        found = track_box(preferring(1), frames, [20, 5, side, side], crop=16)
        np.testing.assert_allclose(found[-1, 2:], [least, least])
        np.testing.assert_allclose(found[1, 2:], side / 1.0275)


def nothing(crops: Tensor) -> Tensor:
    return torch.zeros(len(crops), 3, 12, 12)


@pytest.mark.parametrize("head", ["dcf", "xcorr"])
def test_features_that_say_nothing_leave_the_box_in_place(head: str) -> None:
    frames, boxes = moving_square(steps=3)
    np.testing.assert_allclose(
        track_box(nothing, frames, boxes[0], head=head, crop=96), boxes[[0, 0, 0]], atol=1e-9
    )


def test_an_object_that_vanishes_and_one_frame_are_no_trouble() -> None:
    frames, boxes = moving_square(steps=6)
    frames[3:] = 0.5
    assert np.isfinite(track_box(cells_of_pixels, frames, boxes[0], crop=96)).all()
    np.testing.assert_array_equal(track_box(cells_of_pixels, frames[:1], boxes[0], crop=96), boxes[:1])


def broken(crops: Tensor) -> Tensor:
    return cells_of_pixels(crops) * (torch.nan if len(crops) == 3 else 1)


@pytest.mark.parametrize(
    ("extract", "box", "count", "options", "said"),
    [
        (cells_of_pixels, [10, 10, 0, 5], 2, {}, "first box .* must be x, y, w, h, finite, w and h above 0"),
        (cells_of_pixels, [np.nan] * 4, 2, {}, "first box .* must be x, y, w, h, finite"),
        (cells_of_pixels, [1, 2, 3], 2, {}, "first box .* must be x, y, w, h"),
        (cells_of_pixels, [500, 10, 20, 20], 2, {}, "outside of the frame of .*160.0, 120.0"),
        (cells_of_pixels, [10, -30, 20, 20], 2, {}, "outside of the frame"),
        (cells_of_pixels, [10, 10, 20, 20], 0, {}, "no frames"),
        (cells_of_pixels, [10, 10, 20, 20], 2, {"head": "dfc"}, "head='dfc': unknown; did you mean 'dcf'"),
        (cells_of_pixels, [10, 10, 20, 20], 2, {"crop": 64}, "8 x 8 cells: must be at least 9"),
        (broken, [10, 10, 20, 20], 2, {}, "frame 1: its features are not finite"),
        (lambda crops: crops[:, :, ::8, ::4], [10, 10, 20, 20], 2, {}, "of 1 square crops: must be"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_named(
    extract: Callable[[Tensor], Tensor], box: list[float], count: int, options: dict[str, object], said: str
) -> None:
    frames = moving_square(steps=2)[0][:count]
    with pytest.raises(VidsslError, match=said):
        track_box(extract, frames, box, **{"crop": 96, **options})  # type: ignore[arg-type]


def test_a_real_sequence_is_followed_better_than_by_standing_still() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data" / "tracking" / "otb_crossing"
    if not folder.is_dir():
        pytest.skip(f"no test sequence at {folder}")
    image = pytest.importorskip("PIL.Image")
    paths = sorted((folder / "frames").iterdir())[:30]
    frames = torch.stack(
        [torch.from_numpy(np.array(image.open(p).convert("RGB"))).permute(2, 0, 1) / 255 for p in paths]
    )
    truth = np.loadtxt(folder / "groundtruth.txt", delimiter=",")[:30]
    found = track_box(cells_of_pixels, frames, truth[0], crop=264)
    assert success_auc(found, truth) > success_auc(np.repeat(truth[:1], 30, 0), truth) + 0.1
