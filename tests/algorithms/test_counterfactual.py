"""C3's credit, number by number: trees of decisions, early endings, unequal counts, and the gradient they amount to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.play import AGENTS, Rounds, by_text, judge_of, siblings, turn
from madrigal.algorithms.counterfactual import Counterfactual, against_all, against_the_others, leaves
from madrigal.algorithms.group import MAGRPO, RLOO
from madrigal.learning.learners import examples_in
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.task import joint
from madrigal.rollouts.topology import Parallel, Sequential
from madrigal.rollouts.tree import rollout_groups, weigh
from madrigal.types import Completion, ConfigError, Episode, Group, Message, Point, Sample, Step, Turn


def tree(*alternatives: Any, place: int = 0, round: int = 0, name: str = "") -> Group[str]:
    """A decision and what came of it: [..] for the next one in the round, (reward, [..]) for the next round, a reward.

    Alternatives are called by their numbers: "01" is the second answer to the first message.
    """
    episodes = []
    for k, what in enumerate(alternatives):
        said, below, steps = f"{name}{k}", None, ()
        if isinstance(what, list):
            below = tree(*what, place=place + 1, round=round, name=said)
        elif isinstance(what, tuple):
            steps = (Step("", joint(AGENTS, what[0])),)
            below = tree(*what[1], round=round + 1, name=said)
        else:
            steps = (Step("", joint(AGENTS, what), "horizon"),)
        spoken = (turn(AGENTS[place], said, round),)
        episodes.append(Episode(Point("x", "", round=round), spoken, steps, (k, k), below))
    return siblings(*episodes, start=round)


def samples(algorithm: Counterfactual, *groups: Group[Any]) -> dict[str, Sample]:
    stages, memory = algorithm.credit(groups, algorithm.begin())
    assert memory == {}
    return by_text(stages)


def credited(algorithm: Counterfactual, *groups: Group[Any]) -> dict[str, tuple[float, float]]:
    return {name: (one.advantage, one.return_) for name, one in samples(algorithm, *groups).items()}


DUO = tree([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0])


def test_the_released_tree_by_hand() -> None:
    third = 1 / 3
    assert credited(Counterfactual(), DUO) == {
        "0": (0.5, 0.75),
        "1": (-0.5, 0.25),
        "00": (pytest.approx(third), 1.0),
        "01": (-1.0, 0.0),
        "02": (pytest.approx(third), 1.0),
        "03": (pytest.approx(third), 1.0),
        "10": (pytest.approx(-third), 0.0),
        "11": (pytest.approx(-third), 0.0),
        "12": (1.0, 1.0),
        "13": (pytest.approx(-third), 0.0),
    }


def test_without_leave_one_out_the_mean_of_all_is_the_baseline() -> None:
    credit = credited(Counterfactual(baseline="full_mean"), DUO)
    assert (credit["0"], credit["1"]) == ((0.25, 0.75), (-0.25, 0.25))
    assert (credit["01"], credit["12"]) == ((-0.75, 0.0), (0.75, 1.0))


VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


@given(VALUES, st.integers(1, 5))
def test_with_equal_counts_it_is_k_over_k_minus_1_times_the_distance_from_the_mean(
    values: list[float], count: int
) -> None:
    k, mean = len(values), sum(values) / len(values)
    counts = [count] * k
    assert against_the_others(values, counts) == pytest.approx([k / (k - 1) * (v - mean) for v in values], abs=1e-9)
    assert against_all(values, counts) == pytest.approx([v - mean for v in values], abs=1e-9)


@given(VALUES, st.data())
def test_an_alternatives_baseline_does_not_know_its_value(values: list[float], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 9), min_size=len(values), max_size=len(values)))
    other = [data.draw(st.floats(-10, 10)), *values[1:]]
    before, after = (row[0] - against_the_others(row, counts)[0] for row in (values, other))
    assert before == pytest.approx(after, abs=1e-9)


def test_an_alternative_that_was_played_on_more_often_counts_for_more() -> None:
    """One is over at once, one has three answers, one has one: values 6, 2, 4 with counts 1, 3, 1."""
    group = tree(6.0, [0.0, 3.0, 3.0], [4.0])
    assert [leaves(episode) for episode in group.episodes] == [1, 3, 1]
    credit = credited(Counterfactual(), group)
    assert [credit[name] for name in "012"] == [(3.5, 6.0), (-3.0, 2.0), (1.0, 4.0)]
    assert [credit[f"1{k}"][0] for k in range(3)] == [-3.0, 1.5, 1.5]
    assert credit["20"] == (0.0, 4.0)


def test_a_long_branch_weighs_no_more_than_a_short_one_in_the_value_of_its_parent() -> None:
    """Half of the plays end at once with 8, half go on to a second round worth 0: 4, however many leaves that has."""
    group = tree([8.0, (0.0, [[0.0, 0.0], [0.0, 0.0]])], [1.0, 1.0])
    assert [leaves(episode) for episode in group.episodes] == [5, 2]
    credit = credited(Counterfactual(), group)
    assert (credit["0"], credit["1"]) == ((3.0, 4.0), (-3.0, 1.0))
    assert (credit["00"], credit["01"]) == ((8.0, 8.0), (-8.0, 0.0))


def test_later_rounds_are_discounted_and_shifted() -> None:
    group = tree([(1.0, [3.0, 5.0])], [2.0])
    assert credited(Counterfactual(discount=0.5), group)["0"] == (1.0, 3.0)  # 1 + 0.5 * 4, against 2
    shifted = credited(Counterfactual(discount=0.5, reward_shift=-4.0), group)
    assert shifted["0"] == (-1.0, -3.0)  # -3 + 0.5 * 0, against -2
    assert shifted["000"] == (-2.0, -1.0)


def test_an_only_alternative_has_nothing_to_be_compared_with() -> None:
    credit = credited(Counterfactual(), tree([1.0], [0.0]))
    assert [credit[name][0] for name in ("0", "1", "00", "10")] == [1.0, -1.0, 0.0, 0.0]


def test_where_one_goes_on_only_decisions_with_alternatives_are_credited() -> None:
    """The second message was played to its end at once; its answer had no alternative and is not learned from."""
    group = tree([3.0, 1.0], [0.0])
    aside = group.episodes[1].then.episodes[0]  # type: ignore[union-attr]
    first, second = group.episodes
    chain = replace(second, turns=second.turns + aside.turns, steps=aside.steps, then=None)
    group = replace(group, episodes=(first, chain))
    found = samples(Counterfactual(tree=False), weigh(group, "one"))
    assert {name: one.advantage for name, one in found.items()} == {"0": 2.0, "1": -2.0, "00": 2.0, "01": -2.0}
    assert {name: one.turn.weight for name, one in found.items()} == {"0": 0.5, "1": 0.5, "00": 0.5, "01": 0.5}


def test_a_decision_weighs_as_much_as_play_comes_to_it() -> None:
    """Ann decides twice: always in round 0, in round 1 only in one case of four."""
    found = samples(Counterfactual(), weigh(tree([(0.0, [[1.0], [2.0]]), 0.0], [0.0, 0.0])))
    assert [found[name].turn.weight for name in ("0", "1", "000", "001")] == [0.5, 0.5, 0.125, 0.125]
    assert [found[name].turn.weight for name in ("00", "11", "0000", "0010")] == [0.25, 0.25, 0.125, 0.125]


def test_stages_are_rounds_or_all_at_once() -> None:
    group = tree([(0.0, [[1.0], [2.0]])], [0.0])
    (whole,), _ = Counterfactual().credit([group], {})
    late, early = Counterfactual(updates="turn").credit([group], {})[0]
    assert [sample.turn.round for sample in (*late, *early)] == [1] * 4 + [0] * 4
    assert {sample.turn.number for sample in whole} == {sample.turn.number for sample in (*late, *early)}


@dataclass(frozen=True)
class Game(Rounds):
    """One agent, two rounds of 0 or 1; 1 ends the game. What is earned depends on all that was said."""

    rewards: Mapping[str, float] = field(default_factory=dict)
    agents: tuple[str, ...] = ("ann",)

    def observe(self, state: str, agent: str, heard: Sequence[Turn]) -> tuple[Message, ...]:
        return (Message("user", state),)

    def step(self, state: str, actions: Mapping[str, str]) -> Step[str]:
        after = state + actions["ann"]
        return Step(after, joint(self.agents, self.rewards[after]), "horizon" if "1" in after or len(after) > 1 else "")


REWARDS = {"1": 2.0, "0": -1.0, "00": 4.0, "01": 7.0}
CHANCES = {"": 0.3, "0": 0.6}  # of saying 1, by what was said before


def expected_update(algorithm: Counterfactual, draws: int) -> dict[str, float]:
    """What a learner's mean of weight * advantage * score is on average, over all that can be drawn, per state."""
    task, total = Game(rewards=REWARDS), defaultdict[str, float](float)
    for bits in product("01", repeat=draws):
        drawn, chance = iter(bits), 1.0

        def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
            nonlocal chance
            said = [(one.prompt[0].content, next(drawn)) for one in wanted]  # noqa: B023
            chance *= math.prod(CHANCES[state] if bit == "1" else 1 - CHANCES[state] for state, bit in said)
            return [Completion(bit, (1,), (2,), (-0.5,)) for _, bit in said]

        judge = judge_of(task)
        groups: Any = rollout_groups(task, Parallel(), [Point("x", "")], algorithm.branching, speak, judge)  # type: ignore[arg-type]
        (stage,), _ = algorithm.credit(groups, {})
        chance *= 0.5 ** len(list(drawn))
        for sample in stage:
            share = sample.weight * sample.turn.weight / examples_in(groups, stage)
            state, bit = sample.turn.prompt[0].content, sample.turn.completion.text
            score = 1 - CHANCES[state] if bit == "1" else -CHANCES[state]  # of the log-odds of saying 1
            total[state] += chance * share * sample.advantage * score
    return dict(total)


