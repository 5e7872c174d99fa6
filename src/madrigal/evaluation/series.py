"""Moving means of one key of a run's records; pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, pstdev
from typing import Any

LARGEST = 1e100  # numbers beyond are nothing that was measured, and their sums and squares are infinite


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of one window, and its last step."""

    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """A measure in the order of its steps.

    Attributes:
        points: the finite values, each with its step.
        width: values in a window; 0 where the run is too short for any.
    """

    points: tuple[tuple[int, float], ...]
    width: int

    @property
    def means(self) -> list[Mean]:
        """The mean of every window, the first one first; none where there are fewer values than one window holds."""
        if not 0 < self.width <= len(self.points):
            return []
        sums = [0.0, *accumulate(value for _, value in self.points)]
        ends = range(self.width, len(sums))
        return [Mean(self.points[end - 1][0], (sums[end] - sums[end - self.width]) / self.width) for end in ends]

    @property
    def start(self) -> float:
        """The mean of the first window; not a number where there is none, so that no comparison with it holds."""
        return self.means[0].value if self.means else math.nan

    def above(self, bar: float) -> Mean | None:
        """The first window whose mean exceeds a bar."""
        return next((mean for mean in self.means if mean.value > bar), None)

    def below(self, bar: float) -> Mean | None:
        """The first window whose mean falls short of a bar."""
        return next((mean for mean in self.means if mean.value < bar), None)

    def moved(self, standard_errors: float) -> float:
        """How far the last window lies above the first, as a part of the larger of the two.

            (m1 - m0) / max(|m0|, |m1|)          0 where |m1 - m0| is at most that many standard errors

        >>> Series(tuple(enumerate([1.0, 1.0, 2.0, 2.0])), width=2).moved(standard_errors=3)
        0.5
        """
        if not 0 < self.width <= len(self.points) // 2:
            return 0.0
        values = [value for _, value in self.points]
        first, last = values[: self.width], values[-self.width :]
        change, error = fmean(last) - fmean(first), math.hypot(pstdev(first), pstdev(last)) / math.sqrt(self.width)
        scale = max(abs(fmean(first)), abs(fmean(last)))
        return change / scale if scale and abs(change) > standard_errors * error else 0.0


def number_in(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number of a record; None where there is none: files may hold anything.

    >>> number_in({"a": 1, "b": "1", "c": 10**400}, "a"), number_in({"b": "1"}, "b"), number_in({"c": 10**400}, "c")
    (1.0, None, None)
    """
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        return None
    return float(value)


def series(steps: Sequence[Mapping[str, Any]], key: str, width: int) -> Series:
    """The values of one key of steps.jsonl; steps that lack a finite number there are left out."""
    pairs = ((number_in(record, "step"), number_in(record, key)) for record in steps)
    return Series(tuple((int(step), value) for step, value in pairs if step is not None and value is not None), width)


def match_keys(steps: Sequence[Mapping[str, Any]], pattern: str, width: int) -> Iterator[tuple[str, Series]]:
    """The series of the keys that match a pattern such as `agent/*/tokens`, with what the star stands for."""
    before, _, after = pattern.partition("*")
    for key in dict.fromkeys(key for record in steps for key in record):
        name = key.removeprefix(before).removesuffix(after)
        if name and before + name + after == key and "/" not in name:
            yield name, series(steps, key, width)
