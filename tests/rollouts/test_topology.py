"""Who speaks when and hears whom: by hand, on a scripted clock, and as laws over all topologies."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.play import judge_of
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment, from_json, to_json
from madrigal.recipes.embedded import own
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, drive, play
from madrigal.rollouts.task import SingleRound, check_task
from madrigal.rollouts.topology import (
    Asynchronous,
    Coordinated,
    Discussion,
    Parallel,
    Sequential,
    Topology,
    TopologyConfig,
    last_word,
)
from madrigal.rollouts.tree import rollout_groups
from madrigal.tasks.coordinating import Coordinating, coordinated
from madrigal.tasks.discussion.gsm8k import Gsm8k
from madrigal.training.checks import check_experiment, open_checked_task
from madrigal.types import Completion, ConfigError, Episode, Example, Message, Point, Step, Turn

Heard = dict[tuple[str, int], tuple[frozenset[tuple[str, int]], float]]  # of each agent's n-th turn: what, and when
Script = Callable[[str, int], Completion]  # an agent's n-th turn


def said(agent: str, seconds: float = 0.0, text: str = "") -> Turn:
    return Turn(agent, (), Completion(text, seconds=seconds))


def names(turns: Sequence[Turn]) -> str:
    return " ".join(turn.agent for turn in turns)


def one_round(
    topology: Topology, agents: Sequence[str], script: Script, choose: Callable[[Sequence[str]], Sequence[str]] = tuple
) -> tuple[Heard, list[Turn]]:
    """Plays a round, of those who speak at once only the chosen ones at a time."""
    turns, heard, count = list[Turn](), Heard(), Counter[str]()
    while speakers := topology.speakers(agents, turns):
        asked = {agent: topology.hears(agent, turns) for agent in choose(speakers)}
        for agent, quoted in asked.items():
            begins = max((turn.started + turn.completion.seconds for turn in quoted), default=0.0)
            label = {id(turn): (turn.agent, n) for turn, n in numbered(turns)}
            heard[agent, count[agent]] = frozenset(label[id(turn)] for turn in quoted), begins
            turns.append(Turn(agent, (), script(agent, count[agent]), started=begins))
            count[agent] += 1
    return heard, turns


def numbered(turns: Sequence[Turn]) -> list[tuple[Turn, int]]:
    return [(turn, sum(t.agent == turn.agent for t in turns[:place])) for place, turn in enumerate(turns)]


# Rounds that have begun


def test_in_parallel_those_speak_who_have_not() -> None:
    assert Parallel().speakers(("ann", "bob", "cat"), [said("bob")]) == ("ann", "cat")
    assert Parallel().speakers(("ann", "bob"), [said("bob"), said("ann")]) == ()
    assert Parallel().hears("ann", [said("bob")]) == ()


def test_a_discussion_goes_on_from_inside_a_pass() -> None:
    talk, agents = Discussion(2), ("ann", "bob", "cat")
    turns = [said("bob")]
    assert talk.speakers(agents, turns) == ("ann", "cat")
    assert talk.hears("ann", turns) == ()
    turns += [said("cat"), said("ann"), said("cat")]
    assert talk.speakers(agents, turns) == ("ann", "bob")
    assert names(talk.hears("ann", turns)) == "bob cat ann"
    turns += [said("ann"), said("bob")]
    assert talk.speakers(agents, turns) == ()


TOPOLOGIES = [
    Parallel(),
    Sequential(),
    Discussion(1),
    Discussion(3),
    Asynchronous(turns=3),
    Asynchronous(turns=0, budget=9),
    Asynchronous(turns=2, budget=7),
    Coordinated("a", turns=5),
]


@settings(max_examples=40)
@given(count=st.integers(1, 5), seed=st.integers(0, 10**6))
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=repr)
def test_it_does_not_matter_in_which_order_those_are_asked_who_speak_at_once(
    topology: Topology, count: int, seed: int
) -> None:
    agents = tuple("abcde"[:count])
    draw = random.Random(seed)
    table = {(a, n): draw.choice((0.0, 0.1, 0.2, 1.0, 2.5)) for a in agents for n in range(9)}
    calls = [draw.choice(("b", "c", "stop", "well")) for _ in range(9)]

    def script(agent: str, n: int) -> Completion:
        return Completion(calls[n] if agent == "a" else "", seconds=table[agent, n])

    def some(speakers: Sequence[str]) -> Sequence[str]:
        return draw.sample(speakers, draw.randint(1, len(speakers)))

    together, _ = one_round(topology, agents, script)
    assert one_round(topology, agents, script, some)[0] == together


# Asynchronous


def by_clock(**seconds: Sequence[float]) -> Script:
    return lambda agent, n: Completion(f"{agent}{n}", seconds=seconds[agent][n])


def test_a_fast_agent_goes_on_while_a_slow_one_speaks() -> None:
    """ann takes 1 s a turn, bob 2.5 s: at 2 s ann begins anew and bob has not ended; at 3 s he has."""
    script = by_clock(ann=[1, 1, 1, 1], bob=[2.5, 2.5])
    heard, turns = one_round(Asynchronous(turns=0, budget=6), ("ann", "bob"), script)
    assert names(turns) == "ann bob ann ann bob ann"
    assert [turn.started for turn in turns] == [0, 0, 1, 2, 2.5, 3]
    ann = [frozenset(("ann", k) for k in range(n)) for n in range(4)]
    assert heard == {
        ("ann", 0): (ann[0], 0),
        ("bob", 0): (frozenset(), 0),
        ("ann", 1): (ann[1], 1),
        ("ann", 2): (ann[2], 2),
        ("bob", 1): (frozenset({("bob", 0), *ann[2]}), 2.5),
        ("ann", 3): (frozenset({("bob", 0), *ann[3]}), 3),
    }


def test_who_has_had_its_turns_is_not_asked_again() -> None:
    script = by_clock(ann=[1, 1], bob=[9, 9])
    assert names(one_round(Asynchronous(turns=2), ("ann", "bob"), script)[1]) == "ann bob ann bob"
    assert names(one_round(Asynchronous(turns=2, budget=3), ("ann", "bob"), script)[1]) == "ann bob ann"


def test_ties_go_to_whoever_has_spoken_less_and_then_to_both() -> None:
    """bob's one turn ends when ann's second does. ann ends it with more turns: she hears bob, and he not her second."""
    script = by_clock(ann=[1, 1, 1], bob=[2, 1, 1])
    heard, turns = one_round(Asynchronous(turns=0, budget=5), ("ann", "bob"), script)
    assert names(turns) == "ann bob ann bob ann"
    assert heard["bob", 1] == (frozenset({("bob", 0), ("ann", 0)}), 2)
    assert heard["ann", 2] == (frozenset({("ann", 0), ("ann", 1), ("bob", 0)}), 2)


def test_a_budget_that_ends_within_a_tie_goes_to_the_first_in_order() -> None:
    script = by_clock(ann=[1, 1], bob=[1, 1], cat=[1, 1])
    assert names(one_round(Asynchronous(budget=4), ("ann", "bob", "cat"), script)[1]) == "ann bob cat ann"
    assert Asynchronous(budget=3).speakers(("ann", "bob"), [said("ann"), said("bob"), said("ann")]) == ()


@given(st.integers(1, 4), st.integers(1, 3))
def test_where_nothing_takes_time_it_is_a_discussion(count: int, passes: int) -> None:
    agents = tuple("abcd"[:count])
    at_once: Script = lambda agent, n: Completion("")  # noqa: E731
    discussed, _ = one_round(Discussion(passes), agents, at_once)
    assert one_round(Asynchronous(turns=passes), agents, at_once)[0] == discussed


@given(count=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_nobody_waits_and_nobody_hears_what_has_not_ended(count: int, seed: int) -> None:
    agents = tuple("abcd"[:count])
    draw = random.Random(seed)
    table = {agent: [draw.choice((0.5, 1.0, draw.random())) for _ in range(8)] for agent in agents}
    heard, turns = one_round(Asynchronous(turns=0, budget=8), agents, by_clock(**table))
    ends = {(turn.agent, n): turn.started + turn.completion.seconds for turn, n in numbered(turns)}
    assert [turn.started for turn in turns] == sorted(turn.started for turn in turns)
    for (agent, n), (quoted, begins) in heard.items():
        assert begins == (ends[agent, n - 1] if n else 0.0)
        assert {one for one, end in ends.items() if end < begins} <= quoted
        assert quoted <= {one for one, end in ends.items() if end <= begins}
        assert not n or (agent, n - 1) in quoted


@pytest.mark.parametrize("wrong", [{"turns": -1}, {"budget": -1}, {"turns": 0}])
def test_asynchronous_play_needs_a_limit(wrong: Mapping[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"topology.turns and topology.budget: expected 0 .no limit. or more"):
        Asynchronous(**wrong)


# Coordinated


def calling(*calls: str) -> Script:
    return lambda agent, n: Completion(calls[n] if agent == "boss" else f"{agent}{n}", seconds=1.0)


TEAM = ("boss", "ann", "bob", "cat")


@pytest.mark.parametrize(
    ("calls", "order"),
    [
        (("bob", "Ann, please!", "done"), "boss bob boss ann boss"),
        (("stop",), "boss"),
        (("ann or rather CAT", "cat, then we are done", "ann"), "boss cat boss"),
        (("when bob is done, ann", "stop: cat"), "boss ann boss cat"),
        (("boss", "hm", "Annabel", "ann"), "boss ann boss bob boss cat boss ann"),
        (("bob", "bob", "", "ann"), "boss bob boss bob boss ann boss ann"),
    ],
)
def test_the_last_name_that_the_coordinator_says_is_called(calls: Sequence[str], order: str) -> None:
    heard, turns = one_round(Coordinated("boss", turns=len(calls)), TEAM, calling(*calls))
    assert names(turns) == order
    assert [turn.started for turn in turns] == list(range(len(turns)))
    assert all(len(quoted) == place for place, (quoted, _) in enumerate(heard.values()))


def test_the_coordinator_is_not_asked_after_the_last_turn() -> None:
    assert names(one_round(Coordinated("boss", turns=2), TEAM, calling("cat", "bob"))[1]) == "boss cat boss bob"


def test_without_the_coordinator_or_with_nobody_else_speech_is_sequential() -> None:
    for agents in (("ann", "bob"), ("boss",)):
        assert names(one_round(Coordinated("boss"), agents, calling("ann"))[1]) == " ".join(agents)


def test_an_agent_called_done_is_called() -> None:
    assert last_word("and now Done", ["ann", "Done", "stop", "done"]) == "Done"


def test_a_coordinator_needs_a_turn_to_give() -> None:
    with pytest.raises(ConfigError, match=r"topology.turns: expected at least 1 turn to give, got 0"):
        Coordinated(turns=0)


# Play


def team_of(*agents: str) -> SingleRound:
    ada = Example("ada", {})
    return SingleRound(
        "team",
        agents,
        (ada,),
        (Example("bob", {}),),
        lambda example, agent: f"Hello {agent}.",
        lambda example, actions: sum(text != "" for text in actions.values()) / len(agents),
    )


def played(task: Any, topology: Topology, script: Script) -> Episode[Any]:
    """One episode by script, with every joint action in its step's details."""
    count, ada = Counter[str](), Example("ada", {})

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        spoken = []
        for one in wanted:
            spoken.append(script(one.agent, count[one.agent]))
            count[one.agent] += 1
        return spoken

    def judge(requests: Sequence[Any]) -> list[Step[Any]]:
        steps = [(task.step(r.state, r.actions), dict(r.actions)) for r in requests]
        return [Step(s.state, s.rewards, s.ending, s.metrics, {"actions": a}) for s, a in steps]

    (episode,) = drive([EpisodeRun(play(task, topology, Point("ada", task.reset(ada))), ())], speak, judge)
    return episode


