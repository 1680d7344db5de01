from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.views.rendering import COLOURS
from vidssl.data.batch import stack_draws
from vidssl.data.rng import Purpose, stream
from vidssl.data.views.draw import draw_view
from vidssl.data.views.spec import ViewSpec


@given(
    st.integers(1, 400), st.integers(1, 400), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**40)
)
@settings(max_examples=100, deadline=None)
def test_boxes_lie_inside_the_frame(height: int, width: int, a: float, b: float, index: int) -> None:
    spec = ViewSpec("x", 1, 1, scale=(min(a, b), max(a, b)))
    top, left, h, w = draw_view(stream(0, Purpose.SPACE, 0, index, 0), spec, height, width).box.tolist()
    assert h >= 1
    assert w >= 1
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w


def test_draws_follow_their_distributions() -> None:
    spec = ViewSpec(
        "x",
        1,
        1,
        scale=(0.2, 0.5),
        flip=0.5,
        jitter=(0.4, 0.3, 1.5, 0.1),
        jitter_p=0.8,
        gray_p=0.2,
        blur_p=0.1,
        blur_sigma=(0.1, 2.0),
    )
    count = 4000
    draws = stack_draws([draw_view(stream(3, Purpose.SPACE, 0, i, 0), spec, 240, 320) for i in range(count)])
    for field, p in ((draws.flip, 0.5), (draws.jitter, 0.8), (draws.gray, 0.2), (draws.sigma > 0, 0.1)):
        assert abs(field.float().mean() - p) < 4 * math.sqrt(p * (1 - p) / count)
    assert not draws.solarize.any()
    height, width = draws.box[:, 2].double(), draws.box[:, 3].double()
    area = height * width / (240 * 320)
    assert area.min() > 0.19
    assert area.max() < 0.51
    assert abs(area.mean() - 0.35) < 0.01
    assert (width / height).log().mean().abs() < 0.01
    assert (width / height).min() > 0.74
    low = torch.tensor([0.6, 0.7, 0.0, -0.1])
    high = torch.tensor([1.4, 1.3, 2.5, 0.1])
    assert (draws.factors >= low).all()
    assert (draws.factors <= high).all()
    torch.testing.assert_close(draws.factors.mean(0), (low + high) / 2, atol=0.05, rtol=0)
    kinds, counts = draws.order.unique(dim=0, return_counts=True)
    assert len(kinds) == 24
    assert (counts - count / 24).abs().max() < 5 * math.sqrt(count / 24)


def test_a_frame_with_an_extreme_shape_gets_a_centred_crop() -> None:
    spec = ViewSpec("x", 1, 1, scale=(0.9, 1.0))
    for index in range(20):
        box = draw_view(stream(0, Purpose.SPACE, 0, index, 0), spec, 100, 1000).box
        assert box.tolist() == [0, (1000 - 133) // 2, 100, 133]


def test_draws_are_a_function_of_their_words() -> None:
    def draw(seed: int, epoch: int, index: int, view: int) -> bytes:
        return b"".join(
            field.numpy().tobytes()
            for field in draw_view(stream(seed, Purpose.SPACE, epoch, index, view), COLOURS, 90, 120)
        )

    words = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({draw(*w) for w in words}) == len(words)
    assert [draw(*w) for w in words] == [draw(*w) for w in words]
