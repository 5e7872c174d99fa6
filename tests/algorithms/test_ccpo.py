"""CCPO, number by number: rewards before there is history, after, who gets which, and whose turn it is to learn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from fakes.play import AGENTS, siblings, turn
from madrigal.algorithms import reported
from madrigal.algorithms.ccpo import Ccpo, History, sigmoid
from madrigal.config import Experiment
from madrigal.maths.advantages import group_zscore
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.task import SingleRound, joint
from madrigal.rollouts.topology import Sequential
from madrigal.settings import PolicyConfig, TeamConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.checks import check_training
from madrigal.types import ConfigError, Episode, Example, Group, Point, Sample, Step


def episode(name: str, speakers: Sequence[str], rewards: Sequence[float], agents: Sequence[str]) -> Episode[str]:
    turns = tuple(turn(agent, f"{agent}{name}", index) for index in range(len(rewards)) for agent in speakers)
    return Episode(Point("x", ""), turns, tuple(Step("", joint(agents, reward)) for reward in rewards))


def dyad(
    together: Sequence[float], alone: Sequence[float], agents: Sequence[str] = AGENTS, name: str = ""
) -> Group[Any]:
    """Rollouts of one round, and beside each what the last agent came to alone."""
    return siblings(
        *(episode(f"{name}{k}", agents, [reward], agents) for k, reward in enumerate(together)),
        agents=agents,
        solo=tuple(episode(f" alone {k}", agents[-1:], [reward], agents) for k, reward in enumerate(alone)),
    )


def credited(algorithm: Ccpo, memory: Any, *groups: Group[Any]) -> tuple[dict[str, Sample], Any]:
    stages, memory = algorithm.credit(groups, memory)
    return {sample.turn.completion.text: sample for stage in stages for sample in stage}, memory


BOTH = Ccpo(width=2, alternate=0)
PAIRS = ([1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0])  # differences 1, 0, 0, -1


def z(value: float, mean: float, variance: float) -> float:
    return (value - mean) / (math.sqrt(variance) + 1e-6)


def test_until_there_is_history_rewards_are_raw() -> None:
    found, _ = credited(BOTH, BOTH.begin(), dyad(*PAIRS))
    assert [found[f"ann{k}"].return_ for k in range(4)] == [1.0, 0.0, 0.0, -1.0]
    assert [found[f"bob{k}"].return_ for k in range(4)] == [1.0, 0.0, 1.0, 0.0]


def test_ten_outcomes_are_history_and_nine_are_not() -> None:
    few = BOTH.credit([dyad([1.0, 0.0, 0.5], [0.0, 0.0, 0.5])] * 3, BOTH.begin())[1]
    assert few["delta"][2] == 9
    assert credited(BOTH, few, dyad([1.0, 0.0], [0.25, 0.0]))[0]["ann0"].return_ == 0.75
    enough = BOTH.credit([dyad([1.0], [0.0])], few)[1]
    assert enough["delta"][2] == 10
    assert credited(BOTH, enough, dyad([1.0, 0.0], [0.25, 0.0]))[0]["ann0"].return_ != 0.75


def test_with_history_rewards_are_shaped_by_hand() -> None:
    """The first step is history as it is: differences of mean 0.25 and variance 0.1875, and so on."""
    first = dyad([1.0] * 6 + [0.0] * 6, [1.0] * 3 + [0.0] * 9)
    found, memory = credited(BOTH, BOTH.begin(), first)
    assert memory["delta"] == [pytest.approx(0.25), pytest.approx(0.1875), 12]
    assert memory["joint"] == [pytest.approx(0.5), pytest.approx(0.25), 12]
    assert memory["solo"] == [pytest.approx(0.25), pytest.approx(0.1875), 12]

    found, after = credited(BOTH, memory, dyad(*PAIRS))
    gate = 1 / (1 + math.exp(-0.25 / (math.sqrt(0.1875) + 1e-6)))
    assert gate == pytest.approx(0.6405, abs=1e-4)
    for k, (one, other) in enumerate(zip(*PAIRS, strict=True)):
        assert found[f"ann{k}"].return_ == pytest.approx(math.tanh(z(one - other, 0.25, 0.1875)))
        together, alone = z(one, 0.5, 0.25), z(other, 0.25, 0.1875)
        assert found[f"bob{k}"].return_ == pytest.approx(gate * together + (1 - gate) * alone)
    # Averages move only afterwards: this step's differences have mean 0 and variance 0.5.
    assert after["delta"] == [pytest.approx(0.99 * 0.25), pytest.approx(0.99 * 0.1875 + 0.01 * 0.5), 16]


def test_both_rewards_are_normalized_within_their_own_group() -> None:
    found, _ = credited(BOTH, BOTH.begin(), dyad(*PAIRS), dyad([0.0, 5.0], [0.0, 0.0], name="other "))
    half = math.sqrt(2 / 3) + 1e-4  # the sample deviation of 1, 0, 0, -1
    assert [found[f"ann{k}"].advantage for k in range(4)] == pytest.approx([1 / half, 0, 0, -1 / half])
    of_bob, of_two = 0.5 / (math.sqrt(1 / 3) + 1e-4), 2.5 / (math.sqrt(12.5) + 1e-4)
    assert [found[f"bob{k}"].advantage for k in range(4)] == pytest.approx([of_bob, -of_bob, of_bob, -of_bob])
    assert [found[f"annother {k}"].advantage for k in range(2)] == pytest.approx([-of_two, of_two])
    for agent in AGENTS:
        row = torch.tensor([[found[f"{agent}{k}"].return_ for k in range(4)]], dtype=torch.float64)
        assert group_zscore(row)[0].tolist() == pytest.approx([found[f"{agent}{k}"].advantage for k in range(4)])


def test_a_thinker_that_always_adds_the_same_gets_nothing() -> None:
    """Differences of 0.5 throughout: the center is 0.5, sigma 1 for want of variance, and r1 = tanh(0)."""
    group = dyad([1.5, 0.5, 1.0, 2.5], [1.0, 0.0, 0.5, 2.0])
    memory = BOTH.begin()
    for _ in range(4):
        found, memory = credited(BOTH, memory, group)
    assert memory["delta"] == [0.5, 0.0, 16]
    assert {found[f"ann{k}"].return_ for k in range(4)} == {0.0}
    assert {found[f"ann{k}"].advantage for k in range(4)} == {0.0}
    assert found["bob3"].advantage > found["bob1"].advantage


def test_the_gate_opens_to_what_thinking_has_brought() -> None:
    """Where thinking always cost 3 the reasoner is rewarded for what it comes to alone, and the other way round."""

    def rewards(gain: float) -> list[float]:
        history = [2.0 * gain, 1e-9, 100]  # no variance: sigma is 1
        memory = {"step": 0, "delta": history, "joint": [0.0, 1.0, 100], "solo": [0.0, 1.0, 100]}
        found, _ = credited(BOTH, memory, dyad([1.0, 0.0], [0.0, 1.0]))
        return [found[f"bob{k}"].return_ for k in range(2)]

    assert rewards(0.0) == pytest.approx([0.5, 0.5], abs=1e-5)
    assert rewards(3.0) == pytest.approx([sigmoid(6.0), 1 - sigmoid(6.0)], abs=1e-5)
    assert rewards(-3.0) == pytest.approx([sigmoid(-6.0), 1 - sigmoid(-6.0)], abs=1e-5)


def test_what_thinking_has_brought_is_reported() -> None:
    """Differences of 0.5 throughout, so that sigma is 1: the gate is sigmoid(0.5)."""
    memory = BOTH.credit([dyad([1.5, 0.5], [1.0, 0.0])], BOTH.begin())[1]
    expected = {"delta": 0.5, "joint": 1.0, "solo": 0.5, "gate": sigmoid(0.5)}
    assert reported(BOTH, memory) == pytest.approx({f"algorithm/{k}": v for k, v in expected.items()}, abs=1e-6)


def test_alpha_and_eta_sharpen() -> None:
    memory = {"step": 0, "delta": [0.5, 4.0, 50], "joint": [0.0, 1.0, 50], "solo": [0.0, 1.0, 50]}
    found, _ = credited(Ccpo(alpha=2.0, eta=3.0, alternate=0), memory, dyad([1.0, 0.0], [0.0, 0.0]))
    assert found["ann0"].return_ == pytest.approx(math.tanh(2 * (1.0 - 0.5) / 2.000001))
    assert found["bob0"].return_ == pytest.approx(sigmoid(3 * 0.5 / 2.000001), abs=1e-5)


def test_the_gate_is_never_wholly_shut() -> None:
    assert (sigmoid(1e9), sigmoid(-1e9)) == (1 / (1 + math.exp(-20)), 1 / (1 + math.exp(20)))


def test_history_by_hand() -> None:
    history = History().after([2.0, 4.0], 0.9)
    assert (history.mean, history.variance, history.count, history.sigma) == (3.0, 1.0, 2, 1.0)
    history = history.after([5.0, 9.0], 0.9)
    assert (history.mean, history.variance, history.count) == (pytest.approx(3.4), pytest.approx(1.3), 4)
    assert History(0.0, 1e-7, 5).sigma == 1.0 and History(0.0, 1e-5, 5).sigma == pytest.approx(math.sqrt(1e-5))


def test_training_passes_from_the_thinker_to_the_reasoner_and_back() -> None:
    algorithm, group, learns = Ccpo(alternate=2), dyad(*PAIRS), []
    memory = algorithm.begin()
    for _ in range(6):
        found, memory = credited(algorithm, memory, group)
        learns.append({sample.turn.agent for sample in found.values()})
    assert learns == [{"ann"}] * 2 + [{"bob"}] * 2 + [{"ann"}] * 2
    assert memory["step"] == 6 and memory["delta"][2] == 24


@pytest.mark.parametrize("frozen", AGENTS)
def test_a_frozen_side_leaves_nothing_to_alternate(frozen: str) -> None:
    """Refused in one line before a model is loaded; without alternation the other side learns in every step."""
    team = TeamConfig(seats={frozen: PolicyConfig(trainable=False)})
    task = SingleRound("dyad", AGENTS, [Example("x", {})], [], lambda example, agent: "?", lambda example, said: 0.0)
    run = Experiment("own", CustomTask("task.py:task"), topology=Sequential(), team=team, algorithm=Ccpo())
    with pytest.raises(ConfigError, match=rf"algorithm\.alternate: .* {frozen} does not learn; set it to 0") as caught:
        check_training(run, task)
    assert "\n" not in str(caught.value)
    check_training(replace(run, algorithm=BOTH), task)


def test_everyone_before_the_last_is_a_thinker() -> None:
    found, _ = credited(BOTH, BOTH.begin(), dyad(*PAIRS, agents=("ann", "cat", "bob")))
    assert (
        [found[f"ann{k}"].return_ for k in range(4)]
        == [found[f"cat{k}"].return_ for k in range(4)]
        == [1.0, 0.0, 0.0, -1.0]
    )
    assert [found[f"bob{k}"].return_ for k in range(4)] == [1.0, 0.0, 1.0, 0.0]


def test_several_rounds_come_to_their_discounted_sum() -> None:
    group = Group(
        Point("x", ""),
        (episode("0", AGENTS, [1.0, 2.0], AGENTS), episode("1", AGENTS, [0.0], AGENTS)),
        AGENTS,
        solo=(episode("", ("bob",), [0.0, 1.0], AGENTS), episode("", ("bob",), [1.0], AGENTS)),
    )
    algorithm = Ccpo(width=2, alternate=0, discount=0.5, reward_shift=-1.0, updates="turn")
    (late, early), memory = algorithm.credit([group], algorithm.begin())
    # together 0 + 0.5 * 1 = 0.5, alone -1 + 0 = -1; and -1 with 0
    assert {(s.turn.agent, s.return_) for s in late} == {("ann", 1.5), ("bob", 0.5)}
    assert {(s.turn.agent, s.return_) for s in early} == {("ann", 1.5), ("bob", 0.5), ("ann", -1.0), ("bob", -1.0)}
    assert memory["delta"][0] == 0.25


def test_memory_survives_being_written_down() -> None:
    memory = BOTH.credit([dyad(*PAIRS)] * 3, BOTH.begin())[1]
    read = json.loads(json.dumps(memory))
    assert read == memory
    again, straight = (BOTH.credit([dyad(*PAIRS)], one) for one in (read, memory))
    assert again[1] == straight[1]
    assert [s.advantage for s in again[0][0]] == [s.advantage for s in straight[0][0]]


def test_how_play_branches_and_what_is_needed() -> None:
    assert Ccpo().branching == Branching(4, solo=True)
    assert (Ccpo().needs.agents, Ccpo().needs.reference, Ccpo(kl=0.1).needs.reference) == (2, "", "loss")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"width": 1}, "at least 2 answers to compare"),
        ({"alpha": 0.0}, r"algorithm\.alpha: expected a positive number, got 0.0; the public code has 1.0"),
        ({"eta": -1.0}, r"algorithm\.eta: expected a positive number"),
        ({"decay": 1.5}, "decay: expected 0 to 1, got 1.5; the public code has 0.99"),
        ({"history": -1}, "history: expected at least 0, got -1; the public code has 10"),
        ({"alternate": -1}, "alternate: expected at least 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Ccpo(**settings)
