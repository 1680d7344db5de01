"""Charts as SVG inside the page: lines, scores with intervals, a matrix, points in the unit circle.

Colours come from the page's style (classes ``c0`` to ``c5``), so that they fit a light and a dark screen. Every text goes
through markupsafe, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

COLOURS = 6
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 230, 52, 34, 10, 10
POINTS = 300  # of a line; more are not seen
LONG = 34  # characters of a name beside a chart


class Line(NamedTuple):
    """A line of a chart; a point that is not finite is a gap.

    Attributes:
        name: in the legend.
        x, y: of the points.
        low, high: of a band round it, empty for none.
        dashed: for a baseline.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


class Bar(NamedTuple):
    """A score in [0, 1] with its interval, None where it has none; `kind` is the number of its colour."""

    name: str
    value: float
    interval: tuple[float, float] | None
    kind: int


def lines(series: Sequence[Line], title: str, x_label: str) -> Markup:
    """Lines over a common axis, the last value of each in the legend; nothing where no point is finite."""
    series = [_thinned(line) for line in series]
    points = [(x, y) for line in series for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not points:
        return Markup("")
    bands = [y for line in series for y in (*line.low, *line.high) if math.isfinite(y)]
    x_axis = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([y for _, y in points] + bands, HEIGHT - BOTTOM, TOP)
    parts = [_grid(x_axis, y_axis, x_label)]
    for number, line in enumerate(series):
        colour = f"c{number % COLOURS}"
        if line.low:
            edge = list(zip(line.x, line.high, strict=True)) + list(zip(line.x, line.low, strict=True))[::-1]
            path = _path([(x, y) for x, y in edge if math.isfinite(y)], x_axis, y_axis)
            parts.append(Markup('<path class="band {}" d="{}Z"/>').format(colour, path))
        dash = " dashed" if line.dashed else ""
        path = _path(zip(line.x, line.y, strict=True), x_axis, y_axis)
        parts.append(
            Markup('<path class="line {}{}" d="{}"><title>{}</title></path>').format(
                colour, dash, path, line.name
            )
        )
        finite = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        if len(finite) == 1:  # a path of one point shows nothing
            [(x, y)] = finite
            dot = Markup('<circle class="{}" cx="{}" cy="{}" r="4"><title>{}</title></circle>')
            parts.append(dot.format(colour, _round(x_axis(x)), _round(y_axis(y)), line.name))
    legend = Markup("").join(_legend(number, line) for number, line in enumerate(series))
    return _figure(title, WIDTH, HEIGHT, parts, legend)


def bars(rows: Sequence[Bar], title: str) -> Markup:
    """Scores below each other in per cent, with their 95 % intervals as whiskers."""
    longest = max((len(short(row.name)) for row in rows), default=0)
    step, left = 26, max(190, 16 + 6.6 * longest)  # so that no name leaves the drawing
    height = step * len(rows) + 26
    axis = _Axis([0, 100], left, WIDTH - 16)
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/><text class="tick" x="{0}" y="{2}">{3}</text>')
        .format(_round(axis(tick)), height - 20, height - 6, tick)
        for tick in (0, 25, 50, 75, 100)
    ]  # fmt: skip
    for number, row in enumerate(rows):
        y, value = step * number + 14, 100 * row.value
        said = f"{row.name}: {value:.1f} %"
        mark = Markup('<rect class="bar c{}" x="{}" y="{}" width="{}" height="12"><title>{}</title></rect>')
        width = max(axis(value) - left, 0.5)
        parts.append(mark.format(row.kind, left, y - 6, _round(width), said))
        if row.interval is not None:
            low, high = (_round(axis(100 * edge)) for edge in row.interval)
            parts.append(
                Markup('<path class="whisker" d="M{0} {2}H{1}M{0} {3}v8M{1} {3}v8"/>').format(
                    low, high, y, y - 4
                )
            )
        parts.append(
            Markup('<text class="name" x="{}" y="{}">{}</text>').format(left - 8, y + 4, short(row.name))
        )
    return _figure(title, WIDTH, height, parts)


