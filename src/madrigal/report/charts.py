"""Charts as SVG elements of a page: curves, shares on top of each other, changes.

All lengths are points. Colors are CSS variables named by role, so that charts follow the page's theme; they stand in
attributes of their own, since the page's content policy forbids style attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, log10

from madrigal.report.curves import Curve, Dot, Ends, Panel
from madrigal.report.markup import Html, element, text

WIDTH, HEIGHT = 252.0, 144.0  # what a phone shows in full width, and desks side by side
DASHES = ("", "7 2.8", "2.1 2.1", "8.4 2.8 2.1 2.8")
DOTTED = "1 2"
INK, MUTED, RULE, SURFACE = "var(--ink)", "var(--muted)", "var(--rule)", "var(--surface)"
SERIES, QUIET = 8, -1
FONT, SMALL = 8.0, 7.5
LETTER = 0.56 * FONT  # width of a digit; fonts are the page's
TOP, RIGHT, BELOW = 6.0, 6.0, 28.0  # around what is drawn; below it are the numbers of the axis and its name


@dataclass(frozen=True, slots=True)
class Look:
    """How a curve looks: the number of its color (see `series`) and of its dashes."""

    color: int
    dash: int = 0


@dataclass(frozen=True, slots=True)
class Plot:
    """A rectangle of a chart, and the spans of data that it shows from end to end.

    Attributes:
        x, y: least and greatest number.
        left, right, top, bottom: the sides of the rectangle.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a pair of numbers lies."""
        across, up = ((n - low) / (high - low) for n, (low, high) in ((x, self.x), (y, self.y)))
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """A line through points; a tenth of a point is finer than a screen."""
        return "M" + "L".join("{:.1f} {:.1f}".format(*self.point(x, y)) for x, y in zip(xs, ys, strict=True))

    def area(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
        """What lies between two lines."""
        return self.path([*xs, *reversed(xs)], [*high, *reversed(low)]) + "Z"


def draw_panel(panel: Panel, look: Callable[[Curve], Look], several: bool, label: str, mark: str) -> Html:
    """Curves with their bands, held-out results as points with intervals, those of validation as open ones.

    Args:
        look: the look of each curve.
        several: whether the points are of several kinds of run, and have their colors.
        label: what the chart shows, in words, for those who cannot see it.
        mark: no other chart of the page has the same.
    """
    curves, dots = panel.curves, (*panel.dots, *panel.validations)
    xs = [x for curve in curves for x in curve.xs] + [dot.x for dot in dots]
    ys = [y for curve in curves for line in (curve.ys, curve.low, curve.high, curve.raw) for y in line]
    ys += [y for dot in dots for y in (dot.y, dot.low, dot.high)]
    share = panel.meaning.unit == "share"
    plot = _plot(_padded(xs, 0.02), (-0.03, 1.03) if share else _padded(ys, 0.08))
    parts = []
    for curve in curves:
        color, dash = series(look(curve).color), DASHES[look(curve).dash % len(DASHES)]
        if curve.low:
            band = plot.area(curve.xs, curve.low, curve.high)
            parts.append(element("path", {"d": band, "fill": color, "fill-opacity": "0.16"}))
        if curve.raw:
            parts.append(_line(plot.path(curve.xs, curve.raw), color, 0.6, opacity=0.28))
        parts.append(_line(plot.path(curve.xs, curve.ys), color, 1.4, dash))
        if len(curve.xs) == 1:
            parts.append(_disk(plot.point(curve.xs[0], curve.ys[0]), 1.75, color))
    for variant in dict.fromkeys(dot.variant for dot in panel.validations):
        own = [dot for dot in panel.validations if dot.variant == variant]
        parts.append(_line(plot.path([d.x for d in own], [d.y for d in own]), _dot_color(own[0], several), 0.8, DOTTED))
        parts += [_disk(plot.point(dot.x, dot.y), 2.25, SURFACE, _dot_color(dot, several)) for dot in own]
    for dot in panel.dots:
        color = _dot_color(dot, several)
        parts.append(_line(plot.path((dot.x, dot.x), (dot.low, dot.high)), color, 1.2))
        parts.append(_disk(plot.point(dot.x, dot.y), 2.25, color, SURFACE))
    return _chart(plot, [*_steps(plot), *_heights(plot), _clipped(plot, parts, mark)], label)


def _dot_color(dot: Dot, several: bool) -> str:
    return series(dot.variant + 1 if several else 0)


def draw_shares(shares: Mapping[str, Curve], colors: Mapping[str, int], label: str, mark: str) -> Html:
    """Shares on top of each other, the first one below."""
    steps = sorted({x for curve in shares.values() for x in curve.xs})
    columns = [[dict(zip(curve.xs, curve.ys, strict=True)).get(x, 0.0) for curve in shares.values()] for x in steps]
    if len(steps) == 1:  # an area needs two ends
        steps, columns = [steps[0], steps[0] + 1], columns * 2
    edges = list(zip(*(accumulate(column, initial=0.0) for column in columns), strict=True))
    plot = _plot((steps[0], steps[-1]), (0.0, max(1.0, *edges[-1])), WIDTH * 1.15, HEIGHT * 1.1)
    parts = [
        element("path", {"d": plot.area(steps, low, high), "fill": series(colors[name])} | _stroke(SURFACE, 0.8))
        for name, low, high in zip(shares, edges, edges[1:], strict=False)
    ]
    return _chart(plot, [*_steps(plot), *_heights(plot), _clipped(plot, parts, mark)], label)


def draw_changes(rows: Sequence[tuple[str, Ends, Ends]], label: str) -> Html:
    """For each name a row on a scale of percents: an open point before training, a full one after, with intervals."""
    left = LETTER * max(len(name) for name, _, _ in rows) + 6
    high = 36 + 20.0 * len(rows)
    plot = Plot((-2.0, 102.0), (len(rows) - 0.4, -0.6), left, WIDTH - RIGHT, TOP, high - BELOW)
    parts = [*_steps(plot, "percent")]
    for place, (name, before, after) in enumerate(rows):
        _, height = plot.point(0, place)
        parts.append(_words(name, left - 4, height + FONT / 3, "end"))
        parts.append(_line(plot.path((before[0], after[0]), (place, place)), MUTED, 1.0))
        for (mean, low, most), color, inside in ((before, MUTED, SURFACE), (after, series(1), series(1))):
            parts.append(_line(plot.path((low, most), (place, place)), color, 4.5, opacity=0.35))
            parts.append(_disk(plot.point(mean, place), 2.5, inside, color))
    return _chart(plot, parts, label)


def swatch(look: Look, width: float = 2.5) -> Html:
    """A short piece of a curve, for legends."""
    line = _line("M1 5H21", series(look.color), width, DASHES[look.dash % len(DASHES)])
    return element("svg", {"class": "swatch", "viewBox": "0 0 22 10", "aria-hidden": "true"}, line)


def described(panel: Panel, names: Sequence[str]) -> str:
    """What a chart shows, in words: where each curve begins and ends."""
    parts = []
    for name, curve in zip(names, panel.curves, strict=True):
        span = f"{curve.ys[0]:.3g} at step {curve.xs[0]:.0f}, {curve.ys[-1]:.3g} at step {curve.xs[-1]:.0f}"
        parts.append(f"{name}: {span}" if name else span)
    parts += [f"held out after {dot.x:.0f} steps: {dot.y:.3g}" for dot in panel.dots]
    parts += [f"validation after {dot.x:.0f} steps: {dot.y:.3g}" for dot in panel.validations]
    return f"{panel.meaning.title}. {'; '.join(parts)}."


def series(number: int) -> str:
    """The color of a series: 0 is ink, QUIET that of rules, from 1 on they go round."""
    return RULE if number == QUIET else f"var(--series-{(number - 1) % SERIES + 1 if number else 0})"


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high` with one step between them, `most` steps or fewer.

    >>> ticks(-0.03, 1.03, 4), ticks(0.0, 59.0, 5, whole=True), ticks(0.0, 2.0, 5, whole=True)
    ([0.0, 0.5, 1.0], [0.0, 20.0, 40.0], [0.0, 1.0, 2.0])
    """
    least = (high - low) / most
    power = 10.0 ** floor(log10(least))
    factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(factor * power for factor in factors if factor * power >= least * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    return [n * step for n in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _padded(values: Sequence[float], margin: float) -> tuple[float, float]:
    """The span of some numbers, a little wider; never empty."""
    low, high = min(values), max(values)
    pad = (high - low) * margin or abs(low) * 0.05 or 0.05
    return low - pad, high + pad


def _plot(x: tuple[float, float], y: tuple[float, float], width: float = WIDTH, height: float = HEIGHT) -> Plot:
    """A plot with room for its numbers at the left and below."""
    left = LETTER * max(len(_figure(tick)) for tick in ticks(*y, 5)) + 6
    return Plot(x, y, left, width - RIGHT, TOP, height - BELOW)


def _steps(plot: Plot, name: str = "training step") -> list[Html]:
    """The axis below a plot."""
    return [
        _line(f"M{plot.left:.1f} {plot.bottom:.1f}H{plot.right:.1f}", RULE, 0.8),
        *(
            _words(_figure(tick), plot.point(tick, 0)[0], plot.bottom + FONT + 3, "middle")
            for tick in ticks(*plot.x, 5, whole=True)
        ),
        _words(name, (plot.left + plot.right) / 2, plot.bottom + FONT + SMALL + 7, "middle", SMALL),
    ]


def _heights(plot: Plot) -> list[Html]:
    """Lines across a plot, each with its number."""
    parts = []
    for tick in ticks(*plot.y, 5):
        _, height = plot.point(0, tick)
        parts.append(_line(f"M{plot.left:.1f} {height:.1f}H{plot.right:.1f}", RULE, 0.6))
        parts.append(_words(_figure(tick), plot.left - 4, height + FONT / 3, "end"))
    return parts


def _figure(value: float) -> str:
    return f"{value:.12g}"


def _chart(plot: Plot, parts: Iterable[Html], label: str) -> Html:
    box = f"0 0 {plot.right + RIGHT:.1f} {plot.bottom + BELOW:.1f}"
    return element("svg", {"viewBox": box, "role": "img", "aria-label": label}, *parts)


def _clipped(plot: Plot, parts: Iterable[Html], mark: str) -> Html:
    """What is drawn, without what lies beyond the plot; a point on its edge is whole."""
    inside = {"x": plot.left - 3, "y": plot.top - 3, "width": plot.right - plot.left + 6}
    inside["height"] = plot.bottom - plot.top + 6
    frame = element("rect", {key: f"{value:.1f}" for key, value in inside.items()})
    return element("g", {"clip-path": f"url(#{mark})"}, element("clipPath", {"id": mark}, frame), *parts)


def _line(path: str, color: str, width: float, dash: str = "", opacity: float = 1.0) -> Html:
    look = {"d": path, "fill": "none"} | _stroke(color, width)
    look |= {"stroke-dasharray": dash} if dash else {"stroke-linejoin": "round"}
    return element("path", look | ({"stroke-opacity": str(opacity)} if opacity < 1 else {}))


def _stroke(color: str, width: float) -> dict[str, str]:
    return {"stroke": color, "stroke-width": str(width)}


def _disk(center: tuple[float, float], radius: float, color: str, edge: str = "none") -> Html:
    x, y = center
    place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": str(radius)}
    return element("circle", place | {"fill": color} | _stroke(edge, 1.0))


def _words(content: str, x: float, y: float, anchor: str, size: float = FONT) -> Html:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    return element("text", place | {"font-size": str(size), "fill": MUTED}, text(content))
