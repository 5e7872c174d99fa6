"""A seeker and a holder: who is shown what, what a message may carry, and that private examples need both messages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest

from madrigal.compare.contenders import alone
from madrigal.evaluation.ablations import MessageAblation
from madrigal.rollouts.play import EpisodeRun, drive, judge_in_turn, play
from madrigal.rollouts.rewards import reweight
from madrigal.rollouts.task import Task, check_task, demonstrations_of
from madrigal.rollouts.task.asking import ask
from madrigal.rollouts.topology import Parallel
from madrigal.settings import RewardWeights
from madrigal.tasks.catalog import open_task
from madrigal.tasks.messages.relay import COLORS, HOLDER, SEEKER, SOLVER, Relay, RelayTask, Talk
from madrigal.tasks.splits import with_validation
from madrigal.types import Completion, ConfigError, Example, Point, Step

TASK = RelayTask(Relay())
FACTS = {"cup": "red", "hat": "blue"}
PRIVATE = Example("p", {"facts": FACTS, "asked": "hat", "private": True})
SHARED = Example("s", {"facts": FACTS, "asked": "hat", "private": False})


def shown(task: RelayTask, state: Talk) -> str:
    (message,) = task.observe(state, task.acting(state)[0], ())
    return message.content


def played(example: Example, question: str, reply: str, answer: str, task: RelayTask = TASK) -> list[Step[Talk]]:
    state, steps = task.reset(example), list[Step[Talk]]()
    for text in (question, reply, answer):
        steps.append(task.step(state, {task.acting(state)[0]: text}))
        state = steps[-1].state
    return steps


def test_who_is_shown_what() -> None:
    state = TASK.reset(PRIVATE)
    assert shown(TASK, state) == "What color is the hat?\nAsk the holder in up to 4 words."
    state = TASK.step(state, {SEEKER: "the hat"}).state
    facts = "The cup is red. The hat is blue."
    assert shown(TASK, state) == f"{facts}\nThe seeker says: the hat\nReply in up to 4 words."
    state = TASK.step(state, {HOLDER: "it is blue"}).state
    last = "What color is the hat?\nThe holder says: it is blue\nAnswer with one color."
    assert shown(TASK, state) == last
    shared = [TASK.reset(SHARED), played(SHARED, "the hat", "it is blue", "")[1].state]
    assert [shown(TASK, each).startswith(f"{facts}\nWhat color is the hat?") for each in shared] == [True, True]


def test_a_message_is_cut_and_silence_is_heard() -> None:
    first, second, _ = played(PRIVATE, "one two three four five", "  ", "blue")
    assert first.state.question == "one two three four" and "five" not in shown(TASK, first.state)
    assert "The holder says: nothing" in shown(TASK, second.state)


@pytest.mark.parametrize(
    ("answer", "right"), [("blue", 1), ("It is Blue!", 1), ("red", 0), ("red or blue", 0), ("bluest", 0), ("", 0)]
)
def test_one_color_is_the_answer_and_only_the_last_round_pays(answer: str, right: int) -> None:
    *before, last = played(PRIVATE, "hat?", "hat blue", answer)
    assert [step.rewards for step in before] == [{SEEKER: 0, HOLDER: 0}] * 2 and not before[0].metrics
    assert last.rewards == {SEEKER: right, HOLDER: right} and last.ending == "solved"
    assert last.metrics == {"return_percent": 100 * right, "right/private": 100 * right, "words": 3}


def cleverly(task: Task[Any], example: Example) -> float:
    """The return of a team that asks for the object, is told its color, and says it; or reads it, if it can."""

    def speak(requests: Any) -> list[Completion]:
        return [Completion(_clever(request.prompt[-1].content)) for request in requests]

    start = Point(example.id, task.reset(example))
    (episode,) = drive([EpisodeRun(play(task, Parallel(), start), ("x",))], speak, judge_in_turn(task))
    return sum(step.rewards[SEEKER] for step in episode.steps)


def _clever(prompt: str) -> str:
    known = dict(re.findall(r"The (\w+) is (\w+)\.", prompt))
    asked, heard = re.search(r"What color is the (\w+)", prompt), re.search(r"says: (\w+)", prompt)
    if asked and not heard:
        return asked[1]
    assert heard
    return known.get(asked[1] if asked else heard[1], heard[1])


@pytest.mark.parametrize(("listener", "told"), [(SEEKER, "holder's"), (HOLDER, "seeker's")])
def test_messages_are_needed_in_private_examples_alone(listener: str, told: str) -> None:
    """Without either of them a team that plays perfectly earns nothing there, and everything where facts are shared."""
    unheard = MessageAblation(TASK, listener, lambda example, round, agent: None)
    tests = TASK.examples("test")[:20]
    assert all(cleverly(TASK, example) == 1 for example in tests)
    for example in tests:
        assert cleverly(unheard, example) == (0 if example.data["private"] else 1), told


@pytest.mark.parametrize(("question", "reply", "left"), [("hat?", "it is blue", 0.7), ("", "blue", 0.8), ("", "", 0.9)])
def test_a_price_of_messages_is_saved_by_silence(question: str, reply: str, left: float) -> None:
    """0.1 for each of question, reply and answer that has words, however many."""

    def speak(requests: Any) -> list[Completion]:
        return [Completion((question, reply, "blue")[request.round]) for request in requests]

    judge = reweight(judge_in_turn(TASK), RewardWeights(cost=1, message=0.1, word=0), Parallel(), TASK)
    (episode,) = drive([EpisodeRun(play(TASK, Parallel(), Point("s", TASK.reset(SHARED))), ("x",))], speak, judge)
    assert sum(step.rewards[SEEKER] for step in episode.steps) == pytest.approx(left)


def test_what_is_held_out() -> None:
    split = with_validation(TASK)
    pairs: dict[str, set[tuple[str, str]]] = {}
    for name in ("train", "validation", "test"):
        found = split.examples(name)  # type: ignore[arg-type]
        pairs[name] = {(e.data["asked"], e.data["facts"][e.data["asked"]]) for e in found}
        assert all(len(set(e.data["facts"].values())) == 4 == len(e.data["facts"]) for e in found)
    assert not any(one & two for one, two in itertools.combinations(pairs.values(), 2))
    assert len({color for _, color in pairs["test"]}) >= 6


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_so_many_examples_are_private(share: float) -> None:
    found = [example.data["private"] for example in RelayTask(Relay(private=share)).examples("test")[:48]]
    assert sum(found) == 48 * share


@pytest.mark.parametrize("config", [Relay(), Relay(facts=8, private=1, words=1), Relay(facts=2), Relay(alone=True)])
def test_the_contract_and_novices(config: Relay) -> None:
    with open_task(config) as task:
        check_task(task)
        given: Mapping[str, Mapping[str, Any]] = demonstrations_of(task)
        assert given.keys() == {example.id for example in task.examples("train")}
        assert all(said.keys() == set(task.agents) for said in given.values())
        last = [said[task.agents[0]][-1] for said in given.values()]
        right = [e.data["facts"][e.data["asked"]] == one for e, one in zip(task.examples("train"), last, strict=True)]
    assert set(last) == set(COLORS) and 0.05 < sum(right) / len(right) < 0.2, "by chance"


def test_one_agent_alone_knows_everything() -> None:
    single = alone(Relay())
    assert single == Relay(alone=True)
    task = RelayTask(Relay(alone=True))
    state = task.reset(PRIVATE)
    assert shown(task, state) == "The cup is red. The hat is blue.\nWhat color is the hat?\nAnswer with one color."
    assert task.step(state, {SOLVER: "blue"}).rewards == {SOLVER: 1}


def test_new_facts_may_be_asked() -> None:
    state = ask(TASK, {"facts": FACTS, "asked": "cup"})
    assert "Ask the holder" in shown(TASK, state)
    with pytest.raises(ConfigError, match="expected one of cup, hat to be asked for, got 'dog'"):
        ask(TASK, {"facts": FACTS, "asked": "dog"})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"facts": 1}, "task.facts: expected 2 to 8, got 1"),
        ({"facts": 9}, "task.facts: expected 2 to 8, got 9"),
        ({"private": 1.5}, "task.private: expected a share from 0 to 1, got 1.5"),
        ({"words": 0}, "task.words: expected at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Relay(**setting)  # type: ignore[arg-type]
