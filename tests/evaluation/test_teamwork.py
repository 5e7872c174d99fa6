"""Teams taken apart whose cooperation is known: every number of the result, and what cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fakes import relay
from madrigal.evaluation.cooperation import EvalSetup
from madrigal.evaluation.statistics import Interval
from madrigal.evaluation.teamwork import ALONE, UNHEARD, Teamwork, analyze_team, cached
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.task import SingleRound, Task
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.tasks.discussion.gsm8k import Gsm8k, Gsm8kTask
from madrigal.types import Completion, ConfigError, Example, Step, TaskError

ALL, NONE = Interval(100.0, 100.0, 100.0), Interval(0.0, 0.0, 0.0)


def team(mirrored: bool = False) -> Generate:
    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [relay.answer(u.agent, u.prompt[-1].content, u.seed, mirrored=mirrored) for u in wanted]

    return speak


def trial(task: Task[Any] = relay.task, topology: Topology = Sequential(), examples: int = 12) -> EvalSetup:  # noqa: B008
    def judge(requests: Sequence[Any]) -> list[Step[Any]]:
        return [task.step(request.state, request.actions) for request in requests]

    return EvalSetup(task, topology, task.examples("test")[:examples], lambda wanted: [], judge)


def losses(found: Teamwork, change: str) -> dict[str, Interval]:
    return {drop.agent: drop.loss for drop in found.drops if drop.change == change}


def test_who_is_needed_costs_all_and_who_is_not_exactly_nothing() -> None:
    found = analyze_team(trial(), {"a": team()})
    assert (found.examples, found.return_percent) == (12, ALL)
    assert losses(found, "silent") == losses(found, "borrowed") == {"ann": ALL, "bob": ALL, "cat": NONE}
    assert losses(found, "deaf") == {"ann": NONE, "bob": ALL, "cat": NONE}


def test_holm_counts_all_drops() -> None:
    """Nine tests: of 2^12 sign flips two are as far from 0 as twelve losses of 100 points."""
    found = analyze_team(trial(), {"a": team()})
    lost = [drop for drop in found.drops if drop.loss == ALL]
    assert (len(found.drops), len(lost)) == (9, 5)
    assert {(drop.p, drop.corrected) for drop in lost} == {(2 / 2**12, 9 * 2 / 2**12)}
    assert {(drop.p, drop.corrected) for drop in found.drops if drop not in lost} == {(1.0, 1.0)}


def test_a_voice_that_only_has_to_be_there_is_missed_when_silent_and_not_when_it_speaks_of_something_else() -> None:
    def reward(example: Example, said: Mapping[str, str]) -> float:
        return relay.reward(example, said) * bool(said["cat"])

    found = analyze_team(trial(replace(relay.task, reward=reward)), {"a": team()})
    assert (losses(found, "silent")["cat"], losses(found, "borrowed")["cat"]) == (ALL, NONE)


def test_influence_is_measured_where_somebody_hears() -> None:
    """Bob repeats each of 8 messages twice: 16 counts and 64 of the smoothing, 3 where message and reply meet."""
    found = analyze_team(trial(), {"a": team()})
    copied = 8 * 3 / 80 * math.log(3 / 80 * 64) + 56 / 80 * math.log(1 / 80 * 64)
    assert {speaker: set(heard) for speaker, heard in found.influence.items()} == {
        "ann": {"bob", "cat"},
        "bob": {"cat"},
    }
    assert found.influence["ann"]["bob"].contexts == pytest.approx([copied] * 12, abs=1e-12)
    assert found.influence["ann"]["bob"].copied == pytest.approx(copied, abs=1e-12)
    for speaker in ("ann", "bob"):
        assert found.influence[speaker]["cat"].contexts == pytest.approx([0.0] * 12, abs=1e-12)


def test_a_pair_that_cannot_be_measured_is_named_with_the_reason() -> None:
    found = analyze_team(trial(), {"a": team()})
    assert [notice.split("; ")[0] for notice in found.notices] == [
        "The influence of bob on ann cannot be measured: ann never acts after bob",
        "The influence of cat on ann cannot be measured: ann never acts after cat",
        "The influence of cat on bob cannot be measured: bob never acts after cat",
    ]


def test_shares_of_tokens_are_those_of_the_episodes_played() -> None:
    assert analyze_team(trial(), {"a": team()}).tokens == {"ann": 0.25, "bob": 0.5, "cat": 0.25}


def test_copies_of_a_team_have_no_gap_and_strangers_with_another_convention_the_whole() -> None:
    alike = analyze_team(trial(), {"a": team(), "b": team()}).cross_play
    assert alike and (alike.teams, alike.own, alike.crossed, alike.gap) == (("a", "b"), 100.0, 100.0, NONE)
    # Both turn words round, ann for bob and bob back again; only half of a mirrored team spoils them.
    strange = analyze_team(trial(), {"a": team(), "b": team(mirrored=True)}).cross_play
    assert strange and (strange.own, strange.crossed, strange.gap) == (100.0, 0.0, ALL)
    assert strange.returns == ((100.0, 0.0), (0.0, 100.0))
    assert analyze_team(trial(), {"a": team()}).cross_play is None


def test_the_first_team_is_taken_apart() -> None:
    mute: Generate = lambda wanted: [Completion("") for _ in wanted]  # noqa: E731
    assert analyze_team(trial(), {"mute": mute, "a": team()}).return_percent == NONE
    assert analyze_team(trial(), {"a": team(), "mute": mute}).return_percent == ALL


def debate(wanted: Sequence[GenerationRequest]) -> list[Completion]:
    """The first agent can add; the second repeats what it saw of the first in an earlier round."""
    said = []
    for utterance in wanted:
        texts = [message.content for message in utterance.prompt if message.role == "user"]
        number = int(texts[0].split("What is ")[1].split(" ")[0])
        seen = [text.split("The first agent answered: ")[1].split("\n")[0] for text in texts if "first agent" in text]
        right = f"The answer is {2 * number}."
        said.append(Completion(right if utterance.agent == "first" else (seen or ["The answer is 0."])[-1]))
    return said


def test_over_several_rounds_everybody_is_heard() -> None:
    numbers = tuple(Example(f"q{n}", {"question": f"What is {n} + {n}?", "answer": str(2 * n)}) for n in (3, 5, 8))
    found = analyze_team(replace(trial(Gsm8kTask(Gsm8k(rounds=2)), Parallel()), examples=numbers), {"a": debate})
    half = Interval(50.0, 50.0, 50.0)
    assert losses(found, "silent") == {"first": ALL, "second": half}
    assert losses(found, "deaf") == {"first": NONE, "second": half}
    assert found.notices == () and set(found.influence) == {"first", "second"}


def test_where_nobody_hears_nothing_is_asked_about_messages() -> None:
    found = analyze_team(trial(topology=Parallel()), {"a": team()})
    assert {drop.change for drop in found.drops} == {"silent", "borrowed"}
    assert (found.influence, found.notices) == ({}, (UNHEARD,))


def test_a_single_agent_is_only_played() -> None:
    alone = SingleRound("alone", ("bob",), relay.task.train, relay.task.test, relay.prompt, relay.reward)
    found = analyze_team(trial(alone), {"a": team(), "b": team()})
    assert (found.drops, found.influence, found.cross_play, found.notices) == ((), {}, None, (ALONE,))
    assert (found.return_percent, found.tokens) == (NONE, {"bob": 1.0})


def test_nothing_is_asked_twice() -> None:
    asked: list[GenerationRequest] = []

    def noted(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        asked.extend(wanted)
        return team()(wanted)

    analyze_team(trial(), {"a": noted})
    assert len(asked) == len(set(asked)) > 12 * 3


def test_what_is_remembered_is_what_was_said() -> None:
    calls: list[int] = []

    def counting(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        calls.append(len(wanted))
        return [Completion(f"{utterance.seed}, call {len(calls)}") for utterance in wanted]

    speak, one, two = cached(counting), GenerationRequest("ann", (), 1), GenerationRequest("ann", (), 2)
    assert [said.text for said in speak([one])] == ["1, call 1"]
    assert [said.text for said in speak([two, one, two])] == ["2, call 2", "1, call 1", "2, call 2"]
    assert speak([one, two]) and calls == [1, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, "high"])
def test_a_normalized_return_that_is_no_number_is_refused(value: Any) -> None:
    def judge(requests: Sequence[Any]) -> list[Step[Any]]:
        rewards = dict.fromkeys(relay.AGENTS, 1.0)
        return [Step(request.state, rewards, "horizon", {"return_percent": value}) for request in requests]

    with pytest.raises(TaskError, match="task relay: the metric 'return_percent' must be a finite number, got"):
        analyze_team(replace(trial(), judge=judge), {"a": team()})


def test_one_example_is_too_few_and_said_so() -> None:
    with pytest.raises(ConfigError, match="at least two examples"):
        analyze_team(trial(examples=1), {"a": team()})


def test_stages_are_told_in_order() -> None:
    stages: list[str] = []
    analyze_team(trial(), {"a": team()}, stages.append)
    assert stages == [
        "playing",
        "leaving agents and messages out",
        "drawing messages again",
        "playing with agents of other teams",
    ]
