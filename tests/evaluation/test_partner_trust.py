"""Trust in a partner: a gate that closes on a liar, opens again, and costs little where nobody lies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.evaluation.trust import Trust, first, gates, kept
from madrigal.types import ConfigError

HELP = Trust(estimate=0.5, rate=0.1)


def test_the_time_to_distrust_is_that_of_the_running_mean() -> None:
    """Words worth +0.5 so far and -0.5 from now on: the estimate is 0.9^n - 0.5, below 0 after 7 episodes."""
    gate = gates(HELP, [0.0] * 40, [0.5] * 40)
    assert first(gate, 0, open=False) == 7 and not any(gate[7:])


def test_who_turns_honest_is_heard_again() -> None:
    heard, unheard = [0.0] * 40 + [1.0] * 40, [0.5] * 80
    gate = gates(HELP, heard, unheard)
    assert first(gate, 40, open=True) == 7  # as far back
    assert kept(gate, heard, unheard) == pytest.approx((7 * 0 + 33 * 0.5 + 7 * 0.5 + 33 * 1) / 80)


def test_without_lies_nobody_is_distrusted_for_long() -> None:
    """Words that help one time in two, and never harm."""
    rng = random.Random(0)
    heard = [float(rng.random() < 0.75) for _ in range(400)]
    unheard = [min(one, float(rng.random() < 0.3)) for one in heard]
    assert all(gates(HELP, heard, unheard))


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1), st.floats(0.01, 1))
def test_the_first_gate_is_the_prior_and_the_future_is_unknown(pairs: list[tuple[float, float]], rate: float) -> None:
    heard, unheard = map(list, zip(*pairs, strict=True))
    trust = Trust(rate=rate)
    gate = gates(trust, heard, unheard)
    assert gate[0] == trust.hears and len(gate) == len(pairs)
    assert gates(trust, [*heard[:-1], 9.0], [*unheard[:-1], -9.0]) == gate
    assert min(*heard, *unheard) - 1e-9 <= kept(gate, heard, unheard) <= max(*heard, *unheard) + 1e-9


def test_settings_are_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"trust\.rate: expected above 0 to 1, got 0"):
        Trust(rate=0)
    with pytest.raises(ConfigError, match="trust: expected finite numbers, got nan"):
        Trust(estimate=float("nan"))
