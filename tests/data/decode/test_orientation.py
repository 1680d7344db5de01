from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import HEIGHT, WIDTH, write_numbered
from vidssl.data.decode.open import open_video, probe_video


def quarter(a: int, b: int, c: int, d: int) -> list[int]:
    return [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(
    "entries",
    [
        (1, 0, 0, 1),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (0, -1, 1, 0),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_all_eight_orientations_come_out_upright(tmp_path: Path, entries: tuple[int, int, int, int]) -> None:
    a, b, c, d = entries
    path = write_numbered(tmp_path / "turned.mp4", frames=12, gop_size=5, matrix=quarter(a, b, c, d))
    plain = write_numbered(tmp_path / "plain.mp4", frames=12, gop_size=5)
    with open_video(plain, "pyav") as video:
        stored = video.frames([7])[0]
    # The definition (ISO 14496-12, 6.2.2): the pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    expected = np.zeros((shown_y.max() + 1, shown_x.max() + 1, 3), dtype=np.uint8)
    expected[shown_y, shown_x] = stored
    for backend in ("auto", "pyav"):
        with open_video(path, backend) as video:
            assert (video.info.height, video.info.width) == expected.shape[:2]
            np.testing.assert_array_equal(video.frames([7])[0], expected)
    assert probe_video(path).height == expected.shape[0]
