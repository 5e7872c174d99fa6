"""PMIC: what a bonus for mutual information does to credit, what it remembers and what it reports."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from fakes.tabular import climb
from madrigal.algorithms import reported
from madrigal.algorithms.buffers import Buffers, Entry, entries_of
from madrigal.algorithms.group import GroupRelative
from madrigal.algorithms.mutual_information import new_dual, standardized
from madrigal.algorithms.pmic import Pmic
from madrigal.rollouts.task import joint
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import map_turns
from madrigal.types import (
    Completion,
    ConfigError,
    Episode,
    Example,
    Group,
    Message,
    Messages,
    Point,
    Sample,
    Split,
    Step,
    TrainingError,
    Turn,
    TurnScores,
)

LN2 = math.log(2.0)
AGENTS = ("ann", "bob")


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def entry(value: float, context: str, state: float, *action: float) -> Entry:
    return {"value": value, "context": context, "state": [state], "action": [*action]}


# Credit. An episode is its rounds: reward, what both were shown, what ann and bob said.
Round = tuple[float, float, float, float]


def episode(example: str, *rounds: Round) -> Episode[int]:
    turns, steps = [], []
    for index, (reward, shown, *said) in enumerate(rounds):
        for agent, words in zip(AGENTS, said, strict=True):
            answer = Completion(f"{words}", (1,), (2, 3), (-0.5, -0.5))
            scores = TurnScores(prompt_embedding=(shown,), answer_embedding=(words,))
            turns.append(Turn(agent, (), answer, index, scores=scores))
        ending = "horizon" if index + 1 == len(rounds) else ""
        steps.append(Step(index + 1, joint(AGENTS, reward), ending))  # type: ignore[arg-type]
    return Episode(Point(example, 0), tuple(turns), tuple(steps))


def group(example: str, *episodes: Sequence[Round]) -> Group[int]:
    return siblings(example, [episode(example, *rounds) for rounds in episodes])


def siblings(example: str, episodes: Sequence[Episode[int]]) -> Group[int]:
    chosen = tuple(replace(one, choice=(n, n)) for n, one in enumerate(episodes))
    return Group(Point(example, 0), chosen, AGENTS)


def advantages(stages: Sequence[Sequence[Sample]]) -> list[list[tuple[str, float, float]]]:
    return [[(sample.turn.agent, sample.advantage, sample.return_) for sample in stage] for stage in stages]


def known_memory() -> dict[str, Any]:
    """Buffers of mean 0 and spread 1; T_ij = leaky(ann's u_i) leaky(s_j); q(u | s) has mean (s, 0) and variance 1."""
    dual = new_dual(1, 2, 0.01)
    lower, upper = dual.lower.network.state_dict(), dual.upper.network.state_dict()
    for value in (*lower.values(), *upper.values()):
        value.zero_()
    lower["state.weight"][0, 0] = lower["action.weight"][0, 0] = 1.0
    upper["mean.0.weight"][:2, 0] = torch.tensor([1.0, -1.0])
    upper["mean.2.weight"][0, :2] = torch.tensor([1.0, -1.0])
    positive = [entry(0.0, "c", 1.0, 1.0, 1.0), entry(1.0, "c", -1.0, -1.0, -1.0)]
    estimators = {"lower": dual.lower.to_json(), "upper": dual.upper.to_json()}
    return {"positive": positive, "negative": [], "recent": [0.0, 1.0], **estimators}


def known_parts() -> tuple[tuple[float, float], tuple[float, float]]:
    """Of two second rounds in which s is 1 and -1, ann says 1 and -0.5, bob 2 and 1."""

    def leaky(x: float) -> float:
        return x if x > 0 else 0.01 * x

    def lower(ann: float, own: float, other: float) -> float:
        return LN2 - softplus(-leaky(ann) * leaky(own)) - (softplus(leaky(ann) * leaky(other)) - LN2)

    # C_i = ((u_j - m_i)^2 averaged over both j - (u_i - m_i)^2) / 2, summed over ann (m = s) and bob (m = 0)
    upper = (((0 + 2.25) / 2 - 0) + ((4 + 1) / 2 - 4)) / 2, (((4 + 0.25) / 2 - 0.25) + ((4 + 1) / 2 - 1)) / 2
    return (lower(1.0, 1.0, -1.0), lower(-0.5, -1.0, 1.0)), upper


def tempered(parts: Sequence[float], *, normalize: bool, clip: float | None) -> list[float]:
    size = math.sqrt(sum(part**2 for part in parts) / len(parts))
    scaled = [part / max(1.0, size) if normalize else part for part in parts]
    return scaled if clip is None else [max(-clip, min(clip, part)) for part in scaled]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_credit_by_hand(normalize: bool, clip: float | None) -> None:
    # In the first round both siblings were shown the same, so that no bonus can be due.
    played = group("x", [(1.0, 0.3, 5.0, -5.0), (2.0, 1.0, 1.0, 2.0)], [(0.0, 0.3, 9.0, 9.0), (4.0, -1.0, -0.5, 1.0)])
    algorithm = Pmic(width=2, alpha=2.0, beta=3.0, start=2, normalize=normalize, bonus_clip=clip, discount=0.5)
    stages, memory = algorithm.credit([played], known_memory())
    parts = known_parts()
    lower, upper = (tempered(each, normalize=normalize, clip=clip) for each in parts)
    bonus = [2.0 * low - 3.0 * up for low, up in zip(lower, upper, strict=True)]
    last = [2.0 + bonus[0], 4.0 + bonus[1]]
    first = [1.0 + 0.5 * last[0], 0.0 + 0.5 * last[1]]
    for stage, returns in zip(stages, (last, first), strict=True):
        edge = (returns[0] - returns[1]) / 2
        expected = [edge, -edge, edge, -edge]  # ann's two answers, then bob's
        assert [sample.advantage for sample in stage] == pytest.approx(expected, abs=1e-9)
        assert [sample.return_ for sample in stage] == pytest.approx(returns * 2, abs=1e-9)
    told = {"lower": sum(parts[0]) / 2, "upper": sum(parts[1]) / 2, "bonus": sum(bonus) / 2, "rounds": 2, "paid": 1}
    assert memory["last"] == pytest.approx(told)
    # Both returns are 2, above the bar of 0.5: two rounds of each are filed beside the two that were there.
    value = 1.0 + 0.5 * 2.0, 0.0 + 0.5 * 4.0
    kept = {"positive": 6, "negative": 0, "bar": max(0.0, (0.0 + 1.0 + sum(value)) / 4)}
    assert reported(algorithm, memory) == pytest.approx({f"algorithm/{k}": v for k, v in {**told, **kept}.items()})


def test_no_bonus_before_the_positive_buffer_is_large_enough() -> None:
    played = group("x", [(0.0, 0.0, 0.0, 0.0), (2.0, 1.0, 1.0, 2.0)], [(0.0, 0.0, 0.0, 0.0), (4.0, -1.0, 0.0, 0.0)])
    early, late = Pmic(width=2, beta=3.0, start=3), Pmic(width=2, beta=3.0, start=2)
    plain, _ = GroupRelative(width=2).credit([played], {})
    stages, memory = early.credit([played], known_memory())
    assert advantages(stages) == advantages(plain) and memory["last"]["paid"] == 0.0
    # This step's entries count from the next one on.
    assert len(memory["positive"]) == 6
    stages, memory = late.credit([played], known_memory())
    assert advantages(stages) != advantages(plain) and memory["last"]["paid"] == 1.0


def made_up(seed: int) -> list[Group[int]]:
    """Two examples, four siblings, two rounds; ann says what was shown, more or less."""
    chance = random.Random(seed)
    groups = []
    for example in ("x", "y"):
        episodes = []
        for _ in range(4):
            state = chance.gauss(0, 1)
            second = (chance.random(), state, state + chance.gauss(0, 0.5), chance.gauss(0, 1))
            episodes.append(episode(example, (chance.random(), 0.0, 0.0, 1.0), second))
        groups.append(siblings(example, episodes))
    return groups


SMALL = Pmic(alpha=0.5, beta=0.5, start=2, capacity=20, window=20, fits=3, batch=8, estimator_lr=0.01)


@pytest.mark.parametrize("settings", [{}, {"discount": 0.5, "reward_shift": -4.0, "updates": "episode"}])
def test_a_bonus_of_weight_zero_is_magrpo(settings: dict[str, Any]) -> None:
    algorithm, memory = replace(SMALL, alpha=0.0, beta=0.0, **settings), SMALL.begin()
    for step in range(3):
        groups = made_up(step)
        stages, memory = algorithm.credit(groups, memory)
        assert advantages(stages) == advantages(GroupRelative(**settings).credit(groups, {})[0])
    assert memory["last"]["paid"] == 1.0 and memory["last"]["lower"] != 0.0


def test_credit_depends_on_memory_and_groups_alone_and_memory_survives_json() -> None:
    memory, again = SMALL.begin(), SMALL.begin()
    for step in range(4):
        groups = made_up(step)
        before = json.dumps(memory)
        stages, after = SMALL.credit(groups, memory)
        assert json.dumps(memory) == before  # the old memory is left as it was
        same, again = SMALL.credit(groups, json.loads(json.dumps(again)))
        assert advantages(same) == advantages(stages) and json.dumps(again) == json.dumps(after)
        memory = after
    assert memory["last"]["paid"] == 1.0 and memory["lower"]["adam"]["0"]["step"] == 12
    assert len(memory["positive"]) + len(memory["negative"]) > 20


def test_estimators_learn_in_training_what_teams_share() -> None:
    """Ann repeats what was shown with noise of half its spread: they share 1/2 ln 5 = 0.80 nats."""
    algorithm, memory = replace(SMALL, capacity=1000, fits=5, batch=64, estimator_lr=0.02), SMALL.begin()
    for step in range(40):
        groups = made_up(step)
        _, memory = algorithm.credit(groups, memory)
    chance, buffers = random.Random(9), Buffers(memory["positive"], memory["negative"])
    states = [chance.gauss(0, 1) for _ in range(400)]
    unseen = [entry(0.0, "x", state, state + chance.gauss(0, 0.5), chance.gauss(0, 1)) for state in states]
    dual = new_dual(1, 2, 0.01)
    dual.lower.load(memory["lower"])
    dual.upper.load(memory["upper"])
    lower, upper = dual.parts(standardized(unseen, buffers, "task"))
    assert 0.08 < float(lower.mean()) < 0.5 * math.log(5) < float(upper.mean())


def test_the_state_is_what_was_shown_before_anybody_spoke() -> None:
    started = [
        Turn("ann", (), Completion("a"), 0, after=0, scores=TurnScores(None, None, (1.0, 0.0), (5.0,))),
        Turn("cat", (), Completion("c"), 0, after=0, scores=TurnScores(None, None, (2.0, 4.0), (6.0,))),
        Turn("ann", (), Completion("b"), 0, after=2, scores=TurnScores(None, None, (9.0, 9.0), (7.0,))),
    ]
    one = Episode(Point("x", 0), tuple(started), (Step(1, {"ann": 0.0}),))
    entries = entries_of(Group(Point("x", 0), (one,), ("ann", "bob", "cat")), one, 3.0)
    expected = {"value": 3.0, "context": "x, round 0", "state": [1.5, 2.0], "action": [6.0, 0.0, 6.0]}
    assert entries == [expected]  # ann's mean, bob's silence, cat


def test_a_turn_without_an_embedding_is_refused() -> None:
    played = group("x", [(0.0, 0.0, 0.0, 0.0)], [(0.0, 0.0, 0.0, 0.0)])
    unread = map_turns(lambda turn: replace(turn, scores=TurnScores()), [played])
    with pytest.raises(TrainingError, match="pmic, agent ann, round 0: expected an embedding"):
        Pmic(width=2).credit(unread, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 1}, "width"),
        ({"alpha": math.nan}, "alpha: expected None or a finite number"),
        ({"start": 1}, "start: expected at least 2, got 1"),
        ({"start": 50, "capacity": 40}, r"start: expected at most algorithm.capacity \(40\)"),
        ({"fits": 0}, "fits: expected at least 1"),
        ({"estimator_lr": 0.0}, "estimator_lr: expected a positive number"),
        ({"bonus_clip": -1.0}, "bonus_clip: expected a positive number"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"algorithm.{message}"):
        Pmic(**settings)


