"""Teams of 2, 3, 5 and 8 agents under every topology: play, lock-step, branching, credit and the limits of crossing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pytest

from fakes.play import Rounds, grow
from madrigal.algorithms.group import GroupRelative
from madrigal.rollouts.branching import Branching, check_branching
from madrigal.rollouts.play import GenerationRequest, speaking_order
from madrigal.rollouts.topology import Asynchronous, Coordinated, Discussion, Parallel, Sequential, Topology
from madrigal.types import Completion, ConfigError, Group, Step

SIZES = (2, 3, 5, 8)
NAMES = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal")


@dataclass(frozen=True)
class Sum(Rounds):
    """Everybody says a number; the joint reward is their sum, and the state is how many rounds there were."""

    horizon: int = 1

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        assert tuple(actions) == self.agents
        total = sum(float(text or 0) for text in actions.values())
        return Step(state + 1, dict.fromkeys(self.agents, total), "horizon" if state + 1 == self.horizon else "")


class Voices:
    """Each says a number of its own, from its seed; calls and turns are counted."""

    def __init__(self) -> None:
        self.calls = 0
        self.turns = Counter[str]()

    def __call__(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        self.calls += 1
        self.turns.update(one.agent for one in wanted)
        return [Completion(str(one.seed % 1000)) for one in wanted]


def grown(task: Sum, topology: Topology, branching: Branching, origins: int = 1) -> tuple[list[Group[Any]], Voices]:
    return grow(task, branching, topology, origins, start=0, speak=Voices())


def kinds(size: int) -> dict[str, tuple[Topology, int, int]]:
    """Each topology, the turns of a round, and the calls for them where all games go in lock-step."""
    return {
        "parallel": (Parallel(), size, 1),
        "sequential": (Sequential(tuple(reversed(NAMES[:size]))), size, size),
        "discussion": (Discussion(2), 2 * size, 2),
        "asynchronous": (Asynchronous(turns=2), 2 * size, 2),
        "coordinated": (Coordinated(NAMES[0], turns=size - 1), 2 * (size - 1), 2 * (size - 1)),
    }


CASES = [(size, kind) for size in SIZES for kind in kinds(size)]


@pytest.mark.parametrize(("size", "kind"), CASES)
def test_turns_and_calls(size: int, kind: str) -> None:
    topology, turns, calls = kinds(size)[kind]
    groups, voices = grown(Sum(NAMES[:size], horizon=2), topology, Branching(3), origins=4)
    assert voices.calls == 2 * calls
    assert voices.turns.total() == 4 * 3 * 2 * turns
    assert set(voices.turns) == set(NAMES[:size])
    assert {len(episode.turns) for group in groups for episode in group.episodes} == {2 * turns}
    assert len(speaking_order(topology, NAMES[:size])) == turns


@pytest.mark.parametrize(("size", "kind"), CASES)
def test_every_agent_is_credited_with_the_same_advantage(size: int, kind: str) -> None:
    topology, turns, _ = kinds(size)[kind]
    (group,), _ = grown(Sum(NAMES[:size]), topology, Branching(4))
    (stage,), _ = GroupRelative(width=4).credit([group], {})
    totals = [episode.steps[0].rewards["ann"] for episode in group.episodes]
    expected = {
        turn.number: total - fmean(totals)
        for episode, total in zip(group.episodes, totals, strict=True)
        for turn in episode.turns
    }
    assert len(stage) == 4 * turns and {s.turn.agent for s in stage} == set(NAMES[:size])
    assert {s.turn.number: s.advantage for s in stage} == pytest.approx(expected)


@pytest.mark.parametrize(("size", "kind"), CASES)
def test_a_tree_of_rounds(size: int, kind: str) -> None:
    topology, turns, calls = kinds(size)[kind]
    (group,), voices = grown(Sum(NAMES[:size], horizon=3), topology, Branching(2, at="round"))
    assert voices.calls == 3 * calls and voices.turns.total() == (2 + 4 + 8) * turns
    assert leaves(group) == 8


@pytest.mark.parametrize(("size", "kind"), [(size, kind) for size, kind in CASES if size < 5])
def test_a_tree_of_decisions(size: int, kind: str) -> None:
    """Each turn parts in two: as many leaves as there are ways through them."""
    topology, turns, _ = kinds(size)[kind]
    branching = Branching(2, at="turn")
    (group,), voices = grown(Sum(NAMES[:size]), topology, branching)
    assert leaves(group) == 2**turns == branching.leaves(speaking_order(topology, NAMES[:size]), 1)
    assert voices.turns.total() == 2 ** (turns + 1) - 2


def leaves(group: Group[Any]) -> int:
    return sum(leaves(episode.then) if episode.then else 1 for episode in group.episodes)


@pytest.mark.parametrize("size", SIZES)
def test_crossed_answers_are_credited_with_their_own_part_of_a_sum(size: int) -> None:
    """Averaged over all partners, what others add is the same for every answer, so that only its own number is left."""
    (group,), voices = grown(Sum(NAMES[:size]), Parallel(), Branching(2, crossed=True))
    (stage,), _ = GroupRelative(width=2, crossed=True).credit([group], {})
    assert len(group.episodes) == 2**size and voices.turns.total() == len(stage) == 2 * size
    numbers: dict[str, list[float]] = defaultdict(list)
    for sample in stage:
        numbers[sample.turn.agent].append(float(sample.turn.completion.text))
    for sample in stage:
        own = float(sample.turn.completion.text) - fmean(numbers[sample.turn.agent])
        assert sample.advantage == pytest.approx(own)


def test_eight_agents_can_be_crossed_in_pairs_and_nine_cannot() -> None:
    check_branching(Branching(2, crossed=True), NAMES, horizon=1)
    with pytest.raises(ConfigError, match=r"512 episodes per example exceed the limit of 256 \(width 2, 9 agents"):
        check_branching(Branching(2, crossed=True), (*NAMES, "ivy"), horizon=1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["sequential", "coordinated"])
def test_crossing_is_refused_where_not_all_speak_at_once(size: int, kind: str) -> None:
    with pytest.raises(ConfigError, match="crossed joint actions need all agents to speak at once"):
        grown(Sum(NAMES[:size]), kinds(size)[kind][0], Branching(2, crossed=True))
