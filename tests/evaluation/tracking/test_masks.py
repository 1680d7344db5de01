"""J, F and their statistics by closed forms, by brute force and by trackeval; label maps to the grid and back."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.masks import (
    boundary_f,
    boxes_of,
    labels_of,
    map_of_boxes,
    masks_of,
    region_similarity,
    sequence_statistics,
)
from vidssl.evaluation.tracking.presets import PRESETS

Mask = NDArray[np.bool_]


def blobs(seed: int, size: tuple[int, int] = (23, 31), share: float = 0.5) -> Mask:
    """Ragged shapes of a few pixels, touching the edges."""
    noise = np.random.default_rng(seed).random((size[0] // 4 + 1, size[1] // 4 + 1)) < share
    return np.kron(noise, np.ones((4, 4), bool))[: size[0], : size[1]] ^ (
        np.random.default_rng(seed).random(size) < 0.02
    )


def rectangle(top: int, left: int, height: int, width: int, size: tuple[int, int] = (60, 80)) -> Mask:
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_the_similarity_of_regions_is_intersection_over_union() -> None:
    assert region_similarity(rectangle(5, 5, 10, 20), rectangle(5, 15, 10, 20)) == 100 / 300
    assert region_similarity(torch.from_numpy(rectangle(5, 5, 4, 4)), rectangle(20, 5, 4, 4)) == 0
    empty = rectangle(0, 0, 0, 0)
    assert region_similarity(empty, empty) == 1 and region_similarity(empty, ~empty) == 0
    void = rectangle(5, 5, 10, 10) | rectangle(5, 25, 10, 10)
    assert region_similarity(rectangle(5, 5, 10, 20), rectangle(5, 15, 10, 20), void) == 1
    assert region_similarity(void, empty, void=void) == 1


def slow_f(predicted: Mask, true: Mask, radius: float) -> float:
    """Pixel by pixel, from the words of the benchmark."""

    def boundary(mask: Mask) -> list[tuple[int, int]]:
        found = []
        for y, x in np.ndindex(mask.shape):
            right, below = min(x + 1, mask.shape[1] - 1), min(y + 1, mask.shape[0] - 1)
            if len({mask[y, x], mask[y, right], mask[below, x], mask[below, right]}) == 2:
                found.append((y, x))
        return found

    def near(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in some) / len(
            some
        )

    drawn, wanted = boundary(predicted), boundary(true)
    if not drawn and not wanted:
        return 1.0
    if not drawn or not wanted:
        return 0.0
    precision, recall = near(drawn, wanted), near(wanted, drawn)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 9999), st.integers(0, 9999), st.sampled_from([0.008, 0.05, 1, 1.5, 2, 5]), st.floats(0, 1)
)
def test_the_boundary_is_that_of_the_benchmarks_words(a: int, b: int, bound: float, share: float) -> None:
    predicted, true = blobs(a, share=share), blobs(b)
    radius = bound if bound >= 1 else math.ceil(bound * math.sqrt(23**2 + 31**2))
    assert boundary_f(predicted, true, bound=bound) == pytest.approx(
        slow_f(predicted, true, radius), abs=1e-9
    )
    void = blobs(a + b, share=0.2)
    expected = slow_f(predicted & ~void, true & ~void, radius)
    assert boundary_f(predicted, torch.from_numpy(true), void, bound) == pytest.approx(expected, abs=1e-9)


def test_a_boundary_is_right_up_to_eight_pixels_at_480p_and_wrong_beyond() -> None:
    """The diagonal of 480 x 854 is 979.6 pixels; 0.008 of it, rounded up, is 8. A long bar moved along its short side."""
    size = (480, 854)
    bar = rectangle(100, 0, 40, 854, size)
    assert boundary_f(rectangle(108, 0, 40, 854, size), bar) == 1
    assert boundary_f(rectangle(109, 0, 40, 854, size), bar) == 0
    assert boundary_f(rectangle(109, 0, 40, 854, size), bar, bound=9) == 1


def test_what_has_no_boundary_is_empty() -> None:
    empty, some = rectangle(0, 0, 0, 0), rectangle(5, 5, 9, 9)
    assert boundary_f(empty, empty) == 1
    assert boundary_f(some, empty) == boundary_f(empty, some) == 0
    assert boundary_f(~empty, some) == 0


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_j_and_f_and_their_statistics_are_those_of_trackeval(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2", reason="trackeval needs OpenCV for F")
    coco = pytest.importorskip("pycocotools.mask")
    trackeval = pytest.importorskip("trackeval.metrics.j_and_f")
    morphology = ModuleType("skimage.morphology")  # all that is needed of it

    def disk(radius: float) -> Any:
        side = np.arange(-radius, radius + 1)
        return (side[:, None] ** 2 + side**2 <= radius**2).astype(np.uint8)

    morphology.disk = disk  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "skimage", ModuleType("skimage"))
    monkeypatch.setitem(sys.modules, "skimage.morphology", morphology)
    true = [blobs(t, (120, 160), 0.3) for t in range(11)]
    predicted = [mask ^ blobs(t + 50, (120, 160), 0.05 * t) for t, mask in enumerate(true)]
    data = {
        "num_timesteps": len(true), "num_tracker_ids": 1, "num_gt_ids": 1,
        "gt_ids": [np.array([0])] * len(true), "tracker_ids": [np.array([0])] * len(true),
        "gt_dets": [[coco.encode(np.asfortranarray(mask, dtype=np.uint8))] for mask in true],
        "tracker_dets": [[coco.encode(np.asfortranarray(mask, dtype=np.uint8))] for mask in predicted],
    }  # fmt: skip
    wanted = trackeval.JAndF().eval_sequence(data)
    for letter, measure in (("J", region_similarity), ("F", boundary_f)):
        found = sequence_statistics([measure(*pair) for pair in zip(predicted, true, strict=True)])
        expected = [wanted[f"{letter}-{name}"] for name in ("Mean", "Recall", "Decay")]
        assert found == pytest.approx(expected, abs=1e-9)
        assert 0.1 < found[0] < 0.99


def test_recall_and_decay_have_closed_forms() -> None:
    assert sequence_statistics([1.0] * 9) == (1, 1, 0)
    falling = np.linspace(1, 0, 401)
    mean, recall, decay = sequence_statistics(falling)
    assert (mean, recall) == pytest.approx((0.5, 200 / 401)) and decay == pytest.approx(0.75)
    assert sequence_statistics(falling[::-1])[2] == pytest.approx(-0.75)
    assert sequence_statistics([0.5]) == (0.5, 0, 0)
    assert sequence_statistics([0.2, 0.8]) == pytest.approx((0.5, 0.5, -0.6))
    assert sequence_statistics([np.nan, 1, 1, 1, 1]) == pytest.approx((1, 0.8, 0))
    mean, recall, decay = sequence_statistics([np.nan] * 3)
    assert math.isnan(mean) and recall == 0 and math.isnan(decay)
    with pytest.raises(
        VidsslError, match=r"values of a sequence: shape \(0,\): must be \(T,\), at least one"
    ):
        sequence_statistics([])


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        (np.zeros((4, 5), bool), "predicted mask: 5 x 4 pixels, but the true one has 4 x 4"),
        (np.zeros((4, 4, 1), bool), r"predicted mask: shape \(4, 4, 1\): must be \(H, W\)"),
        (np.full((4, 4), 2), "predicted mask: holds values other than 0 and 1"),
        (np.full((4, 4), np.nan), "predicted mask: holds values other than 0 and 1"),
    ],
)
def test_masks_that_are_none_are_named(predicted: Any, said: str) -> None:
    for measure in (region_similarity, boundary_f):
        with pytest.raises(VidsslError, match=said):
            measure(predicted, np.zeros((4, 4), bool))
    with pytest.raises(VidsslError, match="bound=0: must be a number above 0"):
        boundary_f(np.zeros((4, 4), bool), np.zeros((4, 4), bool), bound=0)


@pytest.mark.parametrize("size", [(6, 10), (7, 9), (48, 80)])
def test_labels_on_the_grid_are_those_of_the_cells_middles_or_mixed(size: tuple[int, int]) -> None:
    numbers = np.random.default_rng(0).choice([0, 1, 2, 7, 255], (48, 80))
    hard, mixed = (
        labels_of(numbers, [7, 1], size, "dino"),
        labels_of(torch.from_numpy(numbers), [7, 1], size, "crw"),
    )
    middles = np.array(Image.fromarray(numbers.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(hard.argmax(0), np.select([middles == 7, middles == 1], [1, 2], 0)) and set(
        hard.unique().tolist()
    ) == {0, 1}
    torch.testing.assert_close(mixed.sum(0), torch.ones(size))
    for channel, name in ((1, 7), (2, 1)):
        np.testing.assert_allclose(mixed[channel], bilinear((numbers == name).astype(float), size), atol=1e-5)


def bilinear(image: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Of the four pixels round a cell's middle, as OpenCV resizes without smoothing."""
    out = np.empty(size)
    for y, x in np.ndindex(size):
        v, u = ((i + 0.5) * n / m - 0.5 for i, n, m in zip((y, x), image.shape, size, strict=True))
        v, u = (min(max(c, 0), n - 1) for c, n in zip((v, u), image.shape, strict=True))
        a, b = min(int(v), image.shape[0] - 2), min(int(u), image.shape[1] - 2)
        p, q = v - a, u - b
        out[y, x] = np.array([1 - p, p]) @ image[a : a + 2, b : b + 2] @ np.array([1 - q, q])
    return out