def matrix(names: Sequence[str], columns: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Markup:
    """What each class (row) was taken for (column), shaded by its share of the row."""
    cell = max(14, min(34, 300 // len(columns)))
    left, top = 130, 110
    parts = []
    for i, row in enumerate(names):
        own = counts.get(row, {})
        total = sum(own.values()) or 1
        y = top + cell * i
        parts.append(
            Markup('<text class="name" x="{}" y="{}">{}</text>').format(
                left - 5, y + cell / 2 + 4, short(row, 20)
            )
        )
        for j, column in enumerate(columns):
            count, corner = own.get(column, 0), left + cell * j
            parts.append(
                Markup('<rect class="cell {}" style="fill-opacity:{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
                .format("c0" if row == column else "c1", _round(count / total), corner, y, cell - 1, cell - 1, f"{row} taken for {column}: {count} of {total}")
            )  # fmt: skip
            if count and cell >= 20:
                parts.append(
                    Markup('<text class="count" x="{}" y="{}">{}</text>').format(
                        corner + cell / 2, y + cell / 2 + 4, count
                    )
                )
    for j, column in enumerate(columns):
        x = left + cell * j + cell / 2
        parts.append(
            Markup('<text class="column" transform="translate({} {}) rotate(-45)">{}</text>').format(
                x, top - 6, short(column, 18)
            )
        )
    size = left + cell * len(columns) + 60
    return _figure(
        "rows: true class; columns: what it was taken for", size, top + cell * len(names) + 6, parts
    )


def circle(points: Sequence[tuple[complex, str]], title: str) -> Markup:
    """Points in the plane beside the unit circle, each with what is said of it on pointing."""
    reach = max([1.1, *(1.1 * abs(value) for value, _ in points)])
    side, middle = 300, 150

    def place(value: float) -> float:
        return _round(middle + value / reach * (middle - 14))

    radius = _round((middle - 14) / reach)
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/><line class="grid" y1="{0}" y2="{0}" x1="0" x2="{1}"/>').format(middle, side),
        Markup('<circle class="unit" cx="{0}" cy="{0}" r="{1}"/>').format(middle, radius),
    ]  # fmt: skip
    for value, said in points:
        kind = 1 if abs(value.imag) > 1e-9 else 0
        parts.append(
            Markup('<circle class="dot c{}" cx="{}" cy="{}" r="5"><title>{}</title></circle>').format(
                kind, place(value.real), place(-value.imag), said
            )
        )
    return _figure(title, side, side, parts)


def short(name: str, most: int = LONG) -> str:
    """The name, its middle left out where it is long."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most - most // 2) :]}"


class _Axis:
    """Values to places on the drawing; both ends a little outside the values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
            low, high = low - max(abs(low), 1) / 2, high + max(abs(high), 1) / 2
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers, 1, 2 or 5 times a power of ten apart: the fewest that are three or more."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span))
        step = next(power * factor for factor in (1, 0.5, 0.2, 0.1) if span >= 2.5 * power * factor)
        first = math.ceil(self.low / step - 1e-9)
        return [step * k for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str) -> Markup:
    parts = []
    for value in y_axis.ticks():
        y = _round(y_axis(value))
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text class="name" x="{}" y="{}">{}</text>')
            .format(LEFT, WIDTH - RIGHT, LEFT - 5, y + 4, f"{value:.4g}", y=y)
        )  # fmt: skip
    for value in x_axis.ticks():
        parts.append(
            Markup('<text class="tick" x="{}" y="{}">{}</text>').format(
                _round(x_axis(value)), HEIGHT - BOTTOM + 14, f"{value:.4g}"
            )
        )
    parts.append(
        Markup('<text class="tick" x="{}" y="{}">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label
        )
    )
    return Markup("").join(parts)


def _path(points: Iterable[tuple[float, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    """The d of a path; a point that is not finite lifts the pen."""
    said, down = [], False
    for x, y in points:
        if not math.isfinite(y):
            down = False
            continue
        said.append(f"{'L' if down else 'M'}{_round(x_axis(x)):g} {_round(y_axis(y)):g}")
        down = True
    return "".join(said)


def _thinned(line: Line) -> Line:
    if len(line.x) <= POINTS:
        return line
    kept = np.linspace(0, len(line.x) - 1, POINTS).round().astype(int).tolist()

    def some(values: Sequence[float]) -> list[float]:
        return [values[place] for place in kept] if values else []

    return Line(line.name, some(line.x), some(line.y), some(line.low), some(line.high), line.dashed)


def _legend(number: int, line: Line) -> Markup:
    finite = [y for y in line.y if math.isfinite(y)]
    said = (
        " → ".join(f"{y:.4g}" for y in dict.fromkeys((finite[0], finite[-1]))) if finite else "nothing finite"
    )
    dash = " dashed" if line.dashed else ""
    return Markup('<span class="key"><i class="c{}{}"></i>{} <b>{}</b></span>').format(
        number % COLOURS, dash, short(line.name), said
    )


def _figure(
    title: str, width: float, height: float, parts: Sequence[Markup], legend: Markup | None = None
) -> Markup:
    return Markup(
        '<figure><figcaption>{0}</figcaption><svg viewBox="0 0 {1} {2}" style="max-width:{3}px" role="img" aria-label="{0}">'
        '{4}</svg><div class="legend">{5}</div></figure>'
    ).format(title, width, height, round(width * 1.35), Markup("").join(parts), legend or "")


def _round(value: float) -> float:
    return round(value, 2)
