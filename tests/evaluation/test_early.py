"""Alarms of single steps: raised once, from the second step on, and never in a run that learns."""

from __future__ import annotations

import math
from typing import Any

import pytest

from madrigal.evaluation.early import EarlyAlarms

Record = dict[str, Any]


def raised(records: list[Record], best: float = 1.0) -> list[tuple[str, int | None]]:
    look = EarlyAlarms(best)
    return [(alarm.name, alarm.step) for n, record in enumerate(records) for alarm in look({"step": n, **record})]


def of_policy(key: str, *values: float) -> list[Record]:
    return [{f"update/ann/{key}": value} for value in values]


def test_a_run_that_learns_is_silent() -> None:
    learns = [
        {
            "reward": 0.3 + n / 40,
            "group/zero_advantage_fraction": 1.0 if n % 3 else 0.2,
            "update/ann/kl": 0.04 * n,
            "update/ann/entropy": 2.0 - 0.08 * n,
        }
        for n in range(20)
    ]
    assert raised(learns) == []


def test_a_wrecked_model_is_seen_within_three_steps() -> None:
    """The figures of a model of 135M parameters under the learning rate of a starter model."""
    wrecked = [{"update/ann/kl": kl, "update/ann/entropy": h} for kl, h in ((0.0, 2.9), (0.6, 4.0), (1.3, 4.3))]
    assert raised(wrecked) == [("entropy jump", 1), ("KL jump", 2)]


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("kl", (0.1, 0.5, 0.9), []),  # 0.4 a step
        ("kl", (0.1, 0.7, 1.3, 1.9), [("KL jump", 2)]),  # once
        ("kl", (0.1, 0.9, 0.1, 0.9, 0.1), []),  # single tokens
        ("kl", (1.6,), []),
        ("kl", (1.6, 1.6), [("KL jump", 1)]),
        ("entropy", (2.9, 3.3, 3.8), []),
        ("entropy", (2.9, 3.5, 4.3), [("entropy jump", 2)]),  # 4.3 > 1.35 * 2.9
        ("entropy", (0.01, 0.3), []),  # many times as much, but little
        ("entropy", (2.0, 0.9), [("entropy jump", 1)]),
        ("entropy", (2.0, 1.2, 0.7, 0.4), []),  # learns fast
        ("kl", (math.nan, 9e99, 9e99, math.inf), [("KL jump", 2)]),
    ],
)
def test_jumps(key: str, values: tuple[float, ...], expected: list[tuple[str, int]]) -> None:
    assert raised(of_policy(key, *values)) == expected


def test_three_steps_in_a_row_without_a_signal() -> None:
    equal = [1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0]
    assert raised([{"group/zero_advantage_fraction": share} for share in equal]) == [("nothing to learn from", 5)]


@pytest.mark.parametrize(
    ("record", "best", "alarmed"),
    [
        ({"reward": 1.0}, 1.0, False),
        ({"reward": 7.0}, 1.0, True),
        ({"reward": 7.0}, math.inf, False),
        ({"reward": 3.0, "component/return_percent": 75.0}, 1.0, False),  # the task's own figure counts
        ({"component/return_percent": 2450.0}, math.inf, True),
    ],
)
def test_returns_beyond_the_best(record: Record, best: float, alarmed: bool) -> None:
    assert bool(raised([record], best)) is alarmed


def test_records_of_any_kind_break_nothing() -> None:
    odd: list[Record] = [
        {},
        {"update/ann/kl": "1", "group/zero_advantage_fraction": None, "reward": 10**400, "update/x": 1},
    ]
    assert raised(odd) == []