def test_asynchronous_play_by_clock() -> None:
    script = by_clock(ann=[1, 1, 1], bob=[2.5])
    episode = played(team_of("ann", "bob"), Asynchronous(turns=3, budget=4), script)
    assert [(turn.agent, turn.started) for turn in episode.turns] == [("ann", 0), ("bob", 0), ("ann", 1), ("ann", 2)]
    assert episode.turns[3].prompt[0].content == "Hello ann.\nann said: ann0\nann said: ann1"
    assert episode.steps[0].details["actions"] == {"ann": "ann2", "bob": "bob0"}


def test_who_was_not_called_has_said_nothing() -> None:
    task = Coordinating(team_of("ann", "bob", "cat"), "boss")
    episode = played(task, Coordinated("boss"), calling("cat", "ann", "cat", "done"))
    (step,) = episode.steps
    assert step.details["actions"] == {"boss": "done", "ann": "ann0", "bob": "", "cat": "cat1"}
    assert step.rewards == pytest.approx(dict.fromkeys(TEAM, 2 / 3))


def test_what_a_coordinator_is_shown_and_that_nobody_else_hears_it() -> None:
    task = Coordinating(team_of("ann", "bob"), "boss")
    episode = played(task, Coordinated("boss", turns=2), calling("bob", "hm"))
    shown = [turn.prompt for turn in episode.turns]
    assert names(episode.turns) == "boss bob boss ann"
    assert shown[1] == (Message("user", "Hello bob."),)
    assert shown[2][0].content.split("\n\n") == [
        "You coordinate ann, bob. This is what ann sees:",
        "Hello ann.",
        "You said: bob",
        "bob said: bob0",
        "Who speaks next? Answer with one name, or done: ann, bob.",
    ]
    assert shown[3] == (Message("user", "Hello ann.\nbob said: bob0"),)


