"""MAGRPO's credit, number by number: chains, trees, crossed joint actions, and one agent as GRPO."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes.play import AGENTS, by_text, chains, siblings, stretch, turn
from madrigal.algorithms.group import MAGRPO, GroupRelative
from madrigal.maths.batch import Batch, PolicyOutput, prompt_levels
from madrigal.types import ConfigError, Episode, Group, Point, Sample, Step


def credited(algorithm: GroupRelative, *groups: Group[Any]) -> list[dict[str, tuple[float, float]]]:
    """Per stage: what was said -> (advantage, return)."""
    stages, memory = algorithm.credit(groups, algorithm.begin())
    assert memory == {}
    return [{text: (s.advantage, s.return_) for text, s in by_text([stage]).items()} for stage in stages]


def test_one_round_by_hand() -> None:
    (stage,) = credited(GroupRelative(width=3), chains([1.0], [2.0], [6.0]))
    assert stage == {
        "ann 0.0": (-2.0, 1.0),
        "ann 1.0": (-1.0, 2.0),
        "ann 2.0": (3.0, 6.0),
        "bob 0.0": (-2.0, 1.0),
        "bob 1.0": (-1.0, 2.0),
        "bob 2.0": (3.0, 6.0),
    }


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6))
def test_all_agents_of_an_aligned_round_get_the_same_advantage(rewards: list[float]) -> None:
    (stage,) = credited(MAGRPO, chains(*([r] for r in rewards)))
    for k in range(len(rewards)):
        assert stage[f"ann {k}.0"] == stage[f"bob {k}.0"]


def test_two_round_chains_credit_the_undiscounted_return_to_go_per_round() -> None:
    late, early = credited(GroupRelative(width=2), chains([1.0, 2.0], [3.0, 6.0]))
    assert late == {"ann 0.1": (-2, 2), "bob 0.1": (-2, 2), "ann 1.1": (2, 6), "bob 1.1": (2, 6)}
    assert early == {"ann 0.0": (-3, 3), "bob 0.0": (-3, 3), "ann 1.0": (3, 9), "bob 1.0": (3, 9)}


def test_discount_and_shift_by_hand() -> None:
    late, early = credited(GroupRelative(width=2, discount=0.5, reward_shift=-4.0), chains([1.0, 2.0], [3.0, 6.0]))
    assert (late["ann 0.1"], late["ann 1.1"]) == ((-2, -2), (2, 2))
    assert (early["ann 0.0"], early["ann 1.0"]) == ((-2, -4), (2, 0))


def test_a_shift_makes_early_success_worth_more_than_late() -> None:
    """Best reward 4: done at once, or only at the second attempt after 1."""
    group = chains([4.0], [1.0, 4.0])
    assert credited(GroupRelative(width=2), group)[1]["ann 0.0"] == (-0.5, 4.0)
    assert credited(GroupRelative(width=2, reward_shift=-4.0), group)[1]["ann 0.0"] == (1.5, 0.0)


def test_siblings_that_ended_early_are_no_baseline_later() -> None:
    late, early = credited(GroupRelative(width=3), chains([9.0], [1.0, 2.0], [1.0, 4.0]))
    assert late == {"ann 1.1": (-1, 2), "bob 1.1": (-1, 2), "ann 2.1": (1, 4), "bob 2.1": (1, 4)}
    assert early["ann 0.0"] == (pytest.approx(9 - 17 / 3), 9)


def test_the_only_sibling_left_learns_nothing_from_its_round() -> None:
    late, _ = credited(GroupRelative(width=2), chains([9.0], [1.0, 2.0]))
    assert late == {"ann 1.1": (0, 2), "bob 1.1": (0, 2)}


def tree() -> Group[str]:
    """Two branches with rewards 1 and 3; below the first 2 and 4, below the second 0 and 10."""

    def below(name: str, rewards: list[float]) -> Group[str]:
        return siblings(*(stretch(f"{name}{k}", r, choice=k, start=1) for k, r in enumerate(rewards)), start=1)

    return siblings(
        stretch("0", 1.0, then=below("0", [2.0, 4.0])), stretch("1", 3.0, choice=1, then=below("1", [0.0, 10.0]))
    )


def test_a_tree_bootstraps_with_the_mean_over_its_children() -> None:
    late, early = credited(GroupRelative(width=2, tree=True), tree())
    assert {k: v for k, v in early.items() if k.startswith("ann")} == {"ann 0.0": (-2, 4), "ann 1.0": (2, 8)}
    assert {k: v for k, v in late.items() if k.startswith("bob")} == {
        "bob 00.1": (-1, 2),
        "bob 01.1": (1, 4),
        "bob 10.1": (-5, 0),
        "bob 11.1": (5, 10),
    }


def test_a_tree_discounts_its_bootstrap() -> None:
    _, early = credited(GroupRelative(width=2, tree=True, discount=0.5), tree())
    assert (early["ann 0.0"], early["ann 1.0"]) == ((-1.5, 2.5), (1.5, 5.5))


def test_the_loss_of_a_late_stage_averages_over_branches_and_siblings() -> None:
    """Eq. 2 of v2: 1/|B| sum over branches of 1/G sum over siblings; here |B| = G = 2, per agent."""
    algorithm = GroupRelative(width=2, tree=True)
    late = [s for s in algorithm.credit([tree()], {})[0][0] if s.turn.agent == "ann"]
    logprobs = torch.tensor([[-1.0], [-2.0], [-3.0], [-4.0]])
    by_hand = -((-1 * -1 + 1 * -2) / 2 + (-5 * -3 + 5 * -4) / 2) / 2
    assert algorithm.loss(PolicyOutput(logprobs, logprobs), batch_of(late)).item() == pytest.approx(by_hand)


def batch_of(samples: list[Sample]) -> Batch:
    ones = torch.ones(len(samples), 1, dtype=torch.long)
    return Batch(
        prompts=prompt_levels([(1,)], 0, ones.device),
        prompt_of=torch.zeros(len(samples), dtype=torch.long),
        actions=ones,
        mask=ones.bool(),
        old_logprobs=torch.zeros(len(samples), 1),
        advantages=torch.tensor([[s.advantage] for s in samples]),
        weights=torch.full((len(samples),), 1 / len(samples)),
        tokens=1.0,
    )


def test_crossed_answers_get_the_mean_over_their_joint_actions_and_are_credited_once() -> None:
    said = {(a, k): turn(a, f"{a} {k}.0") for a in AGENTS for k in range(2)}
    rewards = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 9.0}
    episodes = tuple(
        Episode(Point("x", ""), (said["ann", i], said["bob", j]), (Step("", dict.fromkeys(AGENTS, r)),), (i, j))
        for (i, j), r in rewards.items()
    )
    (stage,) = credited(GroupRelative(width=2, crossed=True), siblings(*episodes))
    assert stage == {"ann 0.0": (-2.5, 2), "ann 1.0": (2.5, 7), "bob 0.0": (-1.5, 3), "bob 1.0": (1.5, 6)}


def test_later_rounds_of_crossed_chains_belong_to_one_chain_each() -> None:
    choices = [(0, 0), (0, 1), (1, 0), (1, 1)]
    episodes = tuple(stretch(f"{n}", 0.0, float(n), choice=choice) for n, choice in enumerate(choices))
    late, early = credited(GroupRelative(width=2, crossed=True), siblings(*episodes))
    assert [late[f"ann {n}.1"][0] for n in range(4)] == [-1.5, -0.5, 0.5, 1.5]
    assert len(late) == 8 and len(early) == 4


def test_standardized_advantages_by_hand() -> None:
    """The sample deviation of -2, -1, 3 is the root of 14 / 2."""
    (stage,) = credited(GroupRelative(width=3, scale="group"), chains([1.0], [2.0], [6.0]))
    assert stage["bob 2.0"][0] == pytest.approx(3 / (7**0.5 + 1e-4))
    (stage,) = credited(GroupRelative(width=3, scale="group", ddof=0, epsilon=0.0), chains([1.0], [2.0], [6.0]))
    assert stage["bob 2.0"][0] == pytest.approx(3 / (14 / 3) ** 0.5)


def test_stages_run_from_the_last_round_to_the_first() -> None:
    group = chains([1.0, 2.0, 3.0], [3.0, 2.0, 2.0])
    stages, _ = GroupRelative(width=2).credit([group], {})
    assert [{s.turn.round for s in stage} for stage in stages] == [{2}, {1}, {0}]
    (all_rounds,), _ = GroupRelative(width=2, updates="episode").credit([group], {})
    assert [s.turn.round for s in all_rounds] == [2] * 4 + [1] * 4 + [0] * 4


def test_one_update_per_episode_sums_the_means_of_the_rounds() -> None:
    uneven = chains([4.0], [1.0, 2.0], [2.0, 2.0])  # three answers each in round 0, two in round 1
    (joined,), _ = GroupRelative(width=3, updates="episode").credit([uneven], {})
    stages, _ = GroupRelative(width=3).credit([uneven], {})
    assert [(s.turn, s.advantage) for s in joined] == [(s.turn, s.advantage) for stage in stages for s in stage]


def test_groups_have_their_own_baselines() -> None:
    stages, _ = GroupRelative(width=2).credit([chains([0.0], [2.0]), chains([10.0], [20.0])], {})
    assert [s.advantage for s in stages[0] if s.turn.agent == "ann"] == [-1, 1, -5, 5]


@given(st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=3))
def test_one_agent_equals_trl_without_scaling(rewards: list[list[float]]) -> None:
    """TRL's GRPOTrainer with scale_rewards=False."""
    flat = torch.tensor(rewards, dtype=torch.float64).flatten()
    expected = flat - flat.view(-1, 4).mean(1).repeat_interleave(4)
    stages, _ = GroupRelative(width=4).credit([chains(*([r] for r in row), agents=("solo",)) for row in rewards], {})
    torch.testing.assert_close(torch.tensor([s.advantage for s in stages[0]], dtype=torch.float64), expected)