@pytest.mark.parametrize(
    ("algorithm", "draws"),
    [
        (Counterfactual(fanout=(), width=2), 6),
        (Counterfactual(fanout=(), width=2, tree=False), 5),
        (Counterfactual(fanout=(), width=3, tree=False), 8),
    ],
)
def test_the_expected_update_is_the_gradient_of_the_expected_return(algorithm: Counterfactual, draws: int) -> None:
    first, second = CHANCES[""], CHANCES["0"]
    later = second * REWARDS["01"] + (1 - second) * REWARDS["00"]
    gradient = {
        "": first * (1 - first) * (REWARDS["1"] - REWARDS["0"] - later),
        "0": (1 - first) * second * (1 - second) * (REWARDS["01"] - REWARDS["00"]),
    }
    assert expected_update(algorithm, draws) == pytest.approx(gradient, abs=1e-9)


def test_how_play_branches() -> None:
    assert Counterfactual().branching == Branching(4, at="turn", fanout=(2, 4))
    assert Counterfactual().branching.leaves(AGENTS, 1) == 8
    assert Counterfactual(agents=("bob",)).branching.answers(AGENTS, 0, 1) == 4
    assert Counterfactual(tree=False).branching.leaves(AGENTS, 5) == 1 + 5 * (1 + 3)
    assert Counterfactual(replay=False).branching == Branching(8)
    assert Counterfactual(replay=False, fanout=(), width=6).branching == Branching(6)


