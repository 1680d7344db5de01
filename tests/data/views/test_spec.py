from __future__ import annotations

from typing import Any

import pytest

from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 0),
        ("frames", 0),
        ("size", 1),
        ("seconds", 0.0),
        ("scale", (0.5, 0.2)),
        ("ratio", (0.0, 1.0)),
        ("flip", 1.5),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("blur_sigma", (0.0, 1.0)),
    ],
)
def test_impossible_views_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(VidsslError, match=f"view 'global': {field}="):
        ViewSpec(**{"name": "global", "count": 1, "frames": 8, field: value})
