"""Intervals for means; pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """The percentile bootstrap interval of a mean: resample with replacement, take the quantiles of the means.

    Deterministic for a seed. One value gives an interval of width 0, which says nothing: state the count beside it.

        >>> bootstrap([1.0, 1.0, 1.0])
        Interval(mean=1.0, low=1.0, high=1.0)

    Raises:
        ValueError: if there are no values.

    References:
        Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    data = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(values), (resamples, len(values)), generator=generator)
    means = data[picks].mean(dim=1)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(data.mean()), low, high)
