from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.sequence import Lazy, Sequence


def frames(count: int, size: tuple[int, int] = (4, 6)) -> Lazy[Any]:
    return Lazy(count, lambda t: np.full((*size, 3), t, dtype=np.uint8))


def test_frames_are_read_when_asked_for_and_no_sooner() -> None:
    read: list[int] = []

    def frame(t: int) -> Any:
        read.append(t)
        return np.full((4, 6, 3), t, dtype=np.uint8)

    sequence = Sequence("s", Lazy(100, frame))
    assert read == []
    clip = sequence.clip(3, 5)
    assert sorted(read) == [0, 3, 4] and len(sequence) == 100 and sequence.size == (4, 6)
    assert clip.shape == (2, 3, 4, 6)
    torch.testing.assert_close(clip[:, 0, 0, 0], torch.tensor([3 / 255, 4 / 255]))
    with pytest.raises(IndexError):
        sequence.frames[100]


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ({"boxes": np.zeros((4, 4))}, "s: 5 frames, but 4 boxes"),
        ({"corners": np.zeros((6, 8))}, "s: 5 frames, but 6 four corners"),
        ({"masks": Lazy(3, lambda t: None)}, "s: 5 frames, but 3 masks"),
        ({"keypoints": {2: np.zeros((4, 15, 2))}}, r"s: 5 frames, but key points of 4 \(figure 2\)"),
        ({"objects": np.array([[5.0, 1, 0, 0, 2, 2]])}, "s: 5 frames, but object rows of frames 6 to 6"),
        (
            {"detections": np.array([[-1.0, 0, 0, 2, 2, 1]])},
            "s: 5 frames, but detection rows of frames 0 to 0",
        ),
    ],
)
def test_truth_for_another_number_of_frames_is_named(truth: dict[str, Any], said: str) -> None:
    with pytest.raises(VidsslError, match=said):
        Sequence("s", frames(5), **truth)


def test_a_sequence_without_frames_or_with_frames_of_two_sizes_is_named() -> None:
    with pytest.raises(VidsslError, match="s: no frames"):
        Sequence("s", frames(0))
    mixed = Lazy(2, lambda t: np.zeros((4 + t, 6, 3), dtype=np.uint8))
    with pytest.raises(VidsslError, match="s: frame 1 is 6 x 5 pixels, the first 6 x 4"):
        Sequence("s", mixed).clip()


def test_the_head_of_a_sequence_has_the_truth_of_its_frames() -> None:
    rows = np.array([[t, 1, 0, 0, 2, 2] for t in range(5)], dtype=np.float64)
    whole = Sequence(
        "s",
        frames(5),
        boxes=np.arange(20.0).reshape(5, 4),
        corners=np.zeros((5, 8)),
        masks=Lazy(5, lambda t: np.full((4, 6), t)),
        objects=rows,
        keypoints={3: np.arange(10.0).reshape(5, 1, 2)},
        detections=rows,
        frame_rate=12,
    )
    head = whole.head(2)
    assert len(head) == 2 and head.name == "s" and head.frame_rate == 12
    assert head.boxes is not None and head.corners is not None and head.masks is not None
    assert head.boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(head.corners) == 2
    assert len(head.masks) == 2 and head.objects is not None and len(head.objects) == 2
    assert head.keypoints is not None and head.keypoints[3].tolist() == [[[0, 1]], [[2, 3]]]
    assert whole.head(5) is whole
