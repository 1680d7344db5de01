"""The kinds of options, told from their defaults."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from vidssl.errors import VidsslError
from vidssl.models.options import ClipOptions, check_options

DEFAULTS = asdict(ClipOptions())


def test_what_is_allowed() -> None:
    check_options({}, DEFAULTS)
    check_options(DEFAULTS, DEFAULTS)
    check_options({"max_frames": 1, "chunk_frames": 4, "cls_mode": "shared", "causal": True}, DEFAULTS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_frame": 3}, "unknown option 'max_frame' of this; did you mean 'max_frames'?"),
        ({"max_frames": None}, "max_frames: None: must be a whole number of at least 1"),
        ({"max_frames": True}, "max_frames: True: must be a whole number"),
        ({"chunk_frames": 2.0}, "chunk_frames: 2.0: must be a whole number"),
        ({"image_size": 0}, "image_size: 0: must be a whole number"),
        ({"causal": 1}, "causal: 1: must be true or false"),
        ({"causal": None}, "causal: None: must be true or false"),
        ({"temporal_init": "zero"}, "temporal_init: 'zero' (allowed: copy, random)"),
        ({"causal": True, "cls_mode": "frames", "max_frames": 0}, "cls_mode: 'frames'"),
    ],
)
def test_what_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        check_options(options, DEFAULTS, " of this")
    assert words in str(error.value)
