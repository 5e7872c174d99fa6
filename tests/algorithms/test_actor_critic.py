"""The credit of IPPO, MAPPO, CoLLM-DC and CoLLM-CC, number by number; values are made up by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from fakes.play import AGENTS, by_text, siblings, turn
from madrigal.algorithms.actor_critic import COLLM_CC, COLLM_DC, IPPO, MAPPO, ActorCritic
from madrigal.rollouts.tree import map_turns
from madrigal.types import ConfigError, Episode, Group, Point, Sample, Step, TrainingError, Turn, TurnScores

RAW = replace(MAPPO, whiten=False)
Values = Mapping[str, tuple[float, ...]]


def episode(*rounds: tuple[Mapping[str, float], tuple[str, ...]], start: int = 0, then: Any = None) -> Episode[str]:
    """Rounds of rewards and of what was said: "ann0" is said by ann."""
    turns = [turn(name[:3], name, start + n, tokens=2) for n, (_, names) in enumerate(rounds) for name in names]
    steps = tuple(Step("", rewards) for rewards, _ in rounds)
    return Episode(Point("x", "", round=start), tuple(turns), steps, (0, 0), then)


def both(reward: float) -> dict[str, float]:
    return dict.fromkeys(AGENTS, reward)


def credited(algorithm: ActorCritic, groups: list[Group[str]], values: Values) -> dict[str, Sample]:
    """The samples of one update by what was said; each must be there once."""
    (stage,) = stages(algorithm, groups, values)
    return by_text([stage])


def stages(algorithm: ActorCritic, groups: list[Group[str]], values: Values) -> list[list[Sample]]:
    def read(turn: Turn) -> Turn:
        return replace(turn, scores=TurnScores(values.get(turn.completion.text, ())))

    found, memory = algorithm.credit(map_turns(read, groups), algorithm.begin())
    assert memory == {}
    return found


TWO_ROUNDS = siblings(episode((both(1.0), ("ann0", "bob0")), (both(3.0), ("ann1", "bob1"))))
TOKEN_VALUES = {"ann0": (2.0, 1.0), "bob0": (0.0, 0.0), "ann1": (4.0, 2.5), "bob1": (0.0, 0.0)}


def test_gae_runs_along_tokens_and_on_through_the_next_round() -> None:
    """Errors of ann, last token first: 3 - 2.5, 2.5 - 4, 1 + 4 - 1, 1 - 2; each adds half of what follows."""
    found = credited(replace(RAW, trace=0.5), [TWO_ROUNDS], TOKEN_VALUES)
    assert found["ann1"].token_advantages == (-1.25, 0.5)
    assert found["ann0"].token_advantages == (-1 + 0.5 * 3.375, 4 + 0.5 * -1.25) == (0.6875, 3.375)
    assert found["ann1"].token_returns == (2.75, 3.0)
    assert found["ann0"].token_returns == (2.6875, 4.375)
    assert (found["ann0"].advantage, found["ann0"].return_) == ((0.6875 + 3.375) / 2, 2.6875)


def test_discount_is_between_rounds_and_not_between_tokens() -> None:
    """ann's last token of the first round: 1 + 0.5 * 4 - 1 = 2, and a quarter of the next advantage of -1.25."""
    found = credited(replace(RAW, trace=0.5, discount=0.5), [TWO_ROUNDS], TOKEN_VALUES)
    assert found["ann1"].token_advantages == (-1.25, 0.5)
    assert found["ann0"].token_advantages == (-1 + 0.5 * 1.6875, 2 + 0.5 * 0.5 * -1.25)


def test_without_values_and_with_a_full_trace_credit_is_the_return_to_go() -> None:
    found = credited(replace(RAW, trace=1.0, discount=0.5), [TWO_ROUNDS], dict.fromkeys(TOKEN_VALUES, (0.0, 0.0)))
    for name in ("ann", "bob"):
        assert [found[f"{name}{n}"].token_advantages for n in (0, 1)] == [(2.5, 2.5), (3.0, 3.0)]


