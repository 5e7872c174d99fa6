"""Leave-one-out credit: what is judged again, what that comes to, and the advantages by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.play import judge_of, turn
from madrigal.algorithms.group import LEAVE_ONE_OUT_TEAM, MAGRPO, GroupRelative
from madrigal.rollouts.play import StepRequest
from madrigal.rollouts.rewards import difference_rewards, rewarded, reweight, with_counterfactuals
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.rollouts.tree import rollout_groups
from madrigal.settings import RewardWeights
from madrigal.types import Completion, Episode, Group, Message, Point, Step, TrainingError, Turn

AGENTS = ("ann", "bob", "cat")
Advantages = dict[tuple[str, int, int], float]  # of agent, sibling, round


class Sum:
    """The joint reward is the sum of the numbers that were said, twice the first agent's; silence is 0."""

    name, agents, best_return = "sum", AGENTS, 1.0

    def __init__(self, horizon: int = 1) -> None:
        self.horizon = horizon
        self.asked: list[dict[str, str]] = []

    def acting(self, state: int) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: int, agent: str, heard: Sequence[Turn]) -> tuple[Message, ...]:
        return (Message("user", "?"),)

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        self.asked.append(dict(actions))
        ann, bob, cat = (float(actions[agent] or 0) for agent in self.agents)
        total = 2 * ann + bob + cat
        return Step(state + 1, dict.fromkeys(self.agents, total), "horizon" if state + 1 == self.horizon else "")


def test_every_agent_is_left_out_once_in_a_single_call() -> None:
    task, calls = Sum(), list[int]()

    def judge(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        calls.append(len(requests))
        return [task.step(r.state, r.actions) for r in requests]

    requests = [
        StepRequest(0, {"ann": "1", "bob": "2", "cat": "4"}),
        StepRequest(0, {"ann": "8", "bob": "", "cat": "16"}),
    ]
    first, second = with_counterfactuals(judge)(requests)
    assert calls == [2 + 3 + 2]
    assert first.rewards["ann"] == 8 and first.counterfactual_rewards == {"ann": 6, "bob": 6, "cat": 4}
    assert second.rewards["ann"] == 32 and second.counterfactual_rewards == {"ann": 16, "cat": 16}
    assert task.asked[2] == {"ann": "", "bob": "2", "cat": "4"}


def test_what_is_left_out_takes_no_time_and_costs_nothing() -> None:
    """One after the other, at 1 token a word: without bob's two words the round lasts 2 tokens and costs 2 messages."""
    weights = RewardWeights(speed=1, cost=1, time_unit=1, message=10, word=0, redundancy=0)
    task = Sum()
    turns = tuple(
        Turn(a, (), Completion(t, token_ids=(1,) * n))
        for a, t, n in (("ann", "1", 1), ("bob", "2", 2), ("cat", "4", 1))
    )
    judge = with_counterfactuals(reweight(judge_of(task), weights, Sequential(), task))  # type: ignore[arg-type]
    (step,) = judge([StepRequest(0, {t.agent: t.completion.text for t in turns}, turns)])
    assert step.rewards["bob"] == 8 - 4 - 30
    assert step.counterfactual_rewards == {"ann": 6 - 3 - 20, "bob": 6 - 2 - 20, "cat": 4 - 3 - 20}


def test_an_agent_that_said_nothing_but_was_asked_is_left_out_too() -> None:
    """Its empty turn still took time."""
    weights = RewardWeights(speed=1, time_unit=1)
    turns = tuple(Turn(a, (), Completion("", token_ids=(1,) * 5)) for a in AGENTS)
    task = Sum()
    judge = with_counterfactuals(reweight(judge_of(task), weights, Sequential(), task))  # type: ignore[arg-type]
    (step,) = judge([StepRequest(0, dict.fromkeys(AGENTS, ""), turns)])
    assert step.counterfactual_rewards == dict.fromkeys(AGENTS, -10.0)


def test_differences_are_paid_to_those_who_made_them() -> None:
    """2 * 1 + 2 + 4 = 8: without ann 6, without bob 6, without cat 4."""
    requests = [
        StepRequest(0, {"ann": "1", "bob": "2", "cat": "4"}),
        StepRequest(0, {"ann": "8", "bob": "", "cat": "16"}),
    ]
    first, second = difference_rewards(judge_of(Sum()))(requests)
    assert first.rewards == {"ann": 2, "bob": 2, "cat": 4}
    assert second.rewards == {"ann": 16, "bob": 0, "cat": 16}


def test_judges_are_wrapped_in_one_order() -> None:
    """Twice the reward, 16; differences of that; what these come to without each agent; and the threshold."""
    request, task = StepRequest(0, {"ann": "1", "bob": "2", "cat": "4"}), Sum(horizon=9)
    weights = RewardWeights(quality=2, share="difference")
    judge = judge_of(task)
    asked = {"training": True, "counterfactual_rewards": True, "stop_above": 5.0}
    (step,) = rewarded(judge, task, Sequential(), weights, **asked)([request])  # type: ignore[arg-type]
    assert step.rewards == {"ann": 4, "bob": 4, "cat": 8} and step.ending == "solved"
    assert step.counterfactual_rewards == {"ann": (0 + 4 + 8) / 3, "bob": (4 + 0 + 8) / 3, "cat": (4 + 4 + 0) / 3}
    (step,) = rewarded(judge, task, Sequential(), weights)([request])  # type: ignore[arg-type]
    assert step.rewards == dict.fromkeys(AGENTS, 16) and not step.counterfactual_rewards and not step.ending


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4))
def test_what_raises_a_difference_raises_the_joint_reward_as_much(numbers: list[int]) -> None:
    ann, other, bob, cat = map(str, numbers)
    requests = [StepRequest(0, {"ann": said, "bob": bob, "cat": cat}) for said in (ann, other)]
    joint, own = judge_of(Sum())(requests), difference_rewards(judge_of(Sum()))(requests)
    assert own[0].rewards["ann"] - own[1].rewards["ann"] == joint[0].rewards["ann"] - joint[1].rewards["ann"]


