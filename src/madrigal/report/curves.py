"""From steps to curves: one panel for each thing measured, one curve for each agent and each kind of run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TypeGuard

from madrigal.report.meanings import MEANINGS, SCHEME, Meaning, meaning, place
from madrigal.runs.read import Record, Run, is_number, order
from madrigal.runs.variants import Variant

POINTS = 200  # on one curve: more than a small chart can show
WINDOWS = 25  # a curve is smoothed over 1/25 of its steps
PANELS = 100  # on one page: nobody looks at more
CURVES = 40  # in one panel
LARGEST = 1e100
RETURN = "component/return_percent"
SPEEDS = {"tokens_per_second": "tokens a second", "response_seconds": "response time, s"}

Series = dict[int, float]
Ends = tuple[float, float, float]  # mean, low, high


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: means over runs, smoothed over steps.

    Attributes:
        name: whose it is; empty where the whole team is meant.
        variant: the place of its kind of run among the others.
        low, high: least and greatest of several runs at each point; empty for one run.
        raw: the same before smoothing, where there is one run and smoothing changed it.
    """

    name: str
    variant: int
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    raw: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Dot:
    """An evaluation after `x` steps, on held-out or validation examples, and the ends of its interval."""

    variant: int
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: something measured over the steps of training."""

    pattern: str
    meaning: Meaning
    curves: tuple[Curve, ...]
    dots: tuple[Dot, ...] = ()
    validations: tuple[Dot, ...] = ()


def panels(kinds: Sequence[Variant]) -> list[Panel]:
    """At most PANELS panels, one for each measure but schemes of cooperation; known measures come first."""
    measured = [[_series(run) for run in kind.runs] for kind in kinds]
    keys = dict.fromkeys(key for runs in measured for run in runs for key in run)
    patterns: dict[str, list[str]] = {RETURN: []}
    for key in keys:
        patterns.setdefault(place(key)[0], []).append(key)
    patterns.pop(SCHEME, None)
    ordered = sorted(patterns, key=lambda pattern: pattern not in MEANINGS)
    drawn = (_panel(pattern, patterns[pattern][:CURVES], kinds, measured) for pattern in ordered)
    return list(islice((panel for panel in drawn if panel.curves or panel.dots or panel.validations), PANELS))


def _panel(
    pattern: str, keys: Sequence[str], kinds: Sequence[Variant], measured: Sequence[Sequence[Mapping[str, Series]]]
) -> Panel:
    curves = [curve for n, runs in enumerate(measured) for key in keys for curve in _curve(key, n, runs)]
    dots = [dot for n, kind in enumerate(kinds) for dot in _dots(pattern, n, [(r, r.evaluations) for r in kind.runs])]
    chosen = [dot for n, kind in enumerate(kinds) for dot in _dots(pattern, n, [(r, r.validations) for r in kind.runs])]
    return Panel(pattern, meaning(pattern), tuple(curves), tuple(dots), tuple(chosen))


def shares(kind: Variant) -> dict[str, Curve]:
    """The share of each scheme of cooperation over the steps, by its name."""
    runs = [_series(run) for run in kind.runs]
    names = dict.fromkeys(key for run in runs for key in run if place(key)[0] == SCHEME)
    for run in runs:  # a scheme that a step does not name was not seen in it
        steps = dict.fromkeys(step for key in names for step in run.get(key, {}))
        run |= {key: {step: run.get(key, {}).get(step, 0.0) for step in steps} for key in names}
    return {place(key)[1]: curve for key in names for curve in _curve(key, 0, runs)}


def agents(runs: Sequence[Run]) -> list[str]:
    """Every agent that steps or transcripts speak of, in their order."""
    keys = dict.fromkeys(key for run in runs for line in run.steps for key in line.record if key.startswith("agent/"))
    spoken = (turn["agent"] for run in runs for line in run.episodes for turn in line.record["turns"])
    return list(dict.fromkeys([*(key.split("/")[1] for key in keys), *spoken]))


def window(steps: int) -> int:
    """The number of steps that smoothing averages over; odd, so that a curve is not shifted."""
    return max(1, steps // WINDOWS) | 1


def _series(run: Run) -> dict[str, Series]:
    """Every number that steps recorded, by key and step; what is not finite is a gap."""
    series: dict[str, Series] = {}
    for line in run.steps:
        for key, value in line.record.items():
            if key != "step" and is_measure(value):
                series.setdefault(key, {})[line.record["step"]] = value
    return series


def _curve(key: str, variant: int, runs: Sequence[Mapping[str, Series]]) -> Iterator[Curve]:
    series = [run[key] for run in runs if run.get(key)]
    if not series:
        return
    width = window(max(map(len, series)))
    smooth = [smoothed(values, width) for values in series]
    steps = thinned(sorted(set[int]().union(*smooth)))
    at = [[values[step] for values in smooth if step in values] for step in steps]
    several = len(series) > 1
    yield Curve(
        name=place(key)[1],
        variant=variant,
        xs=tuple(map(float, steps)),
        ys=tuple(map(fmean, at)),
        low=tuple(map(min, at)) if several else (),
        high=tuple(map(max, at)) if several else (),
        raw=tuple(series[0][step] for step in steps) if not several and width > 1 else (),
    )


def smoothed(series: Series, width: int) -> Series:
    """The mean over the `width` steps around each step, fewer at both ends.

    >>> smoothed({0: 0.0, 1: 3.0, 2: 0.0, 3: 3.0}, 3)
    {0: 1.5, 1: 1.0, 2: 2.0, 3: 1.5}
    """
    if width == 1:
        return series
    steps = sorted(series)
    sums = [0.0]
    for step in steps:
        sums.append(sums[-1] + series[step])
    mean = {}
    for step in steps:
        first, last = bisect_left(steps, step - width // 2), bisect_left(steps, step + width // 2 + 1)
        mean[step] = (sums[last] - sums[first]) / (last - first)
    return mean


def thinned(steps: Sequence[int]) -> list[int]:
    """At most POINTS of the steps, evenly, the last one among them."""
    stride = -(-len(steps) // POINTS)
    return list(steps[::-1][:: stride or 1][::-1])


def _dots(pattern: str, variant: int, evaluated: Sequence[tuple[Run, Mapping[str, Record]]]) -> list[Dot]:
    """The evaluations of a component, at the steps where they were made; those of unknown names at the end."""
    if not pattern.startswith("component/"):
        return []
    by_time: dict[tuple[int, int], list[Ends]] = {}  # before and after a warm start no step was made
    for run, evaluations in evaluated:
        for when, result in evaluations.items():
            ends = held_out(result, pattern.removeprefix("component/"))
            stage, step = order(when)
            if ends and all(map(is_measure, ends)):
                by_time.setdefault((stage, step if stage < 2 else run.made), []).append(ends)
    return [Dot(variant, step, *together(ends)) for (_, step), ends in sorted(by_time.items())]


def is_measure(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number that can be drawn; 1e308 is none, since scales around it overflow."""
    return is_number(value) and abs(value) < LARGEST


def together(values: Sequence[Ends]) -> Ends:
    """One run's mean and interval as they are; of several runs the mean of their means, the least and the greatest."""
    if len(values) == 1:
        return values[0]
    means = [mean for mean, _, _ in values]
    return fmean(means), min(means), max(means)


def held_out(result: Mapping[str, object], name: str) -> Ends | None:
    """Mean and interval of a component, the return or a speed in an evaluation; None where it has none of that name."""
    parts, intervals = result.get("components"), result.get("intervals")
    if name == "return_percent":
        ends = [result.get(key) for key in ("return_percent", "low", "high")]
    elif isinstance(parts, dict) and name in parts:
        interval = intervals.get(name) if isinstance(intervals, dict) else None
        whole = isinstance(interval, list) and len(interval) == 2 and all(map(is_number, interval))
        ends = [parts[name], *(interval if whole and interval else [parts[name]] * 2)]
    else:
        speed = result.get(name) if name in SPEEDS else None
        ends = [speed or None] * 3  # speeds have no interval of their own, and 0 where nothing was timed
    mean, low, high = ends
    if is_number(mean) and is_number(low) and is_number(high):
        return float(mean), float(low), float(high)
    return None