def test_a_coordinated_task_keeps_the_contract() -> None:
    task = coordinated(team_of("ann", "bob"), Coordinated())
    check_task(task)
    assert task.agents == task.acting(Example("ada", {})) == ("coordinator", "ann", "bob")
    assert task.best_return == 1.0


def test_only_a_task_that_needs_a_coordinator_gets_one() -> None:
    task = team_of("ann", "bob")
    assert coordinated(task, Parallel()) is task
    assert coordinated(task, Coordinated("bob")) is task


def test_where_agents_earn_their_own_the_coordinator_earns_the_mean() -> None:
    task = Coordinating(Split(), "boss")  # type: ignore[arg-type]
    assert task.step(None, {"boss": "done", "ann": "", "bob": ""}).rewards == {"boss": 2.0, "ann": 1.0, "bob": 3.0}


class Split:
    agents = ("ann", "bob")

    def step(self, state: None, actions: Mapping[str, str]) -> Step[None]:
        assert set(actions) == {"ann", "bob"}
        return Step(None, {"ann": 1.0, "bob": 3.0})


class Expert:
    """Only bob knows the answer, worth 1; everybody who speaks costs 0.2."""

    name, agents, horizon = "expert", ("ann", "bob"), 1

    def acting(self, state: None) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: None, agent: str, heard: Sequence[Turn]) -> tuple[Message, ...]:
        return (Message("user", "Go."),)

    def step(self, state: None, actions: Mapping[str, str]) -> Step[None]:
        spoken = {agent for agent, text in actions.items() if text}
        return Step(None, dict.fromkeys(self.agents, ("bob" in spoken) - 0.2 * len(spoken)), "horizon")


