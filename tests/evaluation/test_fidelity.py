"""Rank correlation by hand, and messages whose worth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.play import judge_of
from madrigal.evaluation.cooperation import EvalSetup
from madrigal.evaluation.fidelity import fidelity, leave_one_out, spearman
from madrigal.evaluation.statistics import ranks
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.types import Completion, ConfigError, Example

AGENTS = ("ann", "bob")
EXAMPLES = tuple(Example(f"x{n}", {}) for n in range(12))


def test_ranks_of_equal_values_are_shared() -> None:
    assert ranks([3.0, 1.0, 2.0]) == [3.0, 1.0, 2.0]
    assert ranks([7.0, 7.0, 0.0, 7.0]) == [3.0, 3.0, 1.0, 3.0]


def test_rank_correlation_by_hand() -> None:
    """Ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 * 4 / (5 * 24) = 0.8."""
    assert spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
    # Ranks 1.5 1.5 3 against 1 2 3: (0.5 * 1 + 1 * 1) / sqrt(1.5 * 2).
    assert spearman([0, 0, 1], [1, 2, 3]) == pytest.approx(1.5 / 3**0.5)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 1, 1], [3, 2, 1]) == 0.0


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_only_the_order_counts(values: list[float]) -> None:
    stretched = [value**3 for value in values]
    if len(set(stretched)) == len(set(values)):
        assert spearman(values, stretched) == pytest.approx(1.0 if len(set(values)) > 1 else 0.0)


def test_credit_is_the_distance_from_the_others() -> None:
    assert leave_one_out([1.0, 0.0, 5.0]) == [-1.5, -3.0, 4.5]


def trial(
    reward: Callable[[Mapping[str, str]], float], topology: Topology, examples: Sequence[Example] = EXAMPLES
) -> EvalSetup:
    """Everybody says a number from 0 to 99, drawn by its seed."""
    task = SingleRound(
        "sum", AGENTS, examples, examples, lambda example, agent: "?", lambda example, said: reward(said), 200.0
    )

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(str(one.seed % 100)) for one in wanted]

    judge = judge_of(task)

    return EvalSetup(task, topology, examples, speak, judge)


def test_credit_that_does_not_depend_on_chance_is_true() -> None:
    found = fidelity(trial(lambda said: float(said["ann"]), Sequential()), "ann", candidates=4, further=2)
    assert found.correlation == pytest.approx(1.0)
    assert [len(row) for row in found.credit] == [4] * 12
    for credit, worth in zip(found.credit, found.worth, strict=True):
        assert [4 / 3 * one for one in worth] == pytest.approx(credit)  # leave one out, K / (K - 1)
    assert found.variance.mean == pytest.approx(sum(map(pvariance, found.credit)) / 12)


def test_credit_for_a_message_that_nobody_minds_is_noise() -> None:
    many = [Example(f"x{n}", {}) for n in range(60)]
    found = fidelity(trial(lambda said: float(said["bob"]), Sequential(), many), "ann", further=2)
    assert abs(found.correlation) < 0.15  # 480 pairs: more than 3 standard deviations
    assert found.variance.mean > 100


def test_credit_is_truer_the_more_often_a_message_is_played_on() -> None:
    play = trial(lambda said: float(said["ann"]) + float(said["bob"]), Sequential())
    rough, fine = (fidelity(play, "ann", continuations=n, further=16).correlation for n in (1, 12))
    assert 0.5 < rough < 0.8 < fine < 1  # 1 / sqrt(2 * 17/16) = 0.69 and 1 / sqrt(13/12 * 17/16) = 0.93


def test_what_was_said_before_the_message_stays() -> None:
    """Bob is asked second: his message closes the round, so that its worth beside ann's is what the task says."""
    for topology in (Sequential(), Parallel()):
        found = fidelity(trial(lambda said: float(said["ann"]) * float(said["bob"]), topology), "bob", candidates=3)
        assert found.correlation == pytest.approx(1.0)


def test_where_all_messages_are_alike_there_is_nothing_to_learn() -> None:
    found = fidelity(trial(lambda said: 1.0, Sequential()), "ann", further=1)
    assert (found.correlation, found.variance.mean) == (0.0, 0.0)


def test_contexts_do_not_depend_on_the_examples_beside() -> None:
    reward = lambda said: float(said["ann"])  # noqa: E731
    few, many = (fidelity(trial(reward, Sequential(), EXAMPLES[:n]), "ann", further=1) for n in (2, 12))
    assert few.credit == many.credit[:2] and few.worth == many.worth[:2]


@pytest.mark.parametrize(
    ("agent", "settings", "problem"),
    [
        ("eve", {}, "expected one of ann, bob, got eve"),
        ("ann", {"candidates": 1}, "at least 2 candidates, 1 continuation, .* got 1, 1, 16 and 12"),
        ("ann", {"continuations": 0}, "got 8, 0, 16 and 12"),
        ("ann", {"further": 0}, "got 8, 1, 0 and 12"),
    ],
)
def test_what_cannot_be_measured_is_refused(agent: str, settings: dict[str, int], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        fidelity(trial(lambda said: 0.0, Sequential()), agent, **settings)


def test_an_agent_that_does_not_speak_first_of_all_is_refused() -> None:
    class OnlyBob(Parallel):
        def speakers(self, agents: Sequence[str], said: Sequence[Any]) -> tuple[str, ...]:
            return () if said else ("bob",)

    with pytest.raises(ConfigError, match="ann does not speak in the first round of x0; name another agent"):
        fidelity(trial(lambda said: 0.0, OnlyBob()), "ann")