def test_without_replay_messages_are_compared_whatever_was_said_before_them() -> None:
    def chain(k: int, reward: float) -> Episode[str]:
        turns = tuple(Turn(agent, (), Completion(f"{agent}{k}", (1,), (2,), (-0.5,))) for agent in AGENTS)
        return Episode(Point("x", ""), turns, (Step("", joint(AGENTS, reward), "horizon"),), (k, k))

    group: Group[Any] = Group(Point("x", ""), tuple(chain(k, r) for k, r in enumerate((1.0, 2.0, 6.0))), AGENTS)
    credit = credited(Counterfactual(replay=False), group)
    assert credit["bob0"] == credit["ann0"] == (-3.0, 1.0) and credit["bob2"] == (4.5, 6.0)
    for ours, theirs in (
        (Counterfactual(replay=False), RLOO),
        (Counterfactual(replay=False, baseline="full_mean"), MAGRPO),
    ):
        assert ours.credit([group], {})[0] == theirs.credit([group], {})[0]


def test_what_a_tree_compares_is_not_what_chains_compare() -> None:
    """Bob's best answer follows ann's worse message: C3 praises it, chains blame it for what ann said."""
    group = tree([10.0, 0.0], [3.0, 1.0])
    credit = credited(Counterfactual(), group)
    assert credit["10"][0] == 2.0 > 0
    assert 3.0 - (10.0 + 0.0 + 1.0) / 3 < 0


