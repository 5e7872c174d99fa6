"""Sessions that a program plays: the same groups as in process, what is recorded, and what is lost."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from fakes.elsewhere import TRAIN, digits, elsewhere, lost_of
from fakes.play import Voice, judge_of
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.sessions import SessionError
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.runs.signals import StoppedError
from madrigal.tasks.elsewhere import ElsewhereTask
from madrigal.types import ConfigError, Example, Group, Message, Point, RewardError, TaskError


def groups_of(task: Any, width: int = 3, voice: Voice | None = None) -> list[Group[Any]]:
    origins = [Point(example.id, task.reset(example)) for example in TRAIN]
    try:
        return rollout_groups(task, Parallel(), origins, Branching(width), voice or Voice(), judge_of(task), (7,))
    finally:
        if isinstance(task, ElsewhereTask):
            task.desk.close("the test is over")


def turns_of(groups: list[Group[Any]]) -> list[Any]:
    return [
        (turn.agent, turn.prompt, turn.completion, turn.round, turn.weight, turn.number)
        for group in groups
        for episode in group.episodes
        for turn in episode.turns
    ]


def on(example: str, then: Callable[[Any], float], otherwise: float = 0.5) -> Callable[[Example, Any], float]:
    """A program that does something else in the first session of an example."""
    first = threading.Lock()

    def rollout(given: Example, client: Any) -> float:
        client.chat("left", "hello")
        if given.id == example and first.acquire(blocking=False):
            return then(client)
        return otherwise

    return rollout


def test_a_program_that_plays_a_task_makes_the_groups_of_the_task() -> None:
    theirs, voice = elsewhere(), Voice()
    groups, own = groups_of(theirs, voice=voice), groups_of(digits())
    assert turns_of(groups) == turns_of(own)
    assert [[e.steps[0].rewards for e in g.episodes] for g in groups] == [
        [e.steps[0].rewards for e in g.episodes] for g in own
    ]
    assert len(theirs.desk._over) == 6  # and no session more
    # All sessions are answered together: two calls of a program are two calls of the engine.
    assert [len(wanted) for wanted in voice.calls] == [6, 6]


def test_coroutines_play_too_and_agents_that_are_asked_at_once_are_answered_at_once() -> None:
    async def rollout(example: Example, client: Any) -> tuple[float, dict[str, float]]:
        await asyncio.gather(client.achat("left", "a"), client.achat("right", "b"))
        return 0.5, {"words": 2}

    voice = Voice()
    groups = groups_of(elsewhere(rollout), voice=voice)
    assert sum(len(wanted) for wanted in voice.calls) == 12
    assert groups[0].episodes[0].steps[0].metrics == {"reward": 0.5, "lost": 0.0, "words": 2.0}


def test_calls_of_one_seat_at_once_are_recorded_in_order_of_arrival_and_draw_by_their_place() -> None:
    def rollout(example: Example, client: Any) -> float:
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda text: client.chat("left", text), ["same", "same"]))
        assert len(set(said)) == 2  # two draws of one prompt
        return 1.0

    once, again = (groups_of(elsewhere(rollout)) for _ in range(2))
    assert turns_of(once) == turns_of(again)
    for group in once:
        for episode in group.episodes:
            assert [turn.after for turn in episode.turns] == [0, 1]


def test_an_answer_asked_for_again_is_the_one_that_was_given_and_stands_once() -> None:
    def rollout(example: Example, client: Any) -> float:
        session, prompt = client._session, (Message("user", "x"),)
        first = session.ask("left", prompt, key="one").result()
        assert session.ask("left", prompt, again=True).result() is first
        assert session.ask("left", (Message("user", "y"),), key="one").result() is first
        assert session.ask("left", prompt).result() != first
        return 1.0

    task = elsewhere(rollout)
    assert [len(episode.turns) for group in groups_of(task) for episode in group.episodes] == [2] * 6
    assert lost_of(task) == []


def test_nothing_is_asked_after_the_reward() -> None:
    kept: list[Any] = []

    def rollout(example: Example, client: Any) -> float:
        kept.append(client)
        return 0.0

    groups_of(elsewhere(rollout))
    with pytest.raises(SessionError, match=r"this session is over \(its reward is known\); ask in a new one"):
        kept[0].chat("left", "hello?")


def test_a_program_that_dies_is_left_out_of_its_group_and_told() -> None:
    def die(client: Any) -> float:
        raise ZeroDivisionError("by zero")

    task = elsewhere(on("a", die))
    groups = groups_of(task)
    assert [len(group.episodes) for group in groups] == [2, 3]
    assert {turn.weight for episode in groups[0].episodes for turn in episode.turns} == {1 / 2}
    assert len(lost_of(task)) == 1
    assert lost_of(task)[0].startswith("ZeroDivisionError: by zero (test_sessions.py, line")


def test_a_program_that_dies_earns_what_the_settings_say() -> None:
    def die(client: Any) -> float:
        raise SystemExit(1)

    task = elsewhere(on("a", die), lost=-1.0)
    steps = [episode.steps[0] for episode in groups_of(task)[0].episodes]
    assert sorted(step.rewards["left"] for step in steps) == [-1.0, 0.5, 0.5]
    assert [step.ending for step in steps if step.metrics["lost"]] == ["failed"]
    assert len(lost_of(task)) == 1


def test_a_program_that_hangs_is_lost_in_time_and_the_others_do_not_wait_for_it() -> None:
    late = threading.Event()
    answered: list[float] = []

    def rollout(example: Example, client: Any) -> float:
        client.chat("left", "hello")
        if client is hung(client):
            late.wait(10)
        else:
            client.chat("right", "hello")
            answered.append(time.monotonic())
        return 0.5

    first: list[Any] = []

    def hung(client: Any) -> Any:
        first.append(client)
        return first[0]

    task, began = elsewhere(rollout, seconds=1.0, gather=0.1), time.monotonic()
    groups = groups_of(task)
    late.set()
    assert sum(len(group.episodes) for group in groups) == 5
    assert lost_of(task) == ["it took longer than 1 s"]
    assert max(answered) - began < 0.9


def test_a_step_of_which_every_session_was_lost_ends_the_run_with_the_reason() -> None:
    def rollout(example: Example, client: Any) -> float:
        client.chat("middle", "hello")
        return 0.0

    with pytest.raises(TaskError, match=r"every episode of this step was lost.*'middle'.*left, right"):
        groups_of(elsewhere(rollout))


@pytest.mark.parametrize(
    ("worth", "rewards", "wanted"),
    [
        (math.nan, "joint", "one finite number, alone or with a mapping of numbers to log, none beyond .* got nan"),
        (1e308, "joint", r"none beyond 1e\+09, got 1e\+308"),
        ((1.0, {"words": "many"}), "joint", "expected finite numbers by name, got {'words': 'many'}"),
        ("good", "joint", "one finite number.*got 'good'"),
        (True, "joint", "one finite number.*got True"),
        ({"left": 1.0, "right": 0.0}, "joint", 'for each agent set rewards to "own"'),
        ({"left": 1.0}, "own", "a finite number for each of left, right"),
        ({"left": 1.0, "right": 0.0, "up": 0.0}, "own", "a finite number for each of left, right"),
    ],
)
def test_rewards_that_are_none_stop_the_run(worth: Any, rewards: str, wanted: str) -> None:
    with pytest.raises(RewardError, match=wanted):
        groups_of(elsewhere(on("a", lambda client: worth), rewards=rewards))


def test_agents_may_earn_rewards_of_their_own() -> None:
    task = elsewhere(lambda example, client: {"left": 1.0, "right": 0.0}, rewards="own")
    assert groups_of(task)[0].episodes[0].steps[0].rewards == {"left": 1.0, "right": 0.0}


def test_tools_speak_for_themselves_and_what_is_no_message_is_refused() -> None:
    def rollout(example: Example, client: Any) -> float:
        client.chat("left", [{"role": "system", "content": "Be brief."}, {"role": "tool", "content": "42"}])
        return 0.0

    turn = groups_of(elsewhere(rollout))[0].episodes[0].turns[0]
    assert [(m.role, m.content) for m in turn.prompt] == [("system", "Be brief."), ("tool", "42")]
    with pytest.raises(TaskError, match=r"expected a role of system, .* and a text as content, got"):
        groups_of(elsewhere(lambda example, client: client.chat("left", [{"role": "left", "content": "x"}])))


def test_without_a_program_nobody_plays() -> None:
    with pytest.raises(ConfigError, match=r"played by a program of its own: hand it to madrigal\.train_rollouts"):
        digits_alone = elsewhere(None)
        groups_of(type(digits_alone)(digits_alone.config))


def test_sessions_that_no_program_takes_end_the_run_in_time() -> None:
    with pytest.raises(SessionError, match=r"no program took a session for 0.05 s, and 6 wait; start the program"):
        groups_of(elsewhere(None, unclaimed=0.05))


def test_a_program_that_died_with_a_session_keeps_nobody_waiting() -> None:
    task = elsewhere(None, seconds=0.2, unclaimed=0.2)
    taken = threading.Timer(0.05, lambda: task.desk.free()[-1].claim())
    taken.start()
    with pytest.raises(SessionError, match="and 5 wait"):
        groups_of(task)
    assert lost_of(task) == ["it took longer than 0.2 s"]


def test_a_run_that_is_to_stop_waits_for_no_program() -> None:
    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        groups_of(replace(elsewhere(None), stop=stop))
    played = replace(elsewhere(), stop=stop)  # but is not cut short by it
    assert [len(group.episodes) for group in groups_of(played)] == [3, 3]