# Credit


def chains(*rows: Sequence[tuple[float, Mapping[str, float]]]) -> Group[str]:
    """Of each sibling, for each round: the reward, and what it would have been without each agent."""
    episodes = []
    for k, row in enumerate(rows):
        steps = tuple(Step("", dict.fromkeys(AGENTS, r), counterfactual_rewards=without) for r, without in row)
        turns = tuple(turn(agent, f"{k}", n) for n, (_, without) in enumerate(row) for agent in without)
        episodes.append(Episode(Point("x", ""), turns, steps, (k,) * 3))
    return Group(Point("x", ""), tuple(episodes), AGENTS)


def credited(algorithm: GroupRelative, *groups: Group[str]) -> Advantages:
    stages, _ = algorithm.credit(groups, {})
    return {(s.turn.agent, int(s.turn.completion.text), s.turn.round): s.advantage for stage in stages for s in stage}


ADDED = replace(LEAVE_ONE_OUT_TEAM, width=2, joint_weight=0.0, difference_weight=1.0, scale="none")
ROUND = chains(
    [(8.0, {"ann": 2.0, "bob": 6.0, "cat": 8.0})],
    [(4.0, {"ann": 2.0, "bob": 6.0, "cat": 0.0})],
)


def test_the_own_part_by_hand() -> None:
    """D of ann: 6, 2; of bob: 2, -2; of cat: 0, 4."""
    assert credited(ADDED, ROUND) == {
        ("ann", 0, 0): 2,
        ("ann", 1, 0): -2,
        ("bob", 0, 0): 2,
        ("bob", 1, 0): -2,
        ("cat", 0, 0): -2,
        ("cat", 1, 0): 2,
    }


def test_the_mixture_by_hand() -> None:
    """X of cat, a quarter its own part: 6 + 0, 3 + 1."""
    found = credited(replace(ADDED, joint_weight=0.75, difference_weight=0.25), ROUND)
    assert found["cat", 0, 0] == -found["cat", 1, 0] == 1
    assert found["ann", 0, 0] == found["bob", 0, 0] == 2


