"""Role information: a lower bound on mutual information that becomes tight, and what is paid for it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pytest
import torch

from fakes.tabular import climb
from madrigal.algorithms import reported
from madrigal.algorithms.group import MAGRPO
from madrigal.algorithms.role_classifier import BUCKETS, RoleClassifier, features, loaded
from madrigal.algorithms.role_information import RoleInformation
from madrigal.rollouts.task import joint
from madrigal.rollouts.topology import Parallel
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
    Turn,
)

# p(role, what is said): words that tell, words that do not, and silence.
JOINT = {("a", "car dog"): 0.3, ("a", "house"): 0.15, ("a", ""): 0.05, ("b", "house"): 0.35, ("b", "garden dog"): 0.15}
AGENTS = ("ann", "bob")


def exact(joint: Mapping[tuple[str, str], float]) -> float:
    roles, texts = ({key[n]: 0.0 for key in joint} for n in (0, 1))
    for (role, text), p in joint.items():
        roles[role] += p
        texts[text] += p
    return sum(p * math.log(p / roles[role] / texts[text]) for (role, text), p in joint.items())


def expected(classifier: RoleClassifier, joint: Mapping[tuple[str, str], float], floor: float) -> float:
    """The mean of b under the joint distribution itself, without drawing."""
    parts = classifier.information([role for role, _ in joint], [text for _, text in joint], floor)
    return math.fsum(p * part for p, part in zip(joint.values(), parts, strict=True))


@pytest.mark.parametrize("floor", [0.001, 0.05])
def test_the_bound_rises_to_the_mutual_information_and_never_passes_it(floor: float) -> None:
    rng, classifier, bounds = random.Random(0), loaded({}), []
    for _ in range(40):
        drawn = rng.choices(list(JOINT), list(JOINT.values()), k=100)
        classifier = classifier.fitted(*map(list, zip(*drawn, strict=True)), fits=10, lr=1.0, decay=0.001)  # type: ignore[arg-type]
        bounds.append(expected(classifier, JOINT, floor))
    truth = exact(JOINT)
    assert truth == pytest.approx(0.3877, abs=1e-4)
    assert max(bounds) <= truth
    assert bounds[0] < 0.25 < 0.9 * truth < bounds[-1]


@pytest.mark.parametrize("seed", range(5))
def test_any_classifier_at_all_gives_a_lower_bound(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights = 3 * torch.randn((2, BUCKETS + 1), generator=draw, dtype=torch.float64)
    assert expected(RoleClassifier(("a", "b"), weights), JOINT, 0.05) <= exact(JOINT)


def test_of_words_that_say_nothing_it_is_nothing() -> None:
    blind = {(role, text): 0.25 for role in "ab" for text in ("car", "dog")}
    classifier = loaded({}).fitted(*map(list, zip(*blind, strict=True)), fits=50, lr=1.0, decay=0.0)  # type: ignore[arg-type]
    assert expected(classifier, blind, 0.05) == pytest.approx(0.0, abs=1e-12)


def test_each_role_counts_the_same_and_new_ones_join() -> None:
    once = loaded({}).fitted(["a", "b"], ["x", "x"], fits=30, lr=1.0, decay=0.01)
    often = loaded({}).fitted(["a"] * 9 + ["b"], ["x"] * 10, fits=30, lr=1.0, decay=0.01)
    assert torch.allclose(once.weights, often.weights)
    joined = once.fitted(["c"], ["y"], fits=1, lr=1.0, decay=0.0)
    assert joined.roles == ("a", "b", "c") and joined.weights.shape == (3, BUCKETS + 1)
    assert once.information(["c"], ["y"], 0.05) == [0.0], "a role that was never met is worth nothing"
    assert loaded({}).information(["a"], ["x"], 0.05) == [0.0]


def test_words_count_once_whatever_their_case() -> None:
    assert torch.equal(features(["Dog dog, car!"]), features(["car DOG"]))
    assert features([""])[0].tolist() == [0.0] * BUCKETS + [1.0]


def test_a_floor_bounds_what_one_odd_answer_costs() -> None:
    sure = loaded({}).fitted(["a", "b"], ["x", "y"], fits=5000, lr=1.0, decay=0.0)
    (worst,) = sure.information(["a"], ["y"], 0.05)
    assert math.log(0.05) < worst < math.log(0.06)


# Credit.
def episode(example: str, reward: float, said: Sequence[str], roles: Sequence[str]) -> Episode[int]:
    turns = [
        Turn(agent, (), Completion(text, (1,), (2, 3), (-0.5, -0.5))) for agent, text in zip(AGENTS, said, strict=True)
    ]
    details = {"roles": dict(zip(AGENTS, roles, strict=True))} if roles else {}
    return Episode(Point(example, 0), tuple(turns), (Step(1, joint(AGENTS, reward), "horizon", details=details),))


def group(*episodes: Episode[int]) -> Group[int]:
    chosen = tuple(replace(one, choice=(n, n)) for n, one in enumerate(episodes))
    return Group(Point("x", 0), chosen, AGENTS)


def credited(stages: Sequence[Sequence[Sample]]) -> list[tuple[str, float, float]]:
    return [(sample.turn.agent, sample.advantage, sample.return_) for stage in stages for sample in stage]


def drawn(seed: int, roles: Sequence[str] = ("red", "blue")) -> list[Group[int]]:
    rng = random.Random(seed)
    words = ("car", "dog", "car, dog", "none")
    return [
        group(*(episode(f"x{n}", rng.random(), (rng.choice(words), rng.choice(words)), roles) for _ in range(4)))
        for n in range(3)
    ]


def test_a_weight_of_0_is_magrpo_exactly() -> None:
    off, memory = RoleInformation(weight=0.0), dict[str, Any]()
    for step in range(3):
        groups = drawn(step)
        stages, memory = off.credit(groups, memory)
        assert stages == MAGRPO.credit(groups, {})[0]
    assert off.report(memory)["information"] != 0.0, "it is measured nonetheless"


def test_each_agent_is_paid_for_its_own_words() -> None:
    """Red says car and blue says dog, and the classifier has learned it; then one episode is the other way round."""
    algorithm = RoleInformation(weight=0.5, width=2)
    taught = group(*[episode("x", 1.0, ("car", "dog"), ("red", "blue"))] * 2)
    first, memory = algorithm.credit([taught], {})
    assert {(advantage, return_) for _, advantage, return_ in credited(first)} == {(0.0, 1.0)}, "nothing is known yet"
    known = loaded(memory["classifier"])
    right, wrong = known.information(["red", "red"], ["car", "dog"], algorithm.floor)
    assert right > 0 > wrong
    mixed = group(
        episode("x", 1.0, ("car", "dog"), ("red", "blue")), episode("x", 1.0, ("dog", "dog"), ("red", "blue"))
    )
    second, memory = algorithm.credit([mixed], memory)
    half = 0.5 * (right - wrong) / 2
    assert credited(second) == [
        ("ann", pytest.approx(half), pytest.approx(1 + 0.5 * right)),
        ("ann", pytest.approx(-half), pytest.approx(1 + 0.5 * wrong)),
        ("bob", pytest.approx(0), pytest.approx(1 + 0.5 * right)),
        ("bob", pytest.approx(0), pytest.approx(1 + 0.5 * right)),
    ]
    information = (3 * right + wrong) / 4
    assert reported(algorithm, memory) == {
        "algorithm/information": pytest.approx(information),
        "algorithm/bonus": pytest.approx(0.5 * information),
        "algorithm/roles": 2.0,
    }


def test_memory_survives_json_bit_by_bit() -> None:
    algorithm, memory = RoleInformation(weight=0.3), dict[str, Any]()
    for step in range(3):
        _, memory = algorithm.credit(drawn(step), memory)
    restored = json.loads(json.dumps(memory))
    assert restored == memory
    whole, resumed = (algorithm.credit(drawn(9), state) for state in (memory, restored))
    assert whole == resumed


def test_without_roles_seats_are_told_apart() -> None:
    algorithm = RoleInformation()
    _, memory = algorithm.credit(drawn(0, roles=()), {})
    assert memory["classifier"]["roles"] == ["ann", "bob"]


@dataclass(frozen=True)
class Apart:
    """Two agents, two words: they earn 1 where they say different ones."""

    name: str = "apart"
    agents: tuple[str, ...] = AGENTS
    horizon: int = 1
    best_return: float = 1.0

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(split, {})]

    def reset(self, example: Example) -> int:
        return 0

    def acting(self, state: int) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: int, agent: str, heard: Sequence[Turn]) -> Messages:
        return (Message("user", "say"),)

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        return Step(1, joint(self.agents, float(actions["ann"] != actions["bob"])), "horizon")


@pytest.mark.parametrize("seed", range(2))
def test_it_climbs_where_agents_have_to_differ(seed: int) -> None:
    rewards = climb(Apart(), Parallel(), RoleInformation(weight=0.2), steps=60, seed=seed, actions=2)
    assert fmean(rewards[-10:]) > 0.95 > 0.7 > fmean(rewards[:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": math.inf}, "weight: expected None or a finite number, got inf"),
        ({"floor": 0.0}, "floor: expected more than 0 and less than 1, got 0.0"),
        ({"fits": 0}, "fits: expected at least 1, got 0"),
        ({"classifier_lr": 0.0}, "classifier_lr: expected a positive number, got 0.0"),
        ({"decay": -1.0}, "decay: expected at least 0, got -1.0"),
        ({"width": 1}, "width: a group needs at least 2 answers"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^algorithm\.{message}"):
        RoleInformation(**settings)  # type: ignore[arg-type]
