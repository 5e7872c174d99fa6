"""Play by hand, one call per tick, seeds from names, and what a branching costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from fakes.play import Diary, Voice, grow, judge_of
from madrigal.rollouts.branching import Branching, check_branching
from madrigal.rollouts.play import EpisodeRun, SpeakRequest, StepRequest, drive, play
from madrigal.rollouts.play import judge_in_threads as in_threads
from madrigal.rollouts.rewards import stopping
from madrigal.rollouts.task import SingleRound, check_step
from madrigal.rollouts.topology import Parallel, Sequential
from madrigal.rollouts.tree import rollout_groups
from madrigal.types import Completion, ConfigError, Episode, Example, Group, Message, Point, RewardError, Step, Turn


def says(text: str, seconds: float = 0.0) -> Completion:
    return Completion(text, seconds=seconds)


def test_parallel_play_by_hand() -> None:
    game = play(Diary(), Parallel(), Point("x", ()))
    ask = next(game)
    assert ask == SpeakRequest({"ann": (Message("user", "ann:0:"),), "bob": (Message("user", "bob:0:"),)}, 0, 0)
    assert game.send({"ann": says("a"), "bob": says("b")}) == StepRequest((), {"ann": "a", "bob": "b"})
    ask = game.send(Step(("a+b",), {"ann": 1.0, "bob": 1.0}))
    assert ask == SpeakRequest({"ann": (Message("user", "ann:1:"),), "bob": (Message("user", "bob:1:"),)}, 1, 0)
    assert game.send({"ann": says("c"), "bob": says("d")}) == StepRequest(("a+b",), {"ann": "c", "bob": "d"})
    with pytest.raises(StopIteration) as end:
        game.send(Step((), {"ann": 2.0, "bob": 2.0}, "horizon"))
    episode: Episode[Any] = end.value.value
    assert [(t.agent, t.completion.text, t.round) for t in episode.turns] == [
        ("ann", "a", 0),
        ("bob", "b", 0),
        ("ann", "c", 1),
        ("bob", "d", 1),
    ]
    assert [s.rewards["ann"] for s in episode.steps] == [1.0, 2.0]


def test_the_second_speaker_hears_the_first_and_starts_when_it_has_finished() -> None:
    game = play(Diary(agents=("ann", "bob", "cat")), Sequential(("bob", "ann", "cat")), Point("x", ()))
    assert next(game) == SpeakRequest({"bob": (Message("user", "bob:0:"),)}, 0, 0)
    assert game.send({"bob": says("b", 2.0)}) == SpeakRequest({"ann": (Message("user", "ann:0:b"),)}, 0, 1)
    assert game.send({"ann": says("a", 0.5)}) == SpeakRequest({"cat": (Message("user", "cat:0:b,a"),)}, 0, 2)
    assert game.send({"cat": says("c", 1.0)}) == StepRequest((), {"bob": "b", "ann": "a", "cat": "c"})
    with pytest.raises(StopIteration) as end:
        game.send(Step((), dict.fromkeys(("ann", "bob", "cat"), 0.0), "solved"))
    assert [(t.agent, t.started) for t in end.value.value.turns] == [("bob", 0.0), ("ann", 2.0), ("cat", 2.5)]


def test_the_clock_starts_anew_every_round_and_stands_at_zero_in_parallel() -> None:
    task = Diary()
    slow = lambda wanted: [Completion("a", seconds=3.0) for _ in wanted]  # noqa: E731
    for topology, starts in ((Parallel(), [0, 0, 0, 0]), (Sequential(), [0, 3, 0, 3])):
        (episode,) = drive([EpisodeRun(play(task, topology, Point("x", ())), ())], slow, judge_of(task))
        assert [t.started for t in episode.turns] == starts


def test_two_rounds_of_a_group_cost_two_calls() -> None:
    groups, voice = grow(Diary(horizon=2), Branching(width=5), origins=3)
    assert [len(call) for call in voice.calls] == [30, 30]
    assert [len(group.episodes) for group in groups] == [5, 5, 5]


def test_a_sequential_round_costs_one_call_per_speaker() -> None:
    _, voice = grow(Diary(horizon=2), Branching(width=3), topology=Sequential())
    assert [len(call) for call in voice.calls] == [3, 3, 3, 3]


def test_games_that_have_ended_ask_for_nothing() -> None:
    task, voice = Diary(horizon=2), Voice()
    opened = [Point("x", ()), Point("y", ("said",), round=1)]
    drive([EpisodeRun(play(task, Parallel(), p), (p.example,)) for p in opened], voice, judge_of(task))
    assert [len(call) for call in voice.calls] == [4, 2]


def seeds(voice: Voice) -> list[int]:
    return [u.seed for call in voice.calls for u in call]


def test_seeds_do_not_depend_on_the_games_beside() -> None:
    task = Diary()

    def alone_or_not(count: int) -> str:
        games = [EpisodeRun(play(task, Parallel(), Point("x", ())), ("k", n)) for n in range(count)]
        return repr([t.completion.text for t in drive(games, Voice(), judge_of(task))[0].turns])

    assert alone_or_not(1) == alone_or_not(9)


def test_all_seeds_of_a_step_differ() -> None:
    for branching in (Branching(3), Branching(3, at="round"), Branching(3, crossed=True)):
        _, voice = grow(Diary(horizon=2), branching, origins=4)
        assert len(set(seeds(voice))) == len(seeds(voice))


class Talk:
    """Everybody speaks twice in a round."""

    def speakers(self, agents: Sequence[str], said: Sequence[Turn]) -> tuple[str, ...]:
        return tuple(agents) if len(said) < 2 * len(agents) else ()

    def hears(self, agent: str, said: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(said)


def test_an_agent_that_speaks_twice_in_a_round_has_two_seeds() -> None:
    (group,), voice = grow(Diary(horizon=1), Branching(2), topology=Talk())
    assert len(set(seeds(voice))) == len(seeds(voice)) == 8
    assert [t.agent for t in group.episodes[0].turns] == ["ann", "bob"] * 2


def test_an_example_drawn_twice_in_a_step_is_played_with_other_seeds() -> None:
    voice, task = Voice(), Diary(horizon=1)
    rollout_groups(task, Parallel(), [Point("x", ()), Point("x", ())], Branching(2), voice, judge_of(task))
    assert len(set(seeds(voice))) == 8


def test_groups_do_not_depend_on_the_number_of_workers() -> None:
    task, played = Diary(horizon=2), []
    for workers in (1, 8):
        with ThreadPoolExecutor(workers) as pool:
            points = [Point(f"x{n}", ()) for n in range(6)]
            played.append(rollout_groups(task, Parallel(), points, Branching(4), Voice(), in_threads(task, pool), (7,)))
    assert played[0] == played[1]


def leaves(group: Group[Any]) -> int:
    return sum(leaves(e.then) if e.then else 1 for e in group.episodes)


@pytest.mark.parametrize(
    ("branching", "horizon", "count", "calls"),
    [
        (Branching(3), 3, 3, [6, 6, 6]),
        (Branching(3, at="round"), 3, 27, [6, 18, 54]),
        (Branching(3, crossed=True), 1, 9, [6]),
        (Branching(2, crossed=True), 2, 4, [4, 8]),
        (Branching(2, at="round", crossed=True), 2, 16, [4, 16]),
    ],
)
def test_branches_and_what_they_cost(branching: Branching, horizon: int, count: int, calls: list[int]) -> None:
    (group,), voice = grow(Diary(horizon=horizon), branching)
    assert leaves(group) == count == branching.leaves(("ann", "bob"), horizon)
    assert [len(call) for call in voice.calls] == calls


def test_choices_of_siblings() -> None:
    (aligned,), _ = grow(Diary(horizon=1), Branching(3))
    (crossed,), _ = grow(Diary(horizon=1), Branching(2, crossed=True))
    assert [e.choice for e in aligned.episodes] == [(0, 0), (1, 1), (2, 2)]
    assert [e.choice for e in crossed.episodes] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_crossed_joint_actions_share_their_answers() -> None:
    (group,), _ = grow(Diary(horizon=1), Branching(2, crossed=True))
    said = [[t.completion.text for t in e.turns] for e in group.episodes]
    (a0, b0), (_, b1), (a1, _), _ = said
    assert said == [[a0, b0], [a0, b1], [a1, b0], [a1, b1]] and a0 != a1 and b0 != b1


def test_children_of_a_tree_go_on_from_their_parents_state() -> None:
    (group,), _ = grow(Diary(horizon=2), Branching(2, at="round"))
    for parent in group.episodes:
        assert parent.then is not None and len(parent.steps) == 1
        assert parent.then.origin == Point("x0", parent.steps[0].state, round=1)
        assert all(len(child.steps) == 1 and child.turns[0].round == 1 for child in parent.then.episodes)


def test_a_branch_that_has_ended_grows_no_children() -> None:
    task = Diary(horizon=2)
    stops = lambda wanted: [Completion("stop" if n < 2 else "go") for n in range(len(wanted))]  # noqa: E731
    (group,) = rollout_groups(task, Parallel(), [Point("x", ())], Branching(2, at="round"), stops, judge_of(task))
    assert group.episodes[0].then is None and group.episodes[1].then is not None


def test_a_branch_above_the_threshold_plays_no_further_round() -> None:
    task = Diary(horizon=3)

    def judge(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        steps = judge_of(task)(requests)
        return [replace(step, rewards=dict.fromkeys(step.rewards, float(n))) for n, step in enumerate(steps)]

    (group,) = rollout_groups(task, Parallel(), [Point("x", ())], Branching(2), Voice(), stopping(judge, 0.5))
    assert [(len(e.steps), e.steps[-1].ending) for e in group.episodes] == [(3, "horizon"), (1, "solved")]


def test_a_tree_over_the_limit_is_refused_with_its_size() -> None:
    check_branching(Branching(4, at="round"), ("ann", "bob"), horizon=4)
    with pytest.raises(ConfigError, match="1024 episodes per example exceed the limit of 256"):
        check_branching(Branching(4, at="round"), ("ann", "bob"), horizon=5)
    with pytest.raises(ConfigError, match="512 episodes"):
        check_branching(Branching(8, crossed=True), ("ann", "bob", "cat"), horizon=1)


def test_joint_actions_cannot_be_crossed_where_agents_speak_in_turn() -> None:
    with pytest.raises(ConfigError, match="all agents to speak at once"):
        grow(Diary(), Branching(2, crossed=True), topology=Sequential())


@pytest.mark.parametrize(
    ("rewards", "problem"),
    [
        ({"ann": math.nan, "bob": 1.0}, "reward of ann must be a finite number, got nan"),
        ({"ann": 1.0, "bob": math.inf}, "reward of bob must be a finite number, got inf"),
        ({"ann": "1", "bob": 1.0}, "reward of ann must be a finite number, got '1'"),
        ({"ann": True, "bob": 1.0}, "reward of ann must be a finite number, got True"),
        ({"ann": None, "bob": 1.0}, "reward of ann must be a finite number, got None"),
        ({"ann": 1.0}, "one reward for each of ann, bob, got 1: ann"),
        ({}, "one reward for each of ann, bob, got 0: none"),
        ({"ann": 1.0, "bob": 1.0, "cat": 1.0}, "got 3: ann, bob, cat"),
    ],
)
def test_a_reward_that_is_no_finite_number_per_agent_is_an_error(rewards: dict[str, Any], problem: str) -> None:
    with pytest.raises(RewardError, match=problem):
        check_step(Diary(), Step((), rewards))  # type: ignore[arg-type]


def leaving_reward(example: Example, said: Mapping[str, str]) -> float:
    raise SystemExit(3)


def failing_reward(example: Example, said: Mapping[str, str]) -> float:
    raise KeyError("nothing")


def wordy_reward(example: Example, said: Mapping[str, str]) -> Any:
    return "1.0"


@pytest.mark.parametrize(
    ("reward", "problem"),
    [
        (failing_reward, "failing_reward raised KeyError.*on example ada"),
        (leaving_reward, "leaving_reward raised SystemExit: 3.*on example ada"),
        (wordy_reward, "wordy_reward must return one finite number, got '1.0' .str. on example ada"),
        (lambda example, said: math.nan, "must return one finite number, got nan"),
    ],
)
def test_a_reward_function_that_fails_is_named(reward: Any, problem: str) -> None:
    ada = Example("ada", {})
    task = SingleRound("own", ("ann",), (ada,), (ada,), lambda example, agent: "Go.", reward)
    with pytest.raises(RewardError, match=problem), ThreadPoolExecutor(2) as pool:
        rollout_groups(task, Parallel(), [Point("ada", ada)], Branching(2), Voice(), in_threads(task, pool))
