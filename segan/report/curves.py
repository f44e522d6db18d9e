"""Curves as inline SVG: axes, labels, one line per run, and the numbers for a script to show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segan.report.html import Html, element, json_value

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34

# Points of a line; more do not show at this width.
MOST_POINTS = 240

# Ratio of largest to smallest value from which a positive quantity is drawn on a log scale.
_LOG_FROM = 60
NUM_COLORS = 6


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line.

    Attributes:
        name: Of the run.
        color: Number of its colour.
        points: (x, y) in the order of x; y is None where the value was not finite.
    """

    name: str
    color: int
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values to pixels of one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._at(self.low), self._at(self.high)
        return self.start + (self._at(value) - low) / (high - low) * (self.end - self.start)

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


def chart(title: str, series: Sequence[Series]) -> Html:
    """A figure of lines over images seen; nothing for lines without one value.

    Values are means of neighbours where there are more than `MOST_POINTS`.
    """
    series = [_thinned(each) for each in series]
    values = [y for each in series for _, y in each.points if y is not None]
    if not values:
        return Html("")
    x_end = max(x for each in series for x, _ in each.points)
    x = _Scale(0, x_end or 1, LEFT, WIDTH - RIGHT)
    y = _value_scale(values)
    drawing = element(
        "svg",
        *_grid(x, y),
        *(_line(each, x, y) for each in series),
        element("line", class_="cross", y1=TOP, y2=HEIGHT - BOTTOM, x1=0, x2=0, hidden=True),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_description(title, series),
        tabindex=0,
        data_chart=json_value(_numbers(series, x)),
    )
    unit = [element("span", "log scale", class_="unit")] if y.log else []
    return element(
        "figure", element("figcaption", title, *unit), drawing, _reading(), class_="chart"
    )


def legend(names: Sequence[str]) -> Html:
    """Which colour is which run."""
    items = (
        element("li", element("i", class_=f"swatch c{i % NUM_COLORS}"), name)
        for i, name in enumerate(names)
    )
    return element("ul", *items, class_="legend")


def interval_bar(value: float, interval: tuple[float, float] | None, color: str) -> Html:
    """A value in [0, 1] as a dot with its interval, on a line from 0 to 1."""
    at = [
        element("line", x1=0, x2=120, y1=8, y2=8, class_="rail"),
        *(element("line", x1=x, x2=x, y1=5, y2=11, class_="rail") for x in (0, 60, 120)),
    ]
    if interval:
        low, high = (round(120 * min(max(end, 0), 1), 1) for end in interval)
        at.append(element("line", x1=low, x2=high, y1=8, y2=8, class_=f"span {color}"))
    where = round(120 * min(max(value, 0), 1), 1)
    at.append(element("circle", cx=where, cy=8, r=3.5, class_=f"dot {color}"))
    return element("svg", *at, viewBox="-4 0 128 16", class_="bar", aria_hidden="true")


def shown(value: float) -> str:
    """A number in a few characters."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


# --- parts ---------------------------------------------------------------------------------------


def _reading() -> Html:
    return element("p", class_="reading", aria_live="polite")


def _description(title: str, series: Sequence[Series]) -> str:
    ends = [
        f"{each.name} from {shown(ys[0])} to {shown(ys[-1])}"
        for each in series
        if (ys := [y for _, y in each.points if y is not None])
    ]
    return f"{title} over images seen: {'; '.join(ends)}. Arrow keys read values."


def _thinned(series: Series) -> Series:
    size = -(-len(series.points) // MOST_POINTS)
    if size <= 1:
        return series
    chunks = [series.points[i : i + size] for i in range(0, len(series.points), size)]
    points: list[tuple[float, float | None]] = []
    for chunk in chunks:
        ys = [y for _, y in chunk if y is not None]
        points.append((chunk[-1][0], sum(ys) / len(ys) if ys else None))
    return Series(name=series.name, color=series.color, points=points)


def _value_scale(values: Sequence[float]) -> _Scale:
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_FROM:
        low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
        return _Scale(low, high, HEIGHT - BOTTOM, TOP, log=True)
    if low == high:
        low, high = low - abs(low) / 2, high + (abs(high) or 2) / 2
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    step = _step(high - low, 4)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return _Scale(low, high, HEIGHT - BOTTOM, TOP)


def _step(extent: float, count: int) -> float:
    """A round distance, 1, 2 or 5 times a power of ten, that divides `extent` in about `count`."""
    power = 10.0 ** math.floor(math.log10(extent / count))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= extent / count * (1 - 1e-9))


def _ticks(scale: _Scale, count: int) -> list[float]:
    if scale.log:
        low, high = round(math.log10(scale.low)), round(math.log10(scale.high))
        return [10.0**power for power in range(low, high + 1, -(-(high - low) // count) or 1)]
    step = _step(scale.high - scale.low, count)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _grid(x: _Scale, y: _Scale) -> list[Html]:
    parts = []
    for value in _ticks(y, 4):
        at = round(y(value), 1)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(element("text", shown(value), x=LEFT - 6, y=at + 3.5, class_="y"))
    for value in _ticks(x, 4):
        at = round(x(value), 1)
        parts.append(element("text", _count(value), x=at, y=HEIGHT - BOTTOM + 14, class_="x"))
    parts.append(
        element("text", "images seen", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, class_="x")
    )
    return parts


def _count(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _line(series: Series, x: _Scale, y: _Scale) -> Html:
    path, pen_down = [], False
    for at, value in series.points:
        if value is not None:
            path.append(f"{'L' if pen_down else 'M'}{x(at):.1f} {y(value):.1f}")
        pen_down = value is not None
    return element("path", d="".join(path), class_=f"line c{series.color % NUM_COLORS}")


def _numbers(series: Sequence[Series], x: _Scale) -> dict[str, object]:
    """For the script: of every line its name and points as [pixel, images, value]."""
    return {
        "width": WIDTH,
        "lines": [
            {
                "name": each.name,
                "points": [
                    [round(x(at), 1), at, None if value is None else float(f"{value:.4g}")]
                    for at, value in each.points
                ],
            }
            for each in series
        ],
    }