def test_later_rounds_count_in_the_joint_part_only() -> None:
    """ann: rewards 1, 10 and 2, 20; D 1, 3 and 2, 5. R: 11, 10 and 22, 20."""
    group = chains(
        [(1.0, {"ann": 0.0}), (10.0, {"ann": 7.0})],
        [(2.0, {"ann": 0.0}), (20.0, {"ann": 15.0})],
    )
    found = credited(replace(LEAVE_ONE_OUT_TEAM, width=2, scale="none"), group)
    assert found == {("ann", 0, 0): -3.0, ("ann", 1, 0): 3.0, ("ann", 0, 1): -3.0, ("ann", 1, 1): 3.0}
    shifted = replace(LEAVE_ONE_OUT_TEAM, width=2, scale="none", discount=0.5, reward_shift=7.0)
    assert credited(shifted, group)["ann", 1, 0] == ((12 - 6) / 2 + (2 - 1) / 2) / 2


def test_the_batch_is_scaled_as_one() -> None:
    """Two groups: six advantages of 2 either way and six of 0, so that squares sum up to 24, over 12 - 1."""
    flat = chains([(5.0, {"ann": 1.0, "bob": 1.0, "cat": 1.0})], [(5.0, {"ann": 1.0, "bob": 1.0, "cat": 1.0})])
    stages, _ = replace(ADDED, scale="batch").credit([ROUND, flat], {})
    found = [sample.advantage for stage in stages for sample in stage]
    scaled = 2 / (sqrt(24 / 11) + 1e-4)
    assert sorted(found) == pytest.approx([-scaled] * 3 + [0] * 6 + [scaled] * 3)


@pytest.mark.parametrize("reward", [0.1, 0.3, 5.9])
@pytest.mark.parametrize("width", [3, 6, 7])
def test_where_all_answers_are_worth_the_same_rounding_is_not_blown_up(reward: float, width: int) -> None:
    """The mean of seven times 5.9 is not 5.9: what is left over is no spread to divide by."""
    group = chains(*([(reward, {"ann": 0.3 * reward, "bob": 0.1, "cat": 0.0})] for _ in range(width)))
    assert set(credited(replace(LEAVE_ONE_OUT_TEAM, width=width), group).values()) == {0.0}


def test_each_group_can_be_scaled_by_itself() -> None:
    found = credited(replace(ADDED, scale="group"), ROUND)
    assert sorted(map(abs, found.values())) == pytest.approx([2 / (sqrt(8) + 1e-4)] * 6)


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=5))
def test_without_an_own_part_it_is_magrpo(rewards: list[float]) -> None:
    group = chains(*([(reward, dict.fromkeys(AGENTS, 0.0))] for reward in rewards))
    assert credited(
        replace(LEAVE_ONE_OUT_TEAM, joint_weight=1.0, difference_weight=0.0, scale="none"), group
    ) == pytest.approx(credited(MAGRPO, group))
    assert not MAGRPO.needs.counterfactual_rewards and LEAVE_ONE_OUT_TEAM.needs.counterfactual_rewards


@pytest.mark.parametrize("topology", [Parallel(), Sequential()])
@given(seed=st.integers(0, 999))
def test_in_a_sum_an_answer_is_worth_its_own_number(topology: Topology, seed: int) -> None:
    """What teammates add is the same with and without the agent, whatever they say: no noise of theirs is left."""
    task: Any = Sum(horizon=2)
    speak = lambda wanted: [Completion(str(u.seed % 10), (1,), (2,), (-1.0,)) for u in wanted]  # noqa: E731
    algorithm = replace(ADDED, width=3)
    judge = with_counterfactuals(judge_of(task))
    groups = rollout_groups(task, topology, [Point("x", 0)], algorithm.branching, speak, judge, (seed,))
    stages, _ = algorithm.credit(groups, {})
    for stage in stages:
        for agent in AGENTS:
            mine = [s for s in stage if s.turn.agent == agent]
            numbers = [(2 if agent == "ann" else 1) * float(s.turn.completion.text) for s in mine]
            mean = sum(numbers) / len(numbers)
            assert [s.advantage for s in mine] == pytest.approx([n - mean for n in numbers])


def test_rounds_that_nobody_judged_again_are_refused() -> None:
    group = chains([(1.0, {})], [(2.0, {})])
    with pytest.raises(TrainingError, match=r"judged without each agent, got none"):
        LEAVE_ONE_OUT_TEAM.credit([group], {})


def test_a_reward_that_is_no_number_without_an_agent_is_refused() -> None:
    group = chains([(1.0, {"ann": float("nan")})], [(2.0, {"ann": 0.0})])
    with pytest.raises(TrainingError, match="a finite reward without ann, got nan"):
        LEAVE_ONE_OUT_TEAM.credit([group], {})
