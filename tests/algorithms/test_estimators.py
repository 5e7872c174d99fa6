"""Baselines of credit, number by number."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import play
from fakes.play import AGENTS, Pay, by_text, siblings, stretch
from madrigal.algorithms import Algorithm
from madrigal.algorithms.group import (
    AT_GRPO,
    DR_MAS,
    INDEPENDENT_GRPO,
    MAGRPO,
    MATPO,
    MULTI_TURN_GRPO,
    REMAX,
    RLOO,
    GroupRelative,
)
from madrigal.algorithms.marti import Marti
from madrigal.maths.batch import PolicyOutput, make_batch
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.tree import weigh
from madrigal.types import Completion, ConfigError, Episode, Group, Point, RewardError, Sample, Step, Turn

Given = dict[str, float]  # what was said -> its advantage


def chains(*rows: Sequence[Pay], greedy: Sequence[Pay] = (), **about: Any) -> Group[str]:
    """Weighed, and where `greedy` says so beside one whose answers were the most likely ones."""
    likely = stretch("likely", *greedy) if greedy else None
    return weigh(replace(play.chains(*rows, **about), greedy=likely))


def samples_of(algorithm: Algorithm[Any], *groups: Group[Any]) -> list[Sample]:
    stages, _ = algorithm.credit(groups, algorithm.begin())
    return [sample for stage in stages for sample in stage]


def advantages(algorithm: Algorithm[Any], *groups: Group[Any], of: str = "") -> Given:
    return {text: s.advantage for text, s in by_text([samples_of(algorithm, *groups)]).items() if of in text}


def rounder(algorithm: GroupRelative) -> GroupRelative:
    """The same by the deviation of the population, without epsilon: of numbers that come out round."""
    return replace(algorithm, ddof=0, epsilon=0.0)


def near(expected: Given) -> Any:
    return pytest.approx(expected, abs=2e-6)


# Leave-one-out, greedy, own rewards.


def test_leave_one_out_of_joint_returns_by_hand() -> None:
    group = chains([(0.0, 2.0)], [2.0], [(4.0, 8.0)])
    assert advantages(replace(RLOO, width=3), group) == near(
        {"ann 0.0": -3, "bob 0.0": -3, "ann 1.0": -1.5, "bob 1.0": -1.5, "ann 2.0": 4.5, "bob 2.0": 4.5}
    )


def test_leave_one_out_over_rounds_leaves_out_those_that_ended() -> None:
    given = advantages(replace(RLOO, width=3), chains([9.0], [1.0, 2.0], [1.0, 4.0]), of="ann")
    assert given == near({"ann 0.0": 5.0, "ann 1.0": -4.0, "ann 2.0": -1.0, "ann 1.1": -2.0, "ann 2.1": 2.0})
    alone = advantages(replace(RLOO, width=2), chains([9.0], [1.0, 2.0]), of="ann")
    assert alone["ann 1.1"] == 0


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6))
def test_leave_one_out_is_magrpo_stretched(rewards: list[float]) -> None:
    group, stretch = chains(*([r] for r in rewards)), len(rewards) / (len(rewards) - 1)
    expected = {name: value * stretch for name, value in advantages(MAGRPO, group).items()}
    assert advantages(RLOO, group) == pytest.approx(expected, abs=1e-9)


def test_greedy_play_is_compared_with_round_by_round() -> None:
    group = chains([1.0, 2.0], [3.0, 6.0], greedy=[2.0, 3.0])
    given = advantages(replace(REMAX, width=2), group, of="bob")
    assert given == near({"bob 0.0": -2, "bob 1.0": 4, "bob 0.1": -1, "bob 1.1": 3})
    discounted = advantages(replace(REMAX, width=2, discount=0.5), group, of="bob")
    assert discounted == near({"bob 0.0": -1.5, "bob 1.0": 2.5, "bob 0.1": -1, "bob 1.1": 3})


def test_nothing_is_left_to_earn_where_greedy_play_has_ended() -> None:
    """A shift is paid in rounds that are played, and in no others."""
    group = chains([1.0, 2.0], greedy=[4.0])
    assert advantages(replace(REMAX, width=1), group, of="ann") == near({"ann 0.0": -1, "ann 0.1": 2})
    shifted = advantages(replace(REMAX, width=1, reward_shift=-4.0), group, of="ann")
    assert shifted == near({"ann 0.0": -5, "ann 0.1": -2})


def test_greedy_rounds_are_counted_from_where_the_group_parts() -> None:
    group = chains([1.0, 2.0], greedy=[5.0, 7.0], start=3)
    assert advantages(replace(REMAX, width=1), group, of="ann") == near({"ann 0.3": -9, "ann 0.4": -5})


def test_a_group_without_greedy_play_is_refused() -> None:
    with pytest.raises(ValueError, match="play it with greedy=True"):
        samples_of(REMAX, chains([1.0], [2.0]))
    assert replace(REMAX, width=3).branching == Branching(3, greedy=True)


def test_every_agent_learns_from_its_own_return() -> None:
    group = chains([(1.0, 0.0), (0.0, 5.0)], [(3.0, 0.0), (4.0, 5.0)])
    given = advantages(rounder(INDEPENDENT_GRPO), group)
    assert {k: v for k, v in given.items() if "ann" in k} == near(
        {"ann 0.0": -1, "ann 1.0": 1, "ann 0.1": -1, "ann 1.1": 1}
    )
    assert {v for k, v in given.items() if "bob" in k} == {0}


def test_what_a_teammate_earns_is_no_business_of_an_independent_agent() -> None:
    poor, rich = chains([(1.0, 0.0)], [(2.0, 0.0)], [(6.0, 1.0)]), chains([(1.0, 9.0)], [(2.0, 5.0)], [(6.0, 7.0)])
    assert advantages(INDEPENDENT_GRPO, poor, of="ann") == advantages(INDEPENDENT_GRPO, rich, of="ann")
    assert advantages(INDEPENDENT_GRPO, poor, of="bob") != advantages(INDEPENDENT_GRPO, rich, of="bob")


# Agent by agent.


def test_steps_are_standardized_over_the_agents_own_active_steps() -> None:
    """Ann acts in all three episodes, of returns 1, 2, 6; bob only in the first and last: 1, 6."""
    group = chains([1.0], [2.0], [6.0], silent=["bob 1.0"])
    root, half = math.sqrt(7), math.sqrt(12.5)
    assert advantages(DR_MAS, group) == near(
        {"ann 0.0": -2 / root, "ann 1.0": -1 / root, "ann 2.0": 3 / root, "bob 0.0": -2.5 / half, "bob 2.0": 2.5 / half}
    )
    assert advantages(replace(DR_MAS, scale="none"), group) == near(
        {"ann 0.0": -2, "ann 1.0": -1, "ann 2.0": 3, "bob 0.0": -2.5, "bob 2.0": 2.5}
    )


def test_an_agent_that_acts_twice_counts_twice() -> None:
    """Returns 6, 6 of the two rounds of the first episode, and 0 of the second: mean 4, deviation sqrt(12)."""
    given = advantages(DR_MAS, chains([2.0, 4.0], [0.0]), of="ann")
    assert given == near({"ann 0.0": 2 / math.sqrt(12), "ann 0.1": 2 / math.sqrt(12), "ann 1.0": -4 / math.sqrt(12)})


def test_a_single_step_of_an_agent_learns_nothing() -> None:
    given = advantages(DR_MAS, chains([3.0], [5.0], silent=["bob 1.0"]), of="bob")
    assert given == {"bob 0.0": 0}


plays = st.lists(
    st.tuples(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=3), st.booleans()), min_size=3, max_size=6
)


@given(plays)
def test_each_agents_steps_have_mean_0_and_variance_1(played: list[tuple[list[float], bool]]) -> None:
    silent = [f"bob {k}.{t}" for k, (row, quiet) in enumerate(played) for t in range(len(row)) if quiet]
    found = samples_of(DR_MAS, chains(*(row for row, _ in played), silent=silent))
    for agent in AGENTS:
        mine = [s for s in found if s.turn.agent == agent]
        if len({s.return_ for s in mine}) > 1:
            assert mean(s.advantage for s in mine) == pytest.approx(0, abs=1e-9)
            assert stdev(s.advantage for s in mine) == pytest.approx(1, abs=1e-5)  # the added epsilon
        else:
            assert all(s.advantage == pytest.approx(0, abs=1e-9) for s in mine)


# Agent by agent and turn by turn.


def followed(second: tuple[Pay, Pay]) -> Group[str]:
    """Two candidates of which the second goes on, to two candidates more."""
    below = siblings(*(stretch(f"1{k}", pay, start=1, choice=k) for k, pay in enumerate(second)), start=1)
    return siblings(stretch("0", (1.0, 0.0)), stretch("1", (3.0, 8.0), then=below, choice=1))


def test_candidates_are_compared_within_their_agent_and_turn() -> None:
    """The team earns 0.5 and 5.5, then 2 and 4: each pair stands for itself, at one deviation from its mean."""
    given = advantages(rounder(AT_GRPO), followed((2.0, 4.0)), of="ann")
    assert given == near({"ann 0.0": -1, "ann 1.0": 1, "ann 10.1": -1, "ann 11.1": 1})
    assert [s.return_ for s in samples_of(replace(AT_GRPO, width=2), followed((2.0, 4.0)))][-2:] == [0.5, 5.5]


def test_what_later_rounds_earn_is_not_credited_to_earlier_ones() -> None:
    small, large = followed((2.0, 4.0)), followed((-900.0, 900.0))
    first = [s for s in samples_of(AT_GRPO, small) if s.turn.round == 0]
    assert [(s.advantage, s.return_) for s in first] == [
        (s.advantage, s.return_) for s in samples_of(AT_GRPO, large) if s.turn.round == 0
    ]


def test_local_rewards_are_added_to_alpha_times_the_teams() -> None:
    """Round 1: ann 0 and 4, bob 4 and 0, so the team has 2 both times."""
    group = followed(((0.0, 4.0), (4.0, 0.0)))
    assert advantages(AT_GRPO, group, of=".1") == dict.fromkeys(["ann 10.1", "ann 11.1", "bob 10.1", "bob 11.1"], 0)
    local = replace(rounder(AT_GRPO), joint_weight=0.5, own_weight=1.0)
    assert advantages(local, group, of=".1") == near({"ann 10.1": -1, "ann 11.1": 1, "bob 10.1": 1, "bob 11.1": -1})
    assert {s.turn.completion.text: s.return_ for s in samples_of(local, group) if s.turn.round == 1} == {
        "ann 10.1": 1.0,
        "ann 11.1": 5.0,
        "bob 10.1": 5.0,
        "bob 11.1": 1.0,
    }
    assert (AT_GRPO.needs.rewards, local.needs.rewards) == ("any", "own")
    assert replace(AT_GRPO, width=3).branching == Branching(3, "round", follow="best")


# Whole episodes.


def test_the_final_answers_reward_goes_to_every_turn() -> None:
    """Last rounds earn 1, 5, 5, 1 whenever they are played; what came before is not read."""
    group = chains([1.0], [9.0, 5.0], [0.0, 0.0, (4.0, 6.0)], [7.0, 1.0])
    expected = {"ann 0.0": -1, "ann 1.0": 1, "ann 1.1": 1, "ann 2.0": 1, "ann 2.1": 1, "ann 2.2": 1}
    expected |= {"ann 3.0": -1, "ann 3.1": -1}
    given = advantages(rounder(MATPO), group)
    assert given == near(expected | {name.replace("ann", "bob"): value for name, value in expected.items()})


def test_the_whole_return_goes_to_every_turn() -> None:
    """Returns 3 and 7."""
    given = advantages(rounder(MULTI_TURN_GRPO), chains([1.0, 2.0], [7.0]), of="ann")
    assert given == near({"ann 0.0": -1, "ann 0.1": -1, "ann 1.0": 1})
    late = advantages(
        replace(rounder(MULTI_TURN_GRPO), discount=0.5, reward_shift=-1.0), chains([1.0, 2.0], [0.0]), of="ann"
    )
    assert late == near({"ann 0.0": 1, "ann 0.1": 1, "ann 1.0": -1})  # 0 + 0.5 against -1
    shifted = samples_of(replace(MULTI_TURN_GRPO, discount=0.5, reward_shift=-1.0), chains([1.0, 2.0], [0.0]))
    assert [one.return_ for one in shifted if one.turn.agent == "ann"] == [0.5, 0.5, -1.0]


UNEVEN = chains([1.0], [0.0, 0.0, 1.0], [0.0, 0.0])  # two equally good episodes of 1 and 3 rounds, and a bad one of 2


def slope_per_turn(algorithm: Algorithm[Any], agent: str) -> dict[str, float]:
    """How fast the objective rises with the log-prob of each turn, through the loss that a learner calls."""
    (stage,), _ = algorithm.credit([UNEVEN], algorithm.begin())
    mine = [sample for sample in stage if sample.turn.agent == agent]
    batch = make_batch(mine, 0, torch.device("cpu"), total=1.0)
    logprobs = batch.old_logprobs.clone().requires_grad_()
    algorithm.loss(PolicyOutput(logprobs, logprobs.detach()), batch).backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    return {s.turn.completion.text: -float(g) for s, g in zip(mine, logprobs.grad[:, 0], strict=True)}


def test_averaging_over_turns_makes_agents_lazy() -> None:
    """Of two equally good episodes the turn of the shorter one weighs three times as much."""
    good, bad = 1 / math.sqrt(2), -math.sqrt(2)  # standard scores of 1, 1, 0
    lazy, even = (
        slope_per_turn(replace(rounder(MULTI_TURN_GRPO), average_turns=True), "ann"),
        slope_per_turn(rounder(MULTI_TURN_GRPO), "ann"),
    )
    assert even == near(
        {f"ann {name}": a / 3 for name, a in zip(("0.0", "1.0", "1.1", "1.2"), [good] * 4, strict=True)}
        | {f"ann {name}": bad / 3 for name in ("2.0", "2.1")}
    )
    rounds = {"0": 1, "1": 3, "2": 2}
    assert lazy == near({name: value / rounds[name[4]] for name, value in even.items()})
    assert lazy["ann 0.0"] == pytest.approx(3 * lazy["ann 1.0"])


@pytest.mark.parametrize("algorithm", [MATPO, MULTI_TURN_GRPO, DR_MAS])
def test_long_and_short_episodes_weigh_alike_turn_by_turn(algorithm: Algorithm[Any]) -> None:
    found = samples_of(algorithm, UNEVEN)
    assert {(sample.weight, sample.turn.weight) for sample in found} == {(1.0, 1 / 3)}
    assert algorithm.credit([], algorithm.begin())[0] == []


ROUNDS = {"spoil": 1, "skip": 1, "work": 4}


def essay(place: int, first: str) -> Episode[str]:
    """Spoilt at once and worth 0; or right, worth 1: at once by a skip, or after four rounds of work."""
    last = ROUNDS[first] - 1
    turns = tuple(Turn("writer", (), Completion("on" if t else first), t) for t in range(last + 1))
    paid = [float(t == last and first != "spoil") for t in range(last + 1)]
    return Episode(Point("x", ""), turns, tuple(Step("", {"writer": pay}) for pay in paid), (place,))


def share_of_work(algorithm: GroupRelative, seed: int, steps: int = 20) -> float:
    """Gradient ascent on three logits, the first words; later words are no choice and have no gradient."""
    draw, logits = random.Random(seed), dict.fromkeys(ROUNDS, 0.0)
    for _ in range(steps):
        share = softmax(logits)
        firsts = draw.choices(list(share), list(share.values()), k=64)
        group = Group(Point("x", ""), tuple(essay(k, first) for k, first in enumerate(firsts)), ("writer",))
        (stage,), _ = algorithm.credit([group], {})
        for sample in stage:
            for word in share if sample.turn.round == 0 else ():
                slope = (word == sample.turn.completion.text) - share[word]
                logits[word] += sample.advantage * sample.weight / len(firsts) * slope
    return softmax(logits)["work"]


def softmax(logits: Mapping[str, float]) -> dict[str, float]:
    total = sum(map(math.exp, logits.values()))
    return {word: math.exp(value) / total for word, value in logits.items()}


def test_an_agent_learns_to_skip_the_work_only_where_turns_are_averaged() -> None:
    """Both ways are equally good: nothing but 1/T favors the short one.

    Plain gradient steps: Adam rescales each logit of a table by itself, and hides the factor.
    """
    lazy = [share_of_work(replace(MULTI_TURN_GRPO, average_turns=True), seed) for seed in range(4)]
    even = [share_of_work(MULTI_TURN_GRPO, seed) for seed in range(4)]
    assert max(lazy) < 0.25
    assert min(even) > 0.3


# Shaping.


def test_margin_and_quality_over_own_earlier_rewards() -> None:
    """Ann earns 0.5, 1, 0 and Q is 0.5, then 0.75; her sibling always 0, so that the means are halves."""
    group = chains([(0.5, 0.0), (1.0, 0.0), (0.0, 0.0)], [0.0, 0.0, 0.0])
    by_margin = {s.turn.completion.text: s.return_ for s in samples_of(Marti(), group)}
    assert [by_margin[f"ann 0.{t}"] for t in range(3)] == pytest.approx([0.5, 1.25, -0.375])
    assert [by_margin[f"ann 1.{t}"] for t in range(3)] == [0, 0, 0]
    given = advantages(Marti(), group, of="ann 0")
    assert given == near({"ann 0.0": 0.25, "ann 0.1": 0.625, "ann 0.2": -0.1875})
    by_quality = {s.turn.completion.text: s.return_ for s in samples_of(Marti(shaping="quality"), group)}
    assert [by_quality[f"ann 0.{t}"] for t in range(3)] == pytest.approx([0.5, 1.25, -0.125])
    assert [by_quality[f"ann 1.{t}"] for t in range(3)] == pytest.approx([0, -0.5, -0.5])


def test_earlier_rewards_may_be_everybodys() -> None:
    """Ann's 1 after ann 0.5 and bob 0: Q is 0.25."""
    group = chains([(0.5, 0.0), (1.0, 0.0)], [0.0, 0.0])
    shaped = {s.turn.completion.text: s.return_ for s in samples_of(Marti(earlier="all"), group)}
    assert shaped["ann 0.1"] == pytest.approx(1 + 0.5 * 0.75)
    assert shaped["bob 0.1"] == pytest.approx(0 - 0.5 * 0.25)