def test_collm_by_hand() -> None:
    """1 + 0.9 * 4 - 2 and 3 - 4; the target is the reward alone in the last round. No token is told apart."""
    values = {"ann0": (2.0,), "bob0": (2.0,), "ann1": (4.0,), "bob1": (4.0,)}
    found = credited(replace(COLLM_CC, discount=0.9), [TWO_ROUNDS], values)
    for name in ("ann", "bob"):
        first, last = found[f"{name}0"], found[f"{name}1"]
        assert (first.advantage, first.return_) == pytest.approx((2.6, 4.6))
        assert (last.advantage, last.return_) == pytest.approx((-1.0, 3.0))
        assert first.token_advantages == first.token_returns == ()


@pytest.mark.parametrize("algorithm", [COLLM_CC, COLLM_DC, replace(RAW, trace=0.3), replace(IPPO, whiten=False)])
def test_a_perfect_critic_credits_nothing(algorithm: ActorCritic) -> None:
    size = 1 if algorithm.at == "turn" else 2
    perfect = {name: (4.0 if name[3] == "0" else 3.0,) * size for name in TOKEN_VALUES}
    found = credited(algorithm, [TWO_ROUNDS], perfect)
    assert all(one.advantage == 0 and set(one.token_advantages) <= {0.0} for one in found.values())


def test_own_rewards_and_the_joint_one() -> None:
    alone = siblings(episode(({"ann": 1.0, "bob": 5.0}, ("ann0", "bob0"))))
    values = {"ann0": (0.0,), "bob0": (0.0,)}
    assert {n: s.return_ for n, s in credited(COLLM_DC, [alone], values).items()} == {"ann0": 1.0, "bob0": 5.0}
    assert {n: s.return_ for n, s in credited(COLLM_CC, [alone], values).items()} == {"ann0": 3.0, "bob0": 3.0}
    shifted = credited(replace(COLLM_DC, reward_shift=-4.0), [alone], values)
    assert {n: s.return_ for n, s in shifted.items()} == {"ann0": -3.0, "bob0": 1.0}


def test_an_episode_that_ends_early_has_nothing_ahead() -> None:
    early = siblings(
        episode((both(1.0), ("ann0", "bob0"))), episode((both(1.0), ("ann2", "bob2")), (both(3.0), ("ann1",)))
    )
    values = dict.fromkeys(("ann0", "bob0", "ann1", "ann2", "bob2"), (2.0,))
    found = credited(COLLM_CC, [early], values)
    assert found["ann0"].return_ == 1.0
    assert found["ann2"].return_ == 1.0 + 2.0
    assert found["bob2"].return_ == 1.0 + 3.0, "bob never speaks again: the reward itself comes, not a value of it"


def test_rounds_of_others_are_waited_through() -> None:
    """ann speaks in rounds 0 and 2: 1 + 0.5 * (2 + 0.5 * V), and half and half again of the advantage."""
    turns = siblings(episode((both(1.0), ("ann0",)), (both(2.0), ("bob0",)), (both(4.0), ("ann1",))))
    values = {"ann0": (0.0,), "bob0": (0.0,), "ann1": (3.0,)}
    found = credited(replace(COLLM_CC, discount=0.5, trace=0.8), [turns], values)
    assert found["ann0"].advantage == pytest.approx(1 + 0.5 * (2 + 0.5 * 3) + 0.8 * 0.25 * 1.0)
    assert found["bob0"].advantage == pytest.approx(2 + 0.5 * 4)


def test_the_reward_of_a_round_comes_after_the_last_turn_in_it() -> None:
    """Two passes of a discussion: the first answer is judged by what the critic says before the second."""
    twice = siblings(episode((both(6.0), ("ann0", "bob0", "ann1", "bob1"))))
    values = {"ann0": (1.0,), "ann1": (4.0,), "bob0": (0.0,), "bob1": (0.0,)}
    found = credited(COLLM_DC, [twice], values)
    assert (found["ann0"].advantage, found["ann1"].advantage) == (3.0, 2.0)


def test_a_turn_that_nobody_read_is_not_credited_and_its_reward_not_lost() -> None:
    """An answer without tokens, or of an agent that does not learn."""
    found = credited(COLLM_CC, [TWO_ROUNDS], {"ann0": (2.0,)})
    assert {name: one.return_ for name, one in found.items()} == {"ann0": 4.0}