@given(st.lists(st.integers(-10, 10), min_size=4, max_size=4).filter(lambda row: len(set(row)) > 1))
def test_one_agent_equals_trl_with_scaling(row: list[int]) -> None:
    """TRL's GRPOTrainer with scale_rewards="group"."""
    flat = torch.tensor(row, dtype=torch.float64)
    deviation = flat.view(-1, 4).std(1).repeat_interleave(4)
    theirs = (flat - flat.view(-1, 4).mean(1).repeat_interleave(4)) / (deviation + 1e-4)
    stages, _ = GroupRelative(scale="group").credit([chains(*([float(r)] for r in row), agents=("solo",))], {})
    torch.testing.assert_close(torch.tensor([s.advantage for s in stages[0]], dtype=torch.float64), theirs)


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 1},
        {"leaf_limit": 0},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"joint_weight": -1.0},
        {"own_weight": float("nan")},
        {"difference_weight": float("inf")},
        {"joint_weight": 0.0},
        {"discount": 1.1},
        {"discount": -0.1},
        {"discount": float("nan")},
        {"reward_shift": float("inf")},
        {"stop_above": float("nan")},
        {"clip": 0.0},
        {"clip": -0.2},
        {"clip": float("nan")},
        {"kl": -1.0},
        {"kl": float("nan")},
        {"width": 0, "baseline": "none"},
        {"width": 1, "baseline": "greedy", "scale": "group"},
        {"follow": "best", "over": "round"},
        {"follow": "best", "tree": True},
        {"over": "episode", "tree": True},
        {"over": "final", "crossed": True},
        {"among": "own_steps"},
        {"average_turns": True},
        {"difference_weight": 1.0, "over": "final"},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^algorithm.{next(iter(settings))}: [^\n]*(expected|needs)[^\n]*$"):
        GroupRelative(**settings)


def test_the_paper_is_the_default() -> None:
    paper = MAGRPO
    assert (paper.width, paper.discount, paper.scale, paper.clip, paper.kl) == (4, 1.0, "none", None, 0.0)
    assert (paper.updates, paper.reduction, paper.needs.reference) == ("turn", "sequence", "")
    assert GroupRelative(kl=0.1).needs.reference == "loss"