@pytest.mark.parametrize("preset", PRESETS)
def test_soft_labels_become_maps_of_the_frames_size(preset: str) -> None:
    soft = (
        torch.rand(4, 6, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        * torch.tensor([1, 0.5, 0.1, 0])[:, None, None]
    )
    large = np.stack([bilinear(channel.numpy(), (45, 38)) for channel in soft])
    if preset in ("dino", "vfs", "rsp"):
        for channel in large[:3]:
            channel -= channel.min()
            channel /= channel.max()
    found = masks_of(soft, (45, 38), preset)
    assert found.dtype == torch.int64 and np.array_equal(found, large.argmax(0))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_channel_that_is_the_same_everywhere_is_not_stretched_to_nothing(preset: str) -> None:
    """0/0 in the references. An object that fills the frame is there, and so is the ground of a frame without one."""
    flat = torch.zeros(2, 4, 5)
    for there in (0, 1):
        flat[:] = 0
        flat[there] = 1
        assert (masks_of(flat, (8, 10), preset) == there).all()
    assert (masks_of(torch.zeros(3, 4, 5), (8, 10), preset) == 0).all()


def test_a_map_goes_to_the_grid_and_back() -> None:
    numbers = np.kron(
        np.random.default_rng(1).choice([0, 3, 9], (6, 8), p=[0.6, 0.2, 0.2]), np.ones((8, 8), int)
    )
    for preset in PRESETS:
        back = masks_of(labels_of(numbers, [3, 9], (6, 8), preset), (48, 64), preset)
        middles = np.array([0, 3, 9])[back][4::8, 4::8]
        assert np.array_equal(middles, numbers[4::8, 4::8])


def test_boxes_are_carried_as_masks() -> None:
    boxes = np.array([[3.0, 2, 5, 4], [-2, 6, 6, 20]])
    drawn = map_of_boxes(boxes, (12, 16))
    assert np.array_equal(
        boxes_of(drawn, [1, 2, 3]), np.array([[3, 2, 5, 4], [0, 6, 4, 6], [np.nan] * 4]), equal_nan=True
    )
    assert (map_of_boxes([[0, 0, 9, 9], [1, 1, 3, 3]], (9, 9)) == 2).sum() == 9
    assert map_of_boxes(np.zeros((0, 4)), (3, 3)).sum() == 0
    for box in ([1, 1, 0, 3], [1, 1, np.nan, 3], [20, 1, 3, 3]):
        with pytest.raises(VidsslError, match=r"box 1 \(.*\): covers no pixel of 16 x 12"):
            map_of_boxes([[0, 0, 2, 2], box], (12, 16))
    with pytest.raises(VidsslError, match=r"boxes: shape \(4,\): must be \(N, 4\)"):
        map_of_boxes([0, 0, 2, 2], (12, 16))


def test_labels_that_make_no_map_are_named() -> None:
    with pytest.raises(VidsslError, match="preset='sam': unknown"):
        masks_of(torch.ones(2, 3, 4), (6, 8), "sam")
    with pytest.raises(VidsslError, match="soft labels: not finite"):
        masks_of(torch.full((2, 3, 4), torch.nan), (6, 8))
    with pytest.raises(VidsslError, match=r"soft labels: shape \(3, 4\): must be \(C, h, w\)"):
        masks_of(torch.ones(3, 4), (6, 8))
    with pytest.raises(
        VidsslError, match=r"label map: torch.float32 of shape \(3, 4\): must be whole numbers"
    ):
        labels_of(torch.ones(3, 4), [1], (3, 4))
    with pytest.raises(VidsslError, match="preset='sam': unknown"):
        labels_of(torch.ones(3, 4, dtype=torch.int64), [1], (3, 4), "sam")
