"""Role-conditioned advantages, number by number; the memory and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.play import siblings, turn
from madrigal.algorithms import reported
from madrigal.algorithms.self_play import SelfPlay
from madrigal.config import from_json, to_json
from madrigal.recipes import recipe
from madrigal.runs.checkpoint import load_checkpoint, save_checkpoint
from madrigal.tasks.catalog import open_task
from madrigal.training.checks import check_needs
from madrigal.types import ConfigError, Episode, Group, Point, Sample, Step

SEATS = ("first", "second")


def game(reward: float, *, rounds: int = 2, name: str = "kuhn", played: Sequence[str] = SEATS) -> Episode[str]:
    """Rounds in which the seats take turns; the first one wins `reward` in the last."""
    turns = tuple(turn(SEATS[n % 2], "5", n, tokens=int(SEATS[n % 2] in played)) for n in range(rounds))
    pays = [0.0] * (rounds - 1) + [reward]
    steps = tuple(Step("", {"first": pay, "second": -pay}, details={"game": name}) for pay in pays)
    return Episode(Point("x", ""), turns, steps)


def groups(*episodes: Episode[str]) -> list[Group[Any]]:
    return [siblings(episode, agents=SEATS) for episode in episodes]


def credited(algorithm: SelfPlay, *episodes: Episode[str], memory: dict[str, float] | None = None) -> list[Sample]:
    stages, _ = algorithm.credit(groups(*episodes), memory or {})
    return [sample for stage in stages for sample in stage]


def advantages(samples: Sequence[Sample], agent: str) -> list[float]:
    return [sample.advantage for sample in samples if sample.turn.agent == agent]


def test_three_games_by_hand() -> None:
    """alpha = 0.9: baselines 0, then 0.1 R1, then 0.9 * 0.1 R1 + 0.1 R2."""
    algorithm = SelfPlay(alpha=0.9)
    stages, memory = algorithm.credit(groups(game(1), game(-2), game(1)), algorithm.begin())
    (stage,) = stages
    assert advantages(stage, "first") == pytest.approx([1, -2 - 0.1, 1 - (0.09 - 0.2)])
    assert advantages(stage, "second") == pytest.approx([-1, 2 + 0.1, -1 + (0.09 - 0.2)])
    assert sorted(sample.return_ for sample in stage) == [-2, -1, -1, 1, 1, 2]
    assert memory == pytest.approx({"kuhn/first": 0.9 * -0.11 + 0.1, "kuhn/second": 0.9 * 0.11 - 0.1})


def test_baselines_are_carried_from_step_to_step() -> None:
    algorithm = SelfPlay()
    _, memory = algorithm.credit(groups(game(1)), algorithm.begin())
    assert memory == pytest.approx({"kuhn/first": 0.05, "kuhn/second": -0.05})
    (stage,), _ = algorithm.credit(groups(game(1)), memory)
    assert advantages(stage, "first") == pytest.approx([0.95])
    assert memory == pytest.approx({"kuhn/first": 0.05, "kuhn/second": -0.05}), "what was handed in is as it was"


def test_all_turns_of_a_role_have_the_advantage_of_its_whole_return() -> None:
    penalized = game(1, rounds=5)
    steps = (Step("", {"first": -0.5, "second": 0.5}), *penalized.steps[1:])
    samples = credited(SelfPlay(), Episode(penalized.start, penalized.turns, steps))
    assert advantages(samples, "first") == [0.5] * 3
    assert advantages(samples, "second") == [-0.5] * 2


@given(st.lists(st.sampled_from([-2.0, -1.0, 1.0, 2.0]), min_size=1, max_size=8), st.floats(0.1, 1))
def test_moving_the_baseline_first_scales_the_advantage_by_alpha(rewards: list[float], alpha: float) -> None:
    before, first = (
        credited(SelfPlay(alpha=alpha, update_first=order, skip_zero=False), *map(game, rewards))
        for order in (False, True)
    )
    assert [s.advantage for s in first] == pytest.approx([alpha * s.advantage for s in before])


def test_every_game_and_every_role_has_a_baseline_of_its_own() -> None:
    algorithm = SelfPlay(alpha=0.5)
    stages, memory = algorithm.credit(groups(game(1, name="kuhn"), game(1, name="tictactoe"), game(1, name="kuhn")), {})
    assert advantages(stages[0], "first") == [1, 1, 0.5]
    assert memory == {"kuhn/first": 0.75, "kuhn/second": -0.75, "tictactoe/first": 0.5, "tictactoe/second": -0.5}


def test_baselines_are_reported_by_game_and_role() -> None:
    _, memory = SelfPlay(alpha=0.5).credit(groups(game(1), game(4, name="")), {})
    expected = {"kuhn/first": 0.5, "kuhn/second": -0.5, "first": 2.0, "second": -2.0}
    assert reported(SelfPlay(), memory) == {f"algorithm/baseline/{role}": value for role, value in expected.items()}


def test_a_role_that_always_wins_by_as_much_learns_nothing_in_the_end() -> None:
    algorithm, memory = SelfPlay(), dict[str, float]()
    for _ in range(300):
        stages, memory = algorithm.credit(groups(game(1)), memory)
    assert advantages(stages[0], "first") == pytest.approx([0], abs=1e-6)


def test_without_role_baselines_the_return_itself_is_credited() -> None:
    algorithm = SelfPlay(role_baseline=False)
    samples = credited(algorithm, game(1), game(-2), memory={"kuhn/first": 0.7})
    assert advantages(samples, "first") == [1, -2]


def test_turns_that_teach_nothing_are_left_out_unless_they_are_wanted() -> None:
    drawn = game(0)
    assert credited(SelfPlay(), drawn) == []
    assert SelfPlay().credit(groups(drawn), {})[0] == []
    assert [s.advantage for s in credited(SelfPlay(skip_zero=False), drawn)] == [0, 0]


def test_a_partner_that_does_not_learn_is_neither_credited_nor_remembered() -> None:
    algorithm = SelfPlay()
    stages, memory = algorithm.credit(groups(game(1, played=("second",))), {})
    assert [sample.turn.agent for stage in stages for sample in stage] == ["second"]
    assert set(memory) == {"kuhn/second"}


def test_a_role_that_came_to_no_turn_is_remembered() -> None:
    samples = credited(SelfPlay(), game(-1, rounds=1))
    assert [sample.turn.agent for sample in samples] == ["first"]
    _, memory = SelfPlay().credit(groups(game(-1, rounds=1)), {})
    assert memory == pytest.approx({"kuhn/first": -0.05, "kuhn/second": 0.05})


def test_a_step_minimises_the_mean_over_roles_of_the_sum_over_turns() -> None:
    """No 1/T: turns of long games count as much as those of short ones, and what was left out counts as zeros."""
    samples = credited(SelfPlay(), game(1, rounds=2), game(1, rounds=6), game(0, rounds=4))
    total = sum(sample.weight * sample.advantage**2 for sample in samples) / (3 * 2)
    moved = 0.95
    by_hand = (1 * (1 + 1) + moved**2 * (3 + 3) + (0.05 + 0.95 * 0.05) ** 2 * (2 + 2)) / (3 * 2)
    assert total == pytest.approx(by_hand)
    assert len({sample.weight for sample in samples}) == 1


def test_siblings_of_one_deal_are_not_compared_with_each_other() -> None:
    group = Group(Point("x", ""), (game(1), game(1)), SEATS)
    stages, _ = SelfPlay(width=2).credit([group], {})
    assert advantages(stages[0], "first") == pytest.approx([1, 0.95])


def test_memory_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    _, memory = SelfPlay().credit(groups(game(1), game(-2)), {})
    assert json.loads(json.dumps(memory)) == memory
    _, state = load_checkpoint(save_checkpoint(tmp_path, 3, {}, {"memory": memory}))
    assert state["memory"] == memory
    again, kept = (credited(SelfPlay(), game(1), memory=one) for one in (memory, state["memory"]))
    assert [sample.advantage for sample in again] == [sample.advantage for sample in kept]


def test_it_is_for_zero_sum_games_of_two() -> None:
    with open_task(recipe("tictactoe").task) as task:
        check_needs(SelfPlay(), task)
    with (
        open_task(recipe("gsm8k").task) as task,
        pytest.raises(ConfigError, match="self_play needs rewards that sum up to zero, the rewards of gsm8k are joint"),
    ):
        check_needs(SelfPlay(), task)


@pytest.mark.parametrize("name", ["tictactoe", "kuhn"])
def test_recipes_are_read_back(name: str) -> None:
    run = recipe(name)
    assert from_json(to_json(run)) == run
    assert run.team.shared


def test_the_paper_is_the_default() -> None:
    paper = SelfPlay()
    assert (paper.alpha, paper.role_baseline, paper.update_first, paper.kl) == (0.95, True, False, 0)
    assert (paper.reduction, paper.needs.rewards, paper.needs.agents) == (
        "sequence",
        "zero-sum",
        2,
    )


@pytest.mark.parametrize("settings", [{"alpha": 1.1}, {"alpha": -0.1}, {"width": 0}, {"kl": -1.0}])
def test_a_setting_that_cannot_work_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"algorithm.{next(iter(settings))}"):
        SelfPlay(**settings)
