from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.evaluation.tracking.drawn import write_frames
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts import find_sequences
from vidssl.evaluation.tracking.sequence import Sequence

SIZE = 64, 80


def line_of(mask: NDArray[np.bool_], left: int, top: int) -> str:
    """The toolkit's line of a window's mask: pixel by pixel along the rows, the first run one of zeros."""
    runs, value, length = [], False, 0
    for row in mask.tolist():
        for pixel in row:
            if pixel != value:
                runs.append(length)
                value, length = pixel, 0
            length += 1
    return ",".join(map(str, [f"m{left}", top, mask.shape[1], mask.shape[0], *runs, length]))


def read(folder: Path, lines: list[str], frames: int = 3) -> Sequence:
    write_frames(folder / "bag" / "color", frames, "{:08d}.jpg", start=1)
    (folder / "bag" / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    (found,) = find_sequences(folder)
    return found.read()


def test_masks_stand_where_they_are_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inside, over = rng.random((17, 23)) < 0.4, rng.random((9, 30)) < 0.6
    inside[0, 0] = True  # its first run, of zeros, is 0
    sequence = read(tmp_path, [line_of(inside, 31, 12), line_of(over, -7, 60), "m0,0,1,1,1"])
    assert sequence.masks is not None and not sequence.masks_introduce and sequence.boxes is not None
    first, cut = np.zeros(SIZE, dtype=int), np.zeros(SIZE, dtype=int)
    first[12:29, 31:54] = inside
    cut[60:, :23] = over[:4, 7:]
    for true, found, box in zip((first, cut, np.zeros(SIZE)), sequence.masks, sequence.boxes, strict=True):
        assert np.array_equal(true, found)
        y, x = true.nonzero()
        if y.size:
            assert box.tolist() == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        else:
            assert np.isnan(box).all()


def test_pixels_behind_the_last_run_are_empty(tmp_path: Path) -> None:
    masks = read(tmp_path, ["m2,1,4,3,5,2"] * 3).masks
    assert masks is not None and masks[0] is not None
    assert [axis.tolist() for axis in masks[0].nonzero()] == [[2, 2], [3, 4]]


def test_a_single_line_is_where_to_start(tmp_path: Path) -> None:
    sequence = read(tmp_path, ["m2,1,4,3,0,12"])
    assert sequence.masks is not None and sequence.masks_introduce and sequence.boxes is not None
    assert [mask is None for mask in sequence.masks] == [False, True, True]
    assert sequence.boxes[0].tolist() == [2, 1, 4, 3] and np.isnan(sequence.boxes[1:]).all()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("m1,2,3", "expected m and whole numbers"),
        ("10,5,20,15", "expected m and whole numbers"),
        ("m1,2,3,x,4", "expected m and whole numbers"),
        ("m1,2,3,3,4,6", "do not fit into 3 x 3"),
        ("m1,2,3,3,4,-6", "do not fit into 3 x 3"),
        ("m0,0,81,3,4", "the frames have 80 x 64"),
        ("m0,0,1,99999999999,4", "the frames have 80 x 64"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(VidsslError, match=f"line 2: .*{words}"):
        read(tmp_path, ["m2,1,4,3,0,12", line, "m2,1,4,3,0,12"])


def test_masks_and_frames_that_differ_in_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match="3 frames, but 2 boxes"):
        read(tmp_path, ["m2,1,4,3,0,12"] * 2)
