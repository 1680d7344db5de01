from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.conftest import numbers_of
from vidssl.data.decode.open import open_video
from vidssl.data.decode.part import Part, PartReader
from vidssl.data.decode.reader import DecodeError


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        (Part(0.4, 0.8), range(10, 20)),  # 25 frames a second: neither frame 9 nor frame 20
        (Part(0.41, 0.79), range(11, 20)),
        (Part(1.2), range(30, 40)),
        (Part(0.0, 0.04), range(1)),
        (Part(0.05, 0.06), range(1, 2)),  # between two stamps: the frame on show
        (Part(1.2, 99.0), range(30, 40)),
        (Part(1.599), range(39, 40)),
    ],
)
def test_a_part_is_a_video_of_its_own(numbered: Path, part: Part, numbers: range) -> None:
    with open_video(numbered) as video:
        reader = PartReader(video, part)
        assert numbers_of(reader.frames(range(reader.info.num_frames))) == list(numbers)
        np.testing.assert_allclose(reader.times, np.arange(len(numbers)) / 25, atol=1e-9)
        assert reader.info.duration == pytest.approx(len(numbers) / 25)
        with pytest.raises(IndexError):
            reader.frames([len(numbers)])
        reader.close()
        assert numbers_of(video.frames([3])) == [3]


def test_a_part_behind_the_end_is_no_video(numbered: Path) -> None:
    with (
        open_video(numbered) as video,
        pytest.raises(DecodeError, match=r"begins at 1\.6 s, but the video ends at 1\.6 s"),
    ):
        PartReader(video, Part(1.6, 2.0))


@given(st.floats(0, 1e9), st.floats(0, 1e9) | st.just(math.inf))
def test_its_name_says_exactly_which(start: float, stop: float) -> None:
    name = str(Part(start, stop))
    assert name.startswith("#t=")
    assert tuple(map(float, (name[3:] + ",inf").split(",")[:2])) == (start, stop)
