"""Incentives: every transition of the table with its sign, and what must hold of any discussion."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from madrigal.algorithms.influence import incentives, others_right

ALPHA, BETA = (1.0, 10.0), (100.0, 1000.0)
R, W = True, False
TABLES = st.integers(1, 5).flatmap(
    lambda agents: st.lists(st.lists(st.booleans(), min_size=agents, max_size=agents), min_size=1, max_size=5)
)


def right(*rows: list[bool]) -> torch.Tensor:
    return torch.tensor(rows)


# One agent with two others: its own answer before and after, the others' before and after.
BACK = [
    ("found by oneself", (W, R), [W, W], +1.0),
    ("persuaded by the right ones", (W, R), [R, R], +10.0),
    ("lost by oneself", (R, W), [R, R], -1.0),
    ("persuaded by the wrong ones", (R, W), [W, W], -10.0),
    ("a tie leads nobody: found", (W, R), [R, W], +1.0),
    ("a tie leads nobody: misled", (R, W), [R, W], -10.0),
    ("stays right", (R, R), [W, W], 0.0),
    ("stays wrong", (W, W), [R, R], 0.0),
]
AHEAD = [
    ("wrong and yet useful", W, ([W, W], [R, R]), +100.0),
    ("persuaded them", R, ([W, W], [R, R]), +1000.0),
    ("right and yet of no use", R, ([R, R], [W, W]), -100.0),
    ("persuaded them wrongly", W, ([R, R], [W, W]), -1000.0),
    ("from a tie to right", R, ([R, W], [R, R]), +1000.0),
    ("from right to a tie", W, ([R, R], [R, W]), -1000.0),
    ("they stay right", R, ([R, R], [R, R]), 0.0),
    ("from wrong to a tie", R, ([W, W], [R, W]), 0.0),
]


@pytest.mark.parametrize(("own", "others", "bonus"), [row[1:] for row in BACK], ids=[row[0] for row in BACK])
def test_changes_of_one_s_own_answer(own: tuple[bool, bool], others: list[bool], bonus: float) -> None:
    found = incentives(right([own[0], *others], [own[1], *others]), alpha=ALPHA)
    assert found[:, 0].tolist() == [0.0, bonus]


@pytest.mark.parametrize(("own", "others", "bonus"), [row[1:] for row in AHEAD], ids=[row[0] for row in AHEAD])
def test_changes_of_the_others(own: bool, others: tuple[list[bool], list[bool]], bonus: float) -> None:
    found = incentives(right([own, *others[0]], [own, *others[1]]), beta=BETA)
    assert found[:, 0].tolist() == [bonus, 0.0]


def test_the_first_round_earns_by_what_it_leads_to() -> None:
    """Two agents and two rounds, where the public code pays nobody: one persuades, the other is persuaded."""
    found = incentives(right([R, W], [R, R]), ALPHA, BETA)
    assert found.tolist() == [[1000.0, 0.0], [0.0, 10.0]]


def test_three_rounds_pay_step_by_step() -> None:
    found = incentives(right([W, W], [R, W], [R, R]), ALPHA, BETA)
    assert found.tolist() == [[0.0, 100.0], [1.0 + 1000.0, 0.0], [0.0, 10.0]]


def test_an_agent_alone_finds_and_loses_by_itself() -> None:
    assert incentives(right([W], [R], [W]), ALPHA, BETA).tolist() == [[0.0], [1.0], [-1.0]]


def test_more_than_half_of_the_others() -> None:
    assert others_right(right([R, W, W, R, R])).tolist() == [[False, True, True, False, False]]


@given(TABLES.map(torch.tensor))
def test_without_weights_nothing_is_paid(table: torch.Tensor) -> None:
    assert not incentives(table).any()


@given(TABLES.map(torch.tensor))
def test_nothing_is_paid_where_nothing_changes(table: torch.Tensor) -> None:
    still = table[:1].repeat(3, 1)
    assert not incentives(still, ALPHA, BETA).any()


@given(TABLES.map(torch.tensor))
def test_every_change_belongs_to_exactly_one_line(table: torch.Tensor) -> None:
    """With all weights 1 a change of one's own answer pays +1 or -1, whatever the others do: there is no dead zone."""
    own = incentives(table, alpha=(1.0, 1.0))
    steps = table.double().diff(dim=0)
    assert torch.equal(own[1:], steps) and not own[0].any()
    others = incentives(table, beta=(1.0, 1.0))
    assert torch.equal(others[:-1], others_right(table).double().diff(dim=0)) and not others[-1].any()


@given(TABLES.map(torch.tensor), st.randoms(use_true_random=False))
def test_the_order_of_agents_does_not_matter(table: torch.Tensor, random: object) -> None:
    order = list(range(table.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert torch.equal(incentives(table[:, order], ALPHA, BETA), incentives(table, ALPHA, BETA)[:, order])