def test_the_outcome_is_the_agents_last_reward_in_every_round() -> None:
    group = chains([(0.5, 0.0), (1.0, 0.0)], [0.0, 0.0])
    shaped = {s.turn.completion.text: s.return_ for s in samples_of(Marti(with_outcome=True, beta=0.25), group)}
    assert [shaped[f"ann 0.{t}"] for t in range(2)] == pytest.approx([0.75, 1.5])
    assert [shaped[f"bob 0.{t}"] for t in range(2)] == pytest.approx([0.0, 0.0])


def test_quality_reads_shares_of_the_best_reward() -> None:
    full = chains([4.0, 4.0], [0.0, 4.0])
    shaped = {s.turn.completion.text: s.return_ for s in samples_of(Marti(shaping="quality", best_reward=4.0), full)}
    assert [shaped[f"ann 0.{t}"] for t in range(2)] == [1.0, 1.5]  # Q = R = 1 gives 1 + alpha
    with pytest.raises(RewardError, match=r"expected 0 to 1, got 4.0; set algorithm.best_reward"):
        samples_of(Marti(shaping="quality"), full)
    samples_of(Marti(), full)


def bad_settings() -> Iterator[dict[str, Any]]:
    wrong: dict[str, list[Any]] = {
        "width": [0, 1],
        "clip": [0.0, -0.2, math.nan],
        "kl": [-1.0, math.nan],
        "alpha": [math.nan],
        "beta": [math.inf],
        "best_reward": [0.0, -1.0, math.inf],
    }
    for key, values in wrong.items():
        for value in values:
            yield {key: value}


@pytest.mark.parametrize("settings", list(bad_settings()))
def test_a_setting_that_cannot_work_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^algorithm.{next(iter(settings))}: [^\n]*(expected|needs)[^\n]*$"):
        Marti(**settings)
