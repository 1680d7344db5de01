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
    assert set(read) == {0, 3, 4} and len(sequence) == 100 and sequence.size == (4, 6)
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
