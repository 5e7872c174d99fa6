"""Quality, speed and coordination cost: each measure by hand, and what weighing must never change."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.play import judge_of
from madrigal.config import from_json, to_json
from madrigal.evaluation.ablations import MessageAblation, ablated_judge
from madrigal.evaluation.evaluate import percent_of_best, response_seconds
from madrigal.recipes import recipe
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, StepRequest, drive, play
from madrigal.rollouts.rewards import Talk, frontier, measure, overlap, response, rewarded, reweight
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Asynchronous, Coordinated, Discussion, Parallel, Sequential, Topology
from madrigal.settings import RewardWeights
from madrigal.training.checks import check_experiment
from madrigal.types import Completion, ConfigError, Episode, Example, Point, Step, Turn

ADA = Example("ada", {})
AGENTS = ("ann", "bob", "cat")


def said(agent: str, text: str = "word", seconds: float = 0.0, tokens: int = 0) -> Turn:
    return Turn(agent, (), Completion(text, token_ids=tuple(range(tokens)), seconds=seconds))


def seconds(turn: Turn) -> float:
    return turn.completion.seconds


def task_of(reward: float = 0.5, agents: Sequence[str] = ("ann", "bob")) -> SingleRound:
    return SingleRound(
        "team", tuple(agents), (ADA,), (Example("b", {}),), lambda e, a: "?", lambda e, s: reward, best_return=2.0
    )


def judged(task: Any, tradeoff: RewardWeights, topology: Topology, *requests: StepRequest[Any]) -> list[Step[Any]]:
    judge = reweight(judge_of(task), tradeoff, topology, task)
    return list(judge(requests))


def request(*turns: Turn) -> StepRequest[Any]:
    return StepRequest(ADA, {turn.agent: turn.completion.text for turn in turns}, turns)


# Response time


def test_response_by_hand() -> None:
    once = [said("ann", seconds=2), said("bob", seconds=5), said("cat", seconds=1)]
    twice = [*once, said("ann", seconds=4), said("bob", seconds=1), said("cat", seconds=3)]
    assert response(once, Parallel(), seconds) == 5
    assert response(once, Sequential(), seconds) == 8
    assert response(twice, Discussion(2), seconds) == 5 + 4
    assert response([], Parallel(), seconds) == 0


def test_response_of_asynchronous_play_is_that_of_its_slowest_agent() -> None:
    turns = [said("ann", seconds=1), said("bob", seconds=5), said("ann", seconds=1), said("ann", seconds=1)]
    assert response(turns, Asynchronous(turns=3), seconds) == 5


def test_without_a_turn_its_followers_begin_earlier() -> None:
    turns = [said("ann", seconds=2), said("bob", seconds=5), said("cat", seconds=1)]
    assert response([turns[0], turns[2]], Sequential(), seconds) == 3


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("topology", [Parallel(), Sequential(), Discussion(2), Asynchronous(3), Coordinated("ann")])
def test_response_is_what_the_clock_of_play_shows(topology: Topology, seed: int) -> None:
    draw = random.Random(seed)

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion("hm", seconds=draw.choice((0.5, 1.0, 2.25))) for _ in wanted]

    task = task_of(agents=AGENTS)
    judge = judge_of(task)
    (episode,) = drive([EpisodeRun(play(task, topology, Point("ada", ADA)), ())], speak, judge)
    assert response(episode.turns, topology, seconds) == pytest.approx(response_seconds(episode))


# Talk


def test_overlap_by_hand() -> None:
    assert overlap(["a b c", "A b d"]) == 1 / 3  # ab bc | ab bd
    assert overlap(["a b c", "a b d"], ngram=1) == 2 / 4
    assert overlap(["a b", "a b", "c d"]) == pytest.approx(1 / 3)  # 1, 0, 0
    assert overlap(["yes", "Yes", "no"]) == pytest.approx(1 / 3)
    assert overlap(["a b c"]) == overlap([]) == 0
    assert overlap(["a b c", "a b c d"], ngram=4) == 0  # one trigram, and one of four words


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=2, max_size=4), st.integers(1, 3))
def test_overlap_is_a_share_and_does_not_depend_on_the_order(texts: list[str], ngram: int) -> None:
    value = overlap(texts, ngram)
    assert 0 <= value <= 1 + 1e-12
    assert overlap(texts[::-1], ngram) == pytest.approx(value)
    assert overlap([texts[0]] * len(texts), ngram) == pytest.approx(1)


def test_what_is_measured_of_a_round() -> None:
    turns = [said("ann", "a b c", tokens=3), said("bob", " ", tokens=7), said("cat", "a b d", seconds=1, tokens=5)]
    assert measure(turns, Parallel(), RewardWeights()) == Talk(7, 2, 6, 1 / 3)
    assert measure(turns, Sequential(), RewardWeights()).response == 15
    assert measure(turns, Sequential(), RewardWeights(clock="seconds")).response == 1


# The joint reward


def test_the_joint_reward_by_hand() -> None:
    """Q = 0.5; S = -8 / 4; C = 0.25 * 2 + 0.125 * 6 + 0.75 * 1/3."""
    weights = RewardWeights(quality=3, speed=0.5, cost=2, time_unit=4, message=0.25, word=0.125, redundancy=0.75)
    (step,) = judged(
        task_of(), weights, Sequential(), request(said("ann", "a b c", tokens=3), said("bob", "a b d", tokens=5))
    )
    assert step.rewards == pytest.approx(dict.fromkeys(("ann", "bob"), 3 * 0.5 - 0.5 * 2 - 2 * 1.5))
    assert step.metrics == pytest.approx(
        {
            "reward": 0.5,
            "return_percent": 25,
            "quality": 0.5,
            "speed": -2,
            "cost": 1.5,
            "response": 8,
            "messages": 2,
            "words": 6,
            "redundancy": 1 / 3,
        }
    )


@given(st.floats(-1e6, 1e6), st.floats(0.1, 9), st.lists(st.text("ab ", max_size=9), min_size=1, max_size=3))
def test_without_weights_the_reward_is_the_tasks_own_to_the_last_bit(
    reward: float, time_unit: float, texts: list[str]
) -> None:
    turns = [said(agent, text, tokens=len(text)) for agent, text in zip(AGENTS, texts, strict=False)]
    (step,) = judged(task_of(reward, AGENTS), RewardWeights(time_unit=time_unit), Parallel(), request(*turns))
    assert set(step.rewards.values()) == {reward}


def test_as_it_comes_nothing_is_wrapped() -> None:
    judge: Any = lambda asked: []  # noqa: E731
    assert reweight(judge, RewardWeights(), Parallel(), task_of()) is judge


def test_rewards_of_ones_own_are_all_charged_the_same() -> None:
    class Own:
        best_return = 1.0

        def step(self, state: object, actions: Mapping[str, str]) -> Step[object]:
            return Step(state, {"ann": 1.0, "bob": 3.0}, metrics={"return_percent": 77.0})

    weights = RewardWeights(quality=2, cost=1, message=0.5, word=0, redundancy=0)
    (step,) = judged(Own(), weights, Parallel(), request(said("ann")))
    assert step.rewards == {"ann": 2 - 0.5, "bob": 6 - 0.5}
    assert step.metrics["quality"] == 2 and step.metrics["return_percent"] == 77


def test_the_normalized_return_stays_that_of_the_task() -> None:
    plain = task_of().step(ADA, {"ann": "word", "bob": ""})
    (step,) = judged(task_of(), RewardWeights(quality=5, cost=3), Parallel(), request(said("ann")))
    percents = [percent_of_best(task_of(), Episode(Point("ada", ADA), (), (one,))) for one in (plain, step)]
    assert percents == [25, 25] and step.rewards != plain.rewards


def test_requests_are_judged_in_one_call_and_each_is_charged_its_own() -> None:
    calls = list[int]()
    task = task_of()

    def judge(asked: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        calls.append(len(asked))
        return [task.step(r.state, r.actions) for r in asked]

    weights = RewardWeights(cost=1, message=1, word=0, redundancy=0)
    quiet, loud = request(said("ann", "")), request(said("ann"), said("bob", "other"))
    steps = reweight(judge, weights, Parallel(), task)([quiet, loud])
    assert calls == [2] and [step.rewards["ann"] for step in steps] == [0.5, -1.5]


def test_every_round_is_charged() -> None:
    """Two rounds of 10 and 20 tokens, at a weight of 1 and a pace of 10: a return of -1 - 2."""

    class Two:
        name, agents, horizon, best_return = "two", ("ann",), 2, 1.0

        def acting(self, state: int) -> tuple[str, ...]:
            return self.agents

        def observe(self, state: int, agent: str, heard: Sequence[Turn]) -> tuple[()]:
            return ()

        def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
            return Step(state + 1, {"ann": 0.0}, "horizon" if state else "")

    task: Any = Two()
    lengths = iter((10, 20))
    speak = lambda wanted: [Completion("word", token_ids=(1,) * next(lengths)) for _ in wanted]  # noqa: E731
    judge = reweight(
        judge_of(task),
        RewardWeights(speed=1, time_unit=10),
        Parallel(),
        task,
    )
    (episode,) = drive([EpisodeRun(play(task, Parallel(), Point("x", 0)), ())], speak, judge)
    assert list(accumulate(step.rewards["ann"] for step in episode.steps)) == [-1, -3]


def test_a_listener_that_is_told_other_things_costs_what_was_really_said() -> None:
    task = task_of()
    told = MessageAblation(task, "bob", lambda example, turn, agent: None)
    weights = RewardWeights(cost=1, message=1, word=0, redundancy=0)
    plain = reweight(judge_of(task), weights, Sequential(), task)
    speak = lambda wanted: [Completion("word") for _ in wanted]  # noqa: E731
    start = Point("ada", told.reset(ADA))
    (episode,) = drive([EpisodeRun(play(told, Sequential(), start), ())], speak, ablated_judge(told, plain))
    assert episode.steps[0].rewards["ann"] == 0.5 - 2


# Frontier


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_on_the_frontier_more_quality_takes_more_time_and_all_else_is_beaten(points: list[tuple[float, float]]) -> None:
    best = sorted({points[n] for n in frontier(points)})
    assert [time for _, time in best] == sorted({time for _, time in best}) and best
    assert all(any(q >= point[0] and t <= point[1] for q, t in best) for point in points)


# Settings


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"speed": -1}, "reward.speed: expected 0 or more, got -1"),
        ({"quality": float("nan")}, "reward.quality: expected 0 or more, got nan"),
        ({"word": float("inf")}, "reward.word"),
        ({"time_unit": 0}, "reward.time_unit: expected a positive number of tokens, got 0"),
        ({"ngram": 0}, "reward.ngram: expected at least 1 word, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        RewardWeights(**wrong)


def test_weights_are_read_as_they_were_written() -> None:
    run = replace(recipe("tldr"), reward=RewardWeights(speed=0.5, clock="seconds", time_unit=2))
    assert from_json(to_json(run)) == run


def test_rewards_that_sum_up_to_zero_cannot_be_charged() -> None:
    task = replace(task_of(), rewards="zero-sum")
    with pytest.raises(ConfigError, match="reward: the rewards of team sum up to zero"):
        check_experiment(replace(recipe("tldr"), reward=RewardWeights(cost=1)), task)


# Fluency


def letters(texts: Sequence[str]) -> list[float]:
    """As a reader of fluency: minus the number of letters."""
    return [-float(len(text)) for text in texts]


def test_fluency_is_the_mean_over_agents_and_paid_by_its_weight() -> None:
    task, asked = task_of(0.5), request(said("ann", "one"), said("bob", "seven"))
    for weight in (0.0, 0.1):
        judge = rewarded(judge_of(task), task, Parallel(), RewardWeights(fluency=weight), fluency=letters)
        [step] = judge([asked])
        assert step.rewards == pytest.approx({"ann": 0.5 - 4 * weight, "bob": 0.5 - 4 * weight})
        assert (step.metrics["fluency"], step.metrics["fluency/ann"], step.metrics["fluency/bob"]) == (-4, -3, -5)
        episode = Episode(Point("ada", ADA), asked.turns, (step,))
        assert percent_of_best(task, episode) == 25.0  # the task's own, whatever fluency is paid


def test_fluency_is_added_to_what_is_weighed_already() -> None:
    task, tradeoff = task_of(0.5), RewardWeights(quality=2.0, cost=1.0, message=0.25, word=0, redundancy=0, fluency=0.1)
    judge = rewarded(judge_of(task), task, Parallel(), tradeoff, fluency=letters)
    [step] = judge([request(said("ann", "one"), said("bob", "seven"))])
    assert step.rewards["ann"] == pytest.approx(2 * 0.5 - 2 * 0.25 - 0.4)
    assert step.metrics["return_percent"] == 25.0


def test_who_is_left_out_is_read_as_silent() -> None:
    """Silence reads as 0 here: without ann's 3 letters the mean rises by 1.5, which is her difference."""
    task = task_of(0.5)
    judge = rewarded(
        judge_of(task),
        task,
        Parallel(),
        RewardWeights(fluency=1.0, share="difference"),
        fluency=letters,
        training=True,
    )
    [step] = judge([request(said("ann", "one"), said("bob", "seven"))])
    assert step.rewards == pytest.approx({"ann": -1.5, "bob": -2.5})


def test_every_text_of_a_tick_is_read_once() -> None:
    calls: list[Sequence[str]] = []

    def read(texts: Sequence[str]) -> list[float]:
        calls.append(texts)
        return letters(texts)

    task, asked = task_of(0.5), request(said("ann", "one"), said("bob", "one"))
    rewarded(judge_of(task), task, Parallel(), RewardWeights(), fluency=read)([asked, asked])
    assert calls == [["one"]]


def test_a_weight_of_fluency_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reward\.fluency: expected 0 or more"):
        RewardWeights(fluency=-1.0)