def test_a_reference_policy_is_needed_for_its_divergence_only() -> None:
    assert Counterfactual().needs.reference == "loss"
    assert Counterfactual(kl=0.0).needs.reference == ""


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"width": 0}, "expected at least 1 alternative at every place, got .* and 0; the paper has"),
        ({"fanout": (2, 0)}, r"expected at least 1 alternative at every place, got \(2, 0\)"),
        ({"replay": False, "fanout": (1, 1)}, "needs at least 2 answers to compare, got 1"),
        ({"replay": False, "agents": ("ann",)}, r"algorithm\.agents must be empty"),
        ({"replay": False, "tree": False}, "take one of these back"),
        ({"leaf_limit": 0}, "leaf_limit: expected at least 1, got 0"),
        ({"discount": 1.5}, "discount: expected 0 to 1, got 1.5"),
        ({"clip": -0.1}, "clip: expected a positive range"),
        ({"reward_shift": math.nan}, "reward_shift: expected None or a finite number"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Counterfactual(**settings)


def test_a_tree_that_is_played_is_credited_throughout() -> None:
    """Played over a sequential round of three: 2 + 8 + 32 messages, each among its own siblings."""
    task = Game(rewards=REWARDS, agents=("ann", "bob", "cat"))

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion("1", (1,), (one.seed % 100,), (-0.5,)) for one in wanted]

    judge = lambda asked: [  # noqa: E731
        Step("", joint(task.agents, float(len(set(one.actions)))), "horizon") for one in asked
    ]
    algorithm = Counterfactual()
    groups: Any = rollout_groups(task, Sequential(), [Point("x", "")], algorithm.branching, speak, judge)  # type: ignore[arg-type]
    (stage,), _ = algorithm.credit(groups, {})
    assert [sum(s.turn.agent == agent for s in stage) for agent in task.agents] == [2, 8, 32]
    assert {sample.advantage for sample in stage} == {0.0}


@dataclass(frozen=True)
class Pairs(Rounds):
    """Ann says one of five words, bob hears it and says another; ann's word is most of what the pair is worth."""

    horizon: int = 1

    def observe(self, state: str, agent: str, heard: Sequence[Turn]) -> tuple[Message, ...]:
        return (Message("user", "".join(turn.completion.text for turn in heard)),)

    def step(self, state: str, actions: Mapping[str, str]) -> Step[str]:
        ann, bob = (int(actions[agent]) for agent in self.agents)
        return Step(state, joint(self.agents, 2.0 * ann + 0.5 * (ann + bob) % 3), "horizon")


def noise(algorithm: Any, agent: str) -> float:
    """The variance of an agent's policy gradient at even chances, over 100 examples drawn one by one."""
    task, rows = Pairs(), []

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(str(one.seed % 5)) for one in wanted]

    judge = judge_of(task)
    for n in range(100):
        groups: Any = rollout_groups(task, Sequential(), [Point("x", "")], algorithm.branching, speak, judge, (n,))  # type: ignore[arg-type]
        ((stage,), _) = algorithm.credit(groups, {})
        mine = [sample for sample in stage if sample.turn.agent == agent]
        row = defaultdict[tuple[str, str], float](float)
        for sample, word in product(mine, "01234"):
            score = (sample.turn.completion.text == word) - 0.2
            row[sample.turn.prompt[0].content, word] += sample.advantage * score / len(mine)
        rows.append(row)
    keys = {key for row in rows for key in row}
    return sum(pvariance([row[key] for row in rows]) for key in keys)


def test_a_tree_is_for_the_later_speaker_and_costs_the_first() -> None:
    """8 episodes each: bob's answers are compared beside the same word of ann's, ann's words are two and not eight."""
    assert noise(Counterfactual(), "bob") < 0.2 * noise(replace(RLOO, width=8), "bob")
    assert noise(Counterfactual(), "ann") > 2 * noise(replace(RLOO, width=8), "ann")
