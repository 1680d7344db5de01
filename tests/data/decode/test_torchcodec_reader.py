from __future__ import annotations

from pathlib import Path

from tests.data.conftest import numbers_of
from vidssl.data.decode.open import BACKENDS, DecodeError, open_video
from vidssl.errors import VidsslError


def test_torchcodec_works_or_says_why_not(numbered: Path) -> None:
    assert "torchcodec" in BACKENDS
    try:
        video = open_video(numbered, "torchcodec")
    except DecodeError:
        raise
    except VidsslError as error:
        assert "torchcodec" in str(error)
        assert "\n" not in str(error)
        return
    with video:
        assert numbers_of(video.frames([39, 3, 3])) == [39, 3, 3]
