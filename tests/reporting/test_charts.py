from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from vidssl.reporting.charts import Bar, Line, bars, circle, lines, matrix, short

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<script>alert("x")</script>&\'"'


def parsed(chart: Markup) -> ET.Element:
    """The chart as XML, which a text that was not escaped would break or add elements to."""
    assert isinstance(chart, Markup)
    root = ET.fromstring(chart)
    assert not [node for node in root.iter() if "script" in node.tag]
    return root


def numbers(path: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.?\d*", path)]


def test_a_line_goes_where_its_values_are():
    root = parsed(lines([Line("loss", [0, 5, 10], [0.0, 1.0, 2.0])], "loss", "step"))
    x0, y0, x1, y1, x2, y2 = numbers(next(p.get("d") for p in root.iter("path")))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02) and x2 > x0
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.02) and y2 < y0  # larger values are higher


def test_a_single_point_is_a_dot_and_one_number():
    chart = lines([Line("a", [3], [0.25]), Line("b", [3, 4], [0.5, math.nan])], "a", "seconds")
    dots = list(parsed(chart).iter("circle"))
    assert [float(dot.get("cy")) for dot in dots] == sorted(
        (float(dot.get("cy")) for dot in dots), reverse=True
    )
    assert len(dots) == 2 and dots[0].get("cx") == dots[1].get("cx")
    assert "<b>0.25</b>" in chart and "→" not in chart


def test_what_is_not_finite_is_a_gap_and_nothing_finite_no_chart():
    gap = lines([Line("a", [0, 1, 2, 3], [1.0, math.nan, math.inf, 2.0])], "a", "step")
    path = next(p.get("d") for p in parsed(gap).iter("path"))
    assert path.count("M") == 2 and "nan" not in gap.lower()
    assert lines([Line("a", [0, 1], [math.nan, math.inf])], "a", "step") == ""
    assert lines([], "a", "step") == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=700))
def test_every_point_lies_inside_the_drawing(values):
    root = parsed(lines([Line("a", list(range(len(values))), values)], "a", "step"))
    _, _, width, height = numbers(next(s.get("viewBox") for s in root.iter("svg")))
    found = numbers(next(p.get("d") for p in root.iter("path")))
    assert all(0 <= x <= width for x in found[::2]) and all(0 <= y <= height for y in found[1::2])
    assert len(found) <= 600


def test_bars_are_as_long_as_their_scores():
    root = parsed(bars([Bar("trained", 0.8, (0.7, 0.9), 0), Bar("chance", 0.2, None, 5)], "top-1"))
    first, second = (float(r.get("width")) for r in root.iter("rect"))
    assert first == pytest.approx(4 * second, rel=1e-3)
    assert len([p for p in root.iter("path") if p.get("class") == "whisker"]) == 1


def test_no_name_leaves_the_drawing_of_the_bars():
    root = parsed(bars([Bar("untrained, playback direction, mean of frames", 0.5, None, 0)], "top-1"))
    [name] = (text for text in root.iter("text") if text.get("class") == "name")
    assert float(name.get("x")) >= 6.3 * len(name.text)  # a letter of 11 pixels, at its widest on average


def test_a_matrix_is_shaded_by_the_share_of_its_row():
    counts = {"a": {"a": 3, "b": 1}, "b": {"b": 2}}
    cells = [
        float(r.get("style").split(":")[1])
        for r in parsed(matrix(["a", "b"], ["a", "b"], counts)).iter("rect")
    ]
    assert cells == [0.75, 0.25, 0, 1]


def test_eigenvalues_lie_where_they_are():
    root = parsed(circle([(1 + 0j, "still"), (0.5j, "turns")], "eigenvalues"))
    unit, still, turns = root.iter("circle")
    middle, radius = float(unit.get("cx")), float(unit.get("r"))
    assert float(still.get("cx")) == pytest.approx(middle + radius, abs=0.02)
    assert float(turns.get("cy")) == pytest.approx(middle - radius / 2, abs=0.02)


def test_names_are_escaped_everywhere():
    for chart in (
        lines([Line(NASTY, [0, 1], [0, 1])], NASTY, NASTY),
        bars([Bar(NASTY, 0.5, None, 0)], NASTY),
        matrix([NASTY], [NASTY], {NASTY: {NASTY: 1}}),
        circle([(1j, NASTY)], NASTY),
    ):
        parsed(chart)
    assert len(short("x" * 100)) <= 34