def test_within_the_task_a_single_round_has_nothing_to_share() -> None:
    assert (Pmic().needs.rounds, Pmic(within="all").needs.rounds) == (2, 1)
    assert (Pmic().needs.otherwise, Pmic(within="all").needs.otherwise) == ("set algorithm.within to all", "")
    assert Pmic().needs.embeddings and Pmic(within="all").needs.embeddings


def test_before_the_first_step_there_is_nothing_to_report_but_empty_buffers() -> None:
    assert reported(Pmic(), Pmic().begin()) == {"algorithm/positive": 0, "algorithm/negative": 0}


@dataclass(frozen=True)
class Echo:
    """Nothing is paid; in the second round both see what they did in the first."""

    name: str = "echo"
    agents: tuple[str, ...] = AGENTS
    horizon: int = 2
    best_return: float = 1.0
    rewards: str = "joint"
    seen: list[tuple[str, str]] = field(default_factory=list)

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(split, {})]

    def reset(self, example: Example) -> str:
        return ""

    def acting(self, state: str) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: str, agent: str, heard: Sequence[Turn]) -> Messages:
        return (Message("user", state),)

    def step(self, state: str, actions: Mapping[str, str]) -> Step[str]:
        done = "".join(actions[agent] for agent in self.agents)
        if state:
            self.seen.append((state, done))
        return Step(done, joint(self.agents, 0.0), "horizon" if state else "")


def shared(seen: Sequence[tuple[str, str]]) -> float:
    """The plug-in mutual information of states and joint actions, in nats."""
    both, states, actions = Counter(seen), Counter(s for s, _ in seen), Counter(u for _, u in seen)
    total = len(seen)
    return sum(n / total * math.log(n * total / (states[s] * actions[u])) for (s, u), n in both.items())


def test_a_team_that_is_paid_for_what_it_shares_comes_to_share_more() -> None:
    algorithm = Pmic(width=8, alpha=0.0, beta=-1.0, start=2, capacity=200, fits=2, batch=32, estimator_lr=0.02)
    measured = {}
    for name, chosen in {"paid": algorithm, "unpaid": replace(algorithm, beta=0.0)}.items():
        task = Echo()
        climb(task, Parallel(), chosen, steps=40, prompts=2)
        measured[name] = shared(task.seen[-160:])
    assert measured["unpaid"] < 0.1 and measured["paid"] > 0.5
