"""Measures of roles: exact where roles decide, nothing where they do not, and the same whatever roles are called."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from fakes.play import judge_of
from madrigal.evaluation.evaluate import EvalSetup
from madrigal.evaluation.roles import (
    Act,
    acts_of,
    adjusted_rand,
    agreement,
    chance_information,
    clusters,
    entropy,
    information,
    measure_roles,
    profile,
    purity,
    specialization,
    stability,
    swap_losses,
)
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.topology import Parallel
from madrigal.settings import RolesConfig
from madrigal.tasks.chores.task import Chores, ChoresTask
from madrigal.tasks.roles import with_roles
from madrigal.types import Completion, ConfigError

LN2 = math.log(2)
TASK = ChoresTask(Chores())
CAST = with_roles(TASK, RolesConfig(("red", "blue")))


def draws(rng: random.Random, count: int, apart: float) -> tuple[list[str], list[int]]:
    """Two roles of four behaviors: with chance `apart` a role's own two, else any."""
    roles = [rng.choice("ab") for _ in range(count)]
    own = {"a": (0, 1), "b": (2, 3)}
    return roles, [rng.choice(own[role] if rng.random() < apart else range(4)) for role in roles]


def exact(apart: float) -> float:
    """I(Z; B) of these draws: a role's own behaviors have p = (1 + apart) / 4 each, the others (1 - apart) / 4."""
    own, other = (1 + apart) / 4, (1 - apart) / 4
    conditional = -2 * own * math.log(own) - (2 * other * math.log(other) if other else 0.0)
    return math.log(4) - conditional


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.0])
def test_the_correction_takes_the_bias_of_few_acts_away(apart: float) -> None:
    """Plug-in is too large by (m_ZB - m_Z - m_B + 1) / 2n, to first order: 0.0375 nats of 40 acts with all 8 pairs."""
    rng = random.Random(0)
    found, plain = [], []
    for _ in range(400):
        roles, behaviors = draws(rng, 40, apart)
        pairs = list(zip(roles, behaviors, strict=True))
        plain.append(entropy(roles) + entropy(behaviors) - entropy(pairs))
        found.append(information(roles, behaviors))
    bias, corrected = sum(plain) / 400 - exact(apart), sum(found) / 400 - exact(apart)
    # What would come out below 0 is 0, so that where there is nothing half of the noise stays.
    assert abs(corrected) < 0.02 and (apart == 1.0 or bias > 0.03)


