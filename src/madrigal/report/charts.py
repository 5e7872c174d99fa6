"""Panels drawn as SVG by matplotlib, with names in place of colours.

Knows: matplotlib, which is imported here only. Does not know: runs, what is measured, which colours a page has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from madrigal.report.curves import Curve, Panel
from madrigal.report.svg import MUTED, RULE, SURFACE, inline, series, variable
from madrigal.types import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ends = tuple[float, float, float]  # mean, low, high
WIDTH, HEIGHT = 3.5, 2.0  # inches of 72 points: what a phone shows in full width, and desks side by side
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


@dataclass(frozen=True, slots=True)
class Look:
    """How a curve looks: the number of its colour (see svg.series) and of its dashes."""

    colour: int
    dash: int = 0


def check_matplotlib() -> None:
    """Finds out before any file is read.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("report: matplotlib is not installed; pip install 'madrigal[report]'") from error


def draw_panel(panel: Panel, look: Callable[[Curve], Look], several: bool, label: str, mark: str) -> str:
    """Curves with their bands, and held-out results as points with intervals.

    Args:
        look: the look of each curve.
        several: whether the points are of several kinds of run, and have their colours.
        label: what the chart shows, in words, for those who cannot see it.
        mark: no other chart of the page has the same.
    """
    with _axes() as (axes, finish):
        for curve in panel.curves:
            own = look(curve)
            colour, dash = series(own.colour), DASHES[own.dash % len(DASHES)]
            if curve.low:
                axes.fill_between(curve.xs, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
            if curve.raw:
                axes.plot(curve.xs, curve.raw, color=colour, alpha=0.28, linewidth=0.6)
            axes.plot(curve.xs, curve.ys, color=colour, linestyle=dash, linewidth=1.4, solid_capstyle="round")
            if len(curve.xs) == 1:
                axes.plot(curve.xs, curve.ys, color=colour, marker="o", markersize=3.5)
        for dot in panel.dots:
            colour = series(dot.variant + 1 if several else 0)
            axes.plot((dot.x, dot.x), (dot.low, dot.high), color=colour, linewidth=1.2)
            axes.plot([dot.x], [dot.y], "o", color=colour, markersize=4.5, markeredgecolor=SURFACE, markeredgewidth=0.8)
        if panel.meaning.unit == "share":
            axes.set_ylim(-0.03, 1.03)
        return inline(finish(), label, mark)


def draw_shares(shares: Mapping[str, Curve], colours: Mapping[str, int], label: str, mark: str) -> str:
    """Shares on top of each other, the first one below."""
    from matplotlib.ticker import MultipleLocator

    names = list(shares)
    steps = sorted({x for curve in shares.values() for x in curve.xs})
    heights = [[dict(zip(curve.xs, curve.ys, strict=True)).get(x, 0.0) for x in steps] for curve in shares.values()]
    if len(steps) == 1:  # an area needs two ends
        steps, heights = [steps[0], steps[0] + 1], [[height[0]] * 2 for height in heights]
    with _axes(1.15, 2.2) as (axes, finish):
        axes.stackplot(
            steps, heights, colors=[series(colours[name]) for name in names], edgecolor=SURFACE, linewidth=0.8
        )
        axes.set_xlim(steps[0], steps[-1])
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
        axes.set_ylim(0, max(1.0, *(sum(column) for column in zip(*heights, strict=True))))
        return inline(finish(), label, mark)


def draw_changes(rows: Sequence[tuple[str, Ends, Ends]], label: str, mark: str) -> str:
    """For each name a row on a scale of percents: an open point before training, a full one after, with intervals."""
    with _axes(high=0.55 + 0.28 * len(rows)) as (axes, finish):
        for place, (_, before, after) in enumerate(rows):
            axes.plot((before[0], after[0]), (place, place), color=MUTED, linewidth=1.0, zorder=1)
            for (mean, low, high), colour, inside in ((before, MUTED, SURFACE), (after, series(1), series(1))):
                axes.plot((low, high), (place, place), color=colour, alpha=0.35, linewidth=4.5, zorder=2)
                axes.plot([mean], [place], "o", color=colour, markersize=5, markerfacecolor=inside, zorder=3)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("percent", color=MUTED, fontsize=7.5)
        return inline(finish(), label, mark)


def swatch(look: Look, width: float = 2.5) -> str:
    """A short piece of a curve, for legends."""
    dash = DASHES[look.dash % len(DASHES)]
    pattern = "" if dash == "solid" else f' stroke-dasharray="{" ".join(str(1.4 * length) for length in dash[1])}"'
    colour = variable(series(look.colour))
    line = f'<path d="M1 5H21" fill="none" stroke="{colour}" stroke-width="{width}"{pattern}></path>'
    return f'<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">{line}</svg>'


@contextmanager
def _axes(wide: float = 1.0, high: float = HEIGHT) -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Quiet axes to draw on, and what makes them SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Text stays text, and a name with dollar signs is no formula.
    with matplotlib.rc_context({"svg.fonttype": "none", "text.parse_math": False, "font.size": 8.0}):
        figure = Figure(figsize=(WIDTH * wide, high), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        axes = figure.subplots()
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(RULE)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelcolor=MUTED, pad=4)
        axes.set_xlabel("training step", color=MUTED, fontsize=7.5)
        axes.margins(x=0.02, y=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.ticklabel_format(axis="y", useOffset=False)

        def finish() -> str:
            out = StringIO()
            canvas.print_svg(out)  # type: ignore[no-untyped-call]
            return out.getvalue()

        yield axes, finish


def described(panel: Panel, names: Sequence[str]) -> str:
    """What a chart shows, in words: where each curve begins and ends."""
    parts = []
    for name, curve in zip(names, panel.curves, strict=True):
        span = f"{curve.ys[0]:.3g} at step {curve.xs[0]:.0f}, {curve.ys[-1]:.3g} at step {curve.xs[-1]:.0f}"
        parts.append(f"{name}: {span}" if name else span)
    parts += [f"held out after {dot.x:.0f} steps: {dot.y:.3g}" for dot in panel.dots]
    return f"{panel.meaning.title}. {'; '.join(parts)}."
