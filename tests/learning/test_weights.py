"""What every spoken turn counts in an update, against the loop that Eq. 2 of MAGRPO writes down.

    J(pi) = 1/A sum over the agents of pi  1/N sum over examples  1/G sum over siblings  sum over turns  A log pi

The loop follows every way from the start of an example to an end, each as likely as its siblings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from fakes.play import Rounds, judge_of
from madrigal.algorithms import Algorithm
from madrigal.algorithms.counterfactual import Counterfactual
from madrigal.algorithms.group import AT_GRPO, DR_MAS, MULTI_TURN_GRPO, RLOO, GroupRelative
from madrigal.learning.critics import Critics
from madrigal.learning.learners import Learners, examples_in
from madrigal.maths.batch import weight_of
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.topology import Sequential
from madrigal.rollouts.tree import numbered, rollout_groups
from madrigal.training.learner_factory import NOBODY
from madrigal.types import Completion, Episode, Group, Point, Sample, Step, Turn

Shares = dict[int, float]  # by identity of what was said


@dataclass(frozen=True)
class Race(Rounds):
    """Ann speaks in every round, bob in the first alone; who says more than `limit` ends it."""

    horizon: int = 5
    limit: int = 5

    def acting(self, state: int) -> tuple[str, ...]:
        return self.agents if state == 0 else self.agents[:1]

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        words = {agent: int(text or 0) for agent, text in actions.items()}
        over = max(words.values()) > self.limit or state + 1 == self.horizon
        rewards = {agent: float(sum(words.values())) for agent in self.agents}
        return Step(state + 1, rewards, "horizon" if over else "")


def play(algorithm: Algorithm[Any], race: Race, silent: int = -1) -> list[Group[Any]]:
    """Three examples; in the one with number `silent` bob shows no tokens."""

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(str(one.seed // 7 % 10), (1,), (2, 3), (-0.5, -1.0)) for one in wanted]

    def partner(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion("1") if one.agent == "bob" else speak([one])[0] for one in wanted]

    judge = judge_of(race)

    groups = list[Group[Any]]()
    for n in range(3):
        start, speaker = [Point(f"x{n}", 0)], partner if n == silent else speak
        groups += rollout_groups(race, Sequential(), start, algorithm.branching, speaker, judge, (n,))  # type: ignore[arg-type]
    return numbered(groups)


def paths(group: Group[Any], chance: float = 1.0) -> Iterator[tuple[float, list[Turn]]]:
    """Every way from a branching point to an end, and how likely it is."""
    share = chance / len(group.episodes)
    for episode in group.episodes:
        if episode.then is None:
            yield share, list(episode.turns)
            continue
        yield from ((p, [*episode.turns, *rest]) for p, rest in paths(episode.then, share))


def by_the_loop(groups: Sequence[Group[Any]], learned: Sequence[Sample], policies: Mapping[str, str]) -> Shares:
    """The share of each turn in the mean of its policy, as the formula above says."""
    agents = defaultdict(set)
    for sample in learned:
        agents[policies[f"{sample.turn.agent}{sample.turn.round}"]].add(sample.turn.agent)
    shares: Shares = defaultdict(float)
    for policy, members in agents.items():
        means = [(group, agent) for group in groups for agent in members if shows(group, agent)]
        for group, agent in means:
            for chance, turns in paths(group):
                for turn in turns:
                    if turn.agent == agent and policies[f"{agent}{turn.round}"] == policy:
                        shares[turn.number] += chance / len(means)
    return shares


def shows(group: Group[Any], agent: str) -> bool:
    return all(turn.completion.token_ids for _, turns in paths(group) for turn in turns if turn.agent == agent)


def by_the_learners(
    algorithm: Algorithm[Any], groups: Sequence[Group[Any]], policies: Mapping[str, str]
) -> Iterator[tuple[list[Sample], Shares]]:
    """What the learners are told that each turn counts, stage by stage."""
    told = defaultdict[str, list[tuple[list[Sample], float]]](list)

    def learner(name: str) -> Any:
        def update(stages: Any, loss: Any, totals: Sequence[float], scale: float) -> dict[str, float]:
            told[name] = list(zip(stages, totals, strict=True))
            return {}

        policy = SimpleNamespace(name=name, model=object(), device=SimpleNamespace(type="cuda"))
        return SimpleNamespace(policy=policy, update=update)

    names = sorted(set(policies.values()))
    team: Any = SimpleNamespace(
        spoke=lambda policy, turn: policies[f"{turn.agent}{turn.round}"] == policy.name,
        policy_of=lambda agent, round: SimpleNamespace(trainable=False),
    )
    learning = Learners(team, {name: learner(name) for name in names}, Critics(NOBODY, {}, team, {}), algorithm.loss)
    stages, _ = algorithm.credit(groups, algorithm.begin())
    learning.update(groups, stages)
    for n in range(len(stages)):
        mine = [(sample, total) for name in names for sample in told[name][n][0] for total in (told[name][n][1],)]
        spoken = [(s, total) for s, total in mine if s.turn.completion.token_ids]
        yield [s for s, _ in spoken], {s.turn.number: weight_of(s) / total for s, total in spoken}


OWN = {f"{agent}{n}": agent for agent in ("ann", "bob") for n in range(5)}
SHARED = dict.fromkeys(OWN, "team")
ROUNDS = {key: f"{name}-{key[-1]}" for key, name in OWN.items()}


@pytest.mark.parametrize("policies", [OWN, SHARED, ROUNDS], ids=["own", "shared", "rounds"])
@pytest.mark.parametrize("silent", [-1, 1], ids=["", "partner"])
@pytest.mark.parametrize(
    "algorithm",
    [
        GroupRelative(width=4),
        GroupRelative(width=8, updates="episode"),
        GroupRelative(width=2, tree=True, leaf_limit=999),
        GroupRelative(width=2, tree=True, leaf_limit=999, updates="episode"),
        replace(RLOO, width=4, updates="episode"),
        replace(DR_MAS, width=4),
        replace(MULTI_TURN_GRPO, width=4),
        Counterfactual(fanout=(), width=2, leaf_limit=999),
        Counterfactual(fanout=(), width=2, leaf_limit=999, updates="turn"),
    ],
    ids=lambda a: f"{a.name}-{a.updates}-{a.branching.at}",
)
def test_every_turn_counts_as_the_formula_says(
    algorithm: Algorithm[Any], silent: int, policies: Mapping[str, str]
) -> None:
    groups = play(algorithm, Race(), silent)
    assert len({len(turns) for group in groups for _, turns in paths(group)}) > 1  # some end early
    for samples, shares in by_the_learners(algorithm, groups, policies):
        expected = by_the_loop(groups, samples, policies)
        assert shares == pytest.approx({key: expected[key] for key in shares})


def test_where_the_best_goes_on_it_stands_for_all() -> None:
    (stage,) = by_the_learners(replace(AT_GRPO, width=4), play(replace(AT_GRPO, width=4), Race(limit=9)), OWN)
    ann = [share for sample, share in zip(stage[0], stage[1].values(), strict=True) if sample.turn.agent == "ann"]
    assert ann == pytest.approx([1 / 12] * 4 * 3 * 5)  # of four candidates, in three examples, in each of five rounds


def test_what_nobody_learns_from_dilutes_nothing() -> None:
    """Six turns without tokens beside two with: the two are the whole mean."""
    turns = tuple(Turn("ann", (), Completion("1", (1,), (2,), (-0.5,)), weight=0.5) for _ in range(2))
    group = Group(Point("x", 0), tuple(Episode(Point("x", 0), (t,), (Step(1, {"ann": 1.0}),)) for t in turns), ("ann",))
    partner = Group(
        group.origin, tuple(Episode(group.origin, (Turn("ann", (), Completion("1")),), ()) for _ in "123456"), ("ann",)
    )
    assert examples_in([group, partner], [Sample(turn, 1.0, 1.0) for turn in turns]) == 1