def test_roles_that_decide_and_roles_that_mean_nothing() -> None:
    rng = random.Random(1)
    roles, behaviors = draws(rng, 1000, 1.0)
    assert information(roles, behaviors) == pytest.approx(LN2, abs=0.01)
    assert specialization(roles, behaviors) == pytest.approx(0.5, abs=0.01), "two kinds are left within each role"
    assert specialization(roles, [behavior // 2 for behavior in behaviors]) == pytest.approx(1.0)
    assert purity(roles, behaviors) == 1.0
    roles, behaviors = draws(rng, 1000, 0.0)
    assert information(roles, behaviors) < chance_information(roles, behaviors) + 0.002 < 0.01
    assert adjusted_rand(roles, behaviors) == pytest.approx(0.0, abs=0.01)


def test_rand_is_that_of_the_textbook() -> None:
    """Worked by hand: of 15 pairs 2 are together in both, 6 and 3 in one; 2 - 6 * 3 / 15 over 4.5 - 1.2."""
    assert adjusted_rand([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]) == pytest.approx((2 - 1.2) / (4.5 - 1.2))
    assert adjusted_rand([0, 0], [1, 1]) == 1.0


def test_clusters_find_kinds_of_answers_whatever_their_order() -> None:
    rng = random.Random(2)
    kinds = [rng.choice((0, 1, 1)) for _ in range(60)]
    words = (("house", "paint", "lock"), ("garden", "rake", "water"))
    texts = [" ".join(["the", *rng.choices(words[kind], k=4)]) for kind in kinds]
    found = clusters(texts, 2)
    assert adjusted_rand(found, kinds) == 1.0
    assert found.count(0) > found.count(1), "the largest first"
    order = rng.sample(range(60), 60)
    assert adjusted_rand(clusters([texts[n] for n in order], 2), [kinds[n] for n in order]) == 1.0


@pytest.mark.parametrize(("texts", "labels"), [(["a", "", "a"], [0, 1, 0]), (["", ""], [0, 0]), (["A", "a"], [0, 0])])
def test_few_different_answers_are_their_own_clusters(texts: list[str], labels: list[int]) -> None:
    assert clusters(texts, 2) == labels


def test_runs_agree_up_to_the_names_of_roles() -> None:
    one = profile("aabb", [0, 0, 1, 1])
    other, blurred = profile("aabb", [1, 1, 0, 0]), profile("aabb", [0, 1, 0, 1])
    assert agreement(one, other) == 1.0 and agreement(one, other, in_order=True) == 0.0
    assert agreement(one, blurred) == 0.5
    assert stability([one, other, blurred]) == pytest.approx((1 + 0.5 + 0.5) / 3)
    with pytest.raises(ConfigError, match="expected at least two runs to compare, got 1"):
        stability([one])
    with pytest.raises(ConfigError, match="expected as many roles in both runs, got 2 and 1"):
        agreement(one, profile("a", [0]))


def voices(said: dict[str, str]) -> EvalSetup:
    """A shared policy that says what its role says."""

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(said[one.prompt[0].content.partition("\n")[0]]) for one in wanted]

    return EvalSetup(CAST, Parallel(), CAST.examples("test")[:8], speak, judge_of(CAST))


def test_swapping_equals_costs_nothing_and_one_role_for_all_costs_everything() -> None:
    losses = swap_losses(voices({"red": "house", "blue": "garden"}))
    assert {name: loss.difference.mean for name, loss in losses.items()} == {
        "roles are swapped": 0.0,
        "all are red": 100.0,
        "all are blue": 100.0,
    }
    useless = swap_losses(voices({"red": "house", "blue": "house"}))
    assert [loss.difference.mean for loss in useless.values()] == [0.0, 0.0, 0.0]
    plain = EvalSetup(TASK, Parallel(), TASK.examples("test")[:2], lambda wanted: [], judge_of(TASK))
    assert swap_losses(plain) == {}


def test_acts_are_read_of_transcripts_and_measured() -> None:
    def record(red: str, blue: str, way: int) -> dict[str, object]:
        said = (red, blue) if way == 0 else (blue, red)
        roles = dict(zip(("ann", "bob"), ("red", "blue") if way == 0 else ("blue", "red"), strict=True))
        turns = [{"agent": agent, "text": text} for agent, text in zip(("ann", "bob"), said, strict=True)]
        return {"details": {"roles": roles}, "turns": turns}

    acts = acts_of([record("house", "garden", way) for way in (0, 1)] * 50)
    assert acts[0] == Act("red", "ann", "house") and acts[2] == Act("blue", "ann", "garden")
    measured = measure_roles(acts)
    assert measured.information == pytest.approx(LN2) and measured.ceiling == pytest.approx(LN2)
    assert measured.seat_information < measured.chance < 0.05
    assert (measured.specialization, measured.purity, measured.rand) == (pytest.approx(1.0), 1.0, 1.0)
    assert measured.profile == {"blue": {0: 0.0, 1: 1.0}, "red": {0: 1.0, 1: 0.0}}
    assert measured.typical == {0: "house", 1: "garden"}
    assert acts_of([{"details": {}, "turns": []}, {"turns": []}, {"details": {"roles": "x"}}]) == []
    with pytest.raises(ConfigError, match="expected acts of at least two roles, got red"):
        measure_roles([Act("red", "ann", "house")])
