"""A discussion's second pass is the joint action and takes the time of both; more samples leave the first alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from madrigal.evaluation.evaluate import EvalSetup, Evaluation, evaluate, response_seconds
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, StepRequest, drive, play
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Discussion
from madrigal.settings import EvaluationConfig
from madrigal.types import Completion, ConfigError, Episode, Example, Point, Step

TIMES = {("ann", 0): 5.0, ("bob", 0): 1.0, ("ann", 1): 2.0, ("bob", 1): 3.0}


def reward(example: Example, said: dict[str, str]) -> float:
    """1 for each agent whose scored answer is of the second pass."""
    return sum(text.endswith("1") for text in said.values()) / 2


TASK = SingleRound(
    "talk", ("ann", "bob"), (), (Example("x", {}), Example("y", {})), lambda example, agent: f"{agent}?", reward
)


@dataclass
class Script:
    """Answers "<agent><pass>", in the seconds of TIMES; remembers what everybody was shown."""

    shown: list[str] = field(default_factory=list)

    def __call__(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [self._say(one) for one in wanted]

    def _say(self, one: GenerationRequest) -> Completion:
        text = one.prompt[-1].content
        self.shown.append(text)
        turn = text.count(f"{one.agent} said")
        return Completion(f"{one.agent}{turn}", token_ids=(1,) * 10, seconds=TIMES[one.agent, min(turn, 1)])


def judge(requests: Sequence[StepRequest[Example]]) -> list[Step[Example]]:
    return [TASK.step(request.state, request.actions) for request in requests]


def discussed(rounds: int = 2) -> tuple[Episode[Example], Script]:
    script = Script()
    game = EpisodeRun(play(TASK, Discussion(rounds), Point("x", TASK.test[0])), ("key",))
    return drive([game], script, judge)[0], script


def test_only_the_second_pass_is_scored() -> None:
    episode, _ = discussed()
    assert [turn.completion.text for turn in episode.turns] == ["ann0", "bob0", "ann1", "bob1"]
    assert {turn.round for turn in episode.turns} == {0} and episode.steps[0].rewards == {"ann": 1.0, "bob": 1.0}


def test_in_the_first_pass_nobody_hears_anybody_in_the_second_everybody_hears_the_first() -> None:
    _, script = discussed()
    heard = "\nann said: ann0\nbob said: bob0"
    assert script.shown == ["ann?", "bob?", f"ann?{heard}", f"bob?{heard}"]


def test_three_passes_hear_both_earlier_ones() -> None:
    episode, script = discussed(3)
    assert len(episode.turns) == 6 and script.shown[-1].count(" said: ") == 4


def test_its_response_time_is_the_sum_of_two_passes_each_as_long_as_its_longest() -> None:
    episode, _ = discussed()
    assert [turn.started for turn in episode.turns] == [0.0, 0.0, 5.0, 5.0]
    assert response_seconds(episode) == 5.0 + 3.0


def test_speed_is_all_agents_tokens_over_response_time() -> None:
    result, _ = evaluate(EvalSetup(TASK, Discussion(), TASK.test, Script(), judge), timed_examples=2)
    assert result.response_seconds == 8.0 and result.tokens_per_second == 4 * 10 / 8.0


def test_for_the_clock_nobody_shares_the_machine() -> None:
    """A batched answer of n rows takes n times as long as one alone: only the latter is response time."""
    sizes = list[int]()

    def crowded(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        sizes.append(len(wanted))
        return [Completion("said", token_ids=(1,) * 10, seconds=float(len(wanted))) for _ in wanted]

    result, _ = evaluate(EvalSetup(TASK, Discussion(), TASK.test, crowded, judge), timed_examples=2)
    assert sizes == [4, 4, *[1] * 8]  # two examples in two passes, batched; then each of eight answers alone
    assert result.response_seconds == 2.0 and result.tokens_per_second == 40 / 2.0


def test_a_discussion_of_one_pass_is_parallel_and_of_none_an_error() -> None:
    assert [turn.completion.text for turn in discussed(1)[0].turns] == ["ann0", "bob0"]
    with pytest.raises(ConfigError, match=r"topology.rounds: expected at least 1 pass, got 0"):
        Discussion(0)


DICE = SingleRound(
    "dice",
    ("ann",),
    (),
    (Example("x", {}), Example("y", {})),
    lambda example, agent: example.id,
    lambda example, said: 10.0 if example.id == "y" else float(said["ann"]),
    best_return=10.0,
)


def roll(samples: int) -> tuple[Evaluation, list[str], list[float]]:
    """What was measured, what was said and what it earned, by voices that say a digit of their seed."""
    setup = EvalSetup(
        DICE,
        Discussion(1),
        DICE.test,
        lambda wanted: [Completion(str(one.seed % 10)) for one in wanted],
        lambda requests: [DICE.step(one.state, one.actions) for one in requests],
        seed=3,
    )
    result, episodes = evaluate(setup, samples=samples)
    said = [episode.turns[0].completion.text for episode in episodes]
    return result, said, [episode.steps[0].rewards["ann"] for episode in episodes]


def test_more_samples_leave_the_first_as_it_was_and_differ_from_it() -> None:
    _, once, _ = roll(1)
    _, said, _ = roll(8)
    assert [said[0], said[8]] == once and len(said) == 16
    seeds = [derive("evaluate", 3, example.id, 0, 0, "ann") for example in DICE.test]  # as before there were samples
    assert once == [str(seed % 10) for seed in seeds]
    assert len(set(said[:8])) > 1 and said[:8] != said[8:]


def test_an_example_counts_once_however_often_it_was_played() -> None:
    result, _, earned = roll(8)
    first = sum(earned[:8]) / 8
    assert earned[8:] == [10.0] * 8 and result.examples == 2
    assert result.return_percent == pytest.approx((10 * first + 100) / 2)
    assert result.components["reward"] == pytest.approx((first + 10) / 2)
    assert (result.low, result.high) == (pytest.approx(10 * first), 100.0)  # two examples vary, not sixteen plays
    assert result.intervals["reward"] == (pytest.approx(first), 10.0)


def test_no_sample_is_no_evaluation() -> None:
    with pytest.raises(ConfigError, match=r"evaluation.samples: expected at least 1, got 0"):
        EvaluationConfig(samples=0)