def test_a_coordinator_learns_to_call_who_knows_and_nobody_else() -> None:
    """Plain gradient ascent on a table of its three words for each prompt; MAGRPO credits it as any other agent."""
    task, words = Coordinating(Expert(), "boss"), ("ann", "bob", "done")  # type: ignore[arg-type]
    tables: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(words))

    def chances(prompt: str) -> list[float]:
        weights = [math.exp(logit) for logit in tables[prompt]]
        return [weight / sum(weights) for weight in weights]

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        draws = [random.Random(one.seed).choices(words, chances(one.prompt[0].content))[0] for one in wanted]
        return [Completion(word if one.agent == "boss" else "42") for one, word in zip(wanted, draws, strict=True)]

    judge = judge_of(task)
    for step in range(60):
        origins = [Point("x", None)] * 2
        groups = rollout_groups(task, Coordinated("boss", turns=2), origins, Branching(8), speak, judge, (step,))  # type: ignore[arg-type]
        (stage,), _ = GroupRelative(width=8).credit(groups, {})
        for sample in stage:
            if sample.turn.agent == "boss":
                table, now = tables[sample.turn.prompt[0].content], chances(sample.turn.prompt[0].content)
                for n, word in enumerate(words):
                    table[n] += 0.5 * sample.advantage * ((word == sample.turn.completion.text) - now[n])
    first = task.observe(None, "boss", ())[0].content
    after_bob = task.observe(None, "boss", [said("boss", text="bob"), said("bob", text="42")])[0].content
    assert chances(first)[1] > 0.9 and chances(after_bob)[0] < 0.1


# Settings


DUET = replace(own("task.py:task"), topology=Parallel())


@pytest.mark.parametrize("topology", [Asynchronous(turns=0, budget=5), Coordinated("boss", turns=3)])
def test_settings_are_read_as_they_were_written(topology: TopologyConfig) -> None:
    run = replace(DUET, topology=topology)
    assert from_json(to_json(run)) == run


@pytest.mark.parametrize(
    ("topology", "problem"),
    [
        (Asynchronous(budget=1), "topology.budget: expected a turn for each of ann, bob, 2 or more, got 1"),
        (Coordinated("boss"), "topology.coordinator: expected boss and somebody to call among the agents of team"),
    ],
)
def test_an_order_of_speech_that_does_not_fit_the_agents_is_refused(topology: TopologyConfig, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        check_experiment(replace(DUET, topology=topology), team_of("ann", "bob"))


def test_an_order_of_speech_that_fits_is_accepted() -> None:
    for topology in (Asynchronous(budget=2), Asynchronous(turns=1), Coordinated("ann")):
        check_experiment(replace(DUET, topology=topology), team_of("ann", "bob"))


def test_a_coordinated_experiment_has_a_seat_for_the_coordinator() -> None:
    with open_checked_task(Experiment("gsm8k", Gsm8k(), topology=Coordinated("boss"))) as task:
        assert task.agents == ("boss", "first", "second")