def test_a_tree_goes_on_with_the_mean_over_its_branches() -> None:
    """Below: values 4 and 2, advantages 3 - 4 and 7 - 2; above 1 + 0.5 * 3 - 2, and 0.5 * 0.8 * 2."""
    below = siblings(
        episode((both(3.0), ("ann1", "bob1")), start=1), episode((both(7.0), ("ann2", "bob2")), start=1), start=1
    )
    top = siblings(episode((both(1.0), ("ann0", "bob0")), then=below))
    values = {"ann0": (2.0,), "ann1": (4.0,), "ann2": (2.0,), "bob0": (0.0,), "bob1": (0.0,), "bob2": (0.0,)}
    found = credited(replace(COLLM_CC, discount=0.5, trace=0.8), [top], values)
    assert [found[name].advantage for name in ("ann1", "ann2")] == [-1.0, 5.0]
    assert found["ann0"].advantage == pytest.approx(0.5 + 0.5 * 0.8 * 2.0)


def test_advantages_are_whitened_for_each_agent_and_round_and_returns_are_not() -> None:
    several = siblings(*(episode((both(reward), (f"ann{n}", f"bob{n}"))) for n, reward in enumerate((1.0, 2.0, 6.0))))
    values = {f"{name}{n}": (0.5 * n,) for name in AGENTS for n in range(3)}
    plain, white = (credited(replace(COLLM_CC, whiten=on), [several], values) for on in (False, True))
    for name in AGENTS:
        raw = torch.tensor([plain[f"{name}{n}"].advantage for n in range(3)])
        scaled = [white[f"{name}{n}"].advantage for n in range(3)]
        assert scaled == pytest.approx(((raw - raw.mean()) / raw.std()).tolist(), abs=1e-5)
    assert [one.return_ for one in white.values()] == [one.return_ for one in plain.values()]


def test_every_epoch_deals_whole_episodes_to_its_mini_batches() -> None:
    several = siblings(*(episode((both(1.0), (f"ann{n}", f"bob{n}"))) for n in range(5)))
    values = {f"{name}{n}": (0.0, 0.0) for name in AGENTS for n in range(5)}
    algorithm = replace(RAW, epochs=3, minibatches=2)
    dealt = [{one.turn.completion.text for one in stage} for stage in stages(algorithm, [several], values)]
    odd, even = {"ann0", "bob0", "ann2", "bob2", "ann4", "bob4"}, {"ann1", "bob1", "ann3", "bob3"}
    assert dealt[:2] == [odd, even] and dealt[2:4] != [odd, even]
    assert all(one | other == odd | even for one, other in zip(dealt[::2], dealt[1::2], strict=True))
    assert (algorithm.epochs, algorithm.needs.minibatches) == (3, 2)


def test_what_each_method_asks_for() -> None:
    asked = {name: method.needs.critic for name, method in (("ippo", IPPO), ("mappo", MAPPO), ("dc", COLLM_DC))}
    assert [(c.sees, c.at, c.weight, c.clip) for c in asked.values() if c] == [
        ("own", "token", 0.5, 0.2),
        ("joint", "token", 0.5, 0.2),
        ("own", "turn", 1.2, None),
    ]
    assert MAPPO.needs.reference == "" and replace(MAPPO, kl=0.1).needs.reference == "loss"
    assert (COLLM_CC.trace, COLLM_CC.clip, COLLM_CC.reduction) == (0.0, None, "sequence")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"trace": 1.5}, "algorithm.trace: expected 0 to 1, got 1.5"),
        ({"discount": -0.1}, "algorithm.discount"),
        ({"value_clip": 0.0}, "algorithm.value_clip: expected a positive number"),
        ({"value_weight": -1.0}, "algorithm.value_weight: expected a positive number"),
        ({"epochs": 0}, "algorithm.epochs"),
        ({"minibatches": 0}, "algorithm.minibatches"),
        ({"epochs": 2, "clip": None}, "need a clip on the ratio"),
        ({"at": "turn", "reward": "own"}, "one value of the joint history cannot foretell"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refusal:
        ActorCritic(**settings)
    assert "\n" not in str(refusal.value)


def test_a_turn_whose_critic_nobody_asked_is_refused() -> None:
    with pytest.raises(TrainingError, match="mappo, agent ann, round 1: expected a critic's values") as refusal:
        MAPPO.credit([TWO_ROUNDS], {})
    assert "\n" not in str(refusal.value)
