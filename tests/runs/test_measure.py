"""What is written down of chains and of trees: every episode whole, every answer once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Any

import pytest

from fakes.play import Rounds, judge_of
from madrigal.algorithms.ccpo import Ccpo
from madrigal.algorithms.counterfactual import Counterfactual
from madrigal.algorithms.group import GroupRelative
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.topology import Sequential
from madrigal.rollouts.tree import rollout_groups
from madrigal.runs.records import full_episodes, segments, step_record, transcripts
from madrigal.types import Completion, Group, Point, Step

AGENTS = ("ann", "bob")


@dataclass(frozen=True)
class Sums(Rounds):
    """Two rounds; a round is worth the sum of the digits said in it. Saying 9 in the first round ends it."""

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        total = float(sum(int(text or 0) for text in actions.values()))
        over = state == 1 or "9" in actions.values()
        return Step(state + 1, dict.fromkeys(self.agents, total), "horizon" if over else "", {"total": total})


def played(branching: Branching, seed: int = 3, retries: int = 0) -> list[Group[Any]]:
    task = Sums()

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        said = [Completion(str(one.seed % 10), (1,), (1,) * (1 + one.seed % 3), (-0.5,)) for one in wanted]
        return [replace(one, retries=retries) for one in said]

    judge = judge_of(task)
    return rollout_groups(task, Sequential(), [Point("x", 0), Point("y", 0)], branching, speak, judge, (seed,))  # type: ignore[arg-type]


SHAPES = [Branching(3), Branching(3, at="round"), Branching(2, at="turn"), Branching(3, at="turn", follow="one")]


@pytest.mark.parametrize("branching", SHAPES)
def test_every_path_is_a_whole_episode(branching: Branching) -> None:
    groups = played(branching)
    for path in full_episodes(groups):
        assert [turn.agent for turn in path.turns] == list(AGENTS) * len(path.steps)
        assert [step.ending for step in path.steps] == [""] * (len(path.steps) - 1) + ["horizon"]
        assert path.then is None
    assert {turn.number for path in full_episodes(groups) for turn in path.turns} == {
        turn.number for stretch in segments(groups) for turn in stretch.turns
    }


@pytest.mark.parametrize("branching", SHAPES)
def test_numbers_of_a_step_are_those_of_its_episodes(branching: Branching) -> None:
    groups = played(branching)
    record = step_record(0, 2.0, groups, [], {})
    steps = [step for stretch in segments(groups) for step in stretch.steps]
    turns = [turn for stretch in segments(groups) for turn in stretch.turns]
    assert record["reward"] == pytest.approx(fmean(step.rewards["ann"] for step in steps))
    assert record["tokens"] == sum(len(turn.completion.token_ids) for turn in turns)
    returns = [[sum(step.rewards["ann"] for step in path.steps) for path in full_episodes([group])] for group in groups]
    assert record["group/return_std"] == pytest.approx(fmean(map(pstdev, returns)))
    totals = [path.steps[-1].metrics["total"] for path in full_episodes(groups)]
    assert record["component/total"] == pytest.approx(fmean(totals))
    assert record["agent/bob/reward"] == record["reward"]


def test_a_tree_of_decisions_has_a_spread_although_its_first_stretch_earns_nothing() -> None:
    groups = played(Branching(2, at="turn"))
    assert all(stretch.steps == () for group in groups for stretch in group.episodes)
    assert step_record(0, 1.0, groups, [], {})["group/return_std"] > 0


@pytest.mark.parametrize("algorithm", [GroupRelative(width=2, tree=True), Counterfactual(), Counterfactual(tree=False)])
def test_transcripts_of_a_tree_go_from_its_root_to_its_leaves(algorithm: Any) -> None:
    groups = played(algorithm.branching)
    stages, _ = algorithm.credit(groups, algorithm.begin())
    credit = {sample.turn.number: sample.advantage for stage in stages for sample in stage}
    shown = transcripts(7, groups, stages, count=3)
    assert len(shown) == 3
    for record, path in zip(shown, full_episodes(groups), strict=False):
        assert (record["step"], record["example"], record["ending"]) == (7, "x", "horizon")
        assert record["reward"] == sum(step.rewards["ann"] for step in path.steps)
        assert [turn["text"] for turn in record["turns"]] == [turn.completion.text for turn in path.turns]
        assert [turn["round"] for turn in record["turns"]] == sorted(turn.round for turn in path.turns)
        assert [turn["reward"] for turn in record["turns"]] == [
            path.steps[t.round].rewards[t.agent] for t in path.turns
        ]
        assert [turn["advantage"] for turn in record["turns"]] == [credit.get(turn.number) for turn in path.turns]


def test_an_uncredited_turn_has_no_advantage() -> None:
    groups = played(Branching(3, at="turn", follow="one"))
    stages, _ = Counterfactual(tree=False).credit(groups, {})
    last = transcripts(0, groups, stages, count=1000)[-1]
    assert last["turns"][0]["advantage"] is not None
    assert {turn["advantage"] for turn in last["turns"][1:]} == {None}


@pytest.mark.parametrize("settings", [{"solo": True}, {"greedy": True}])
def test_what_is_played_beside_a_group_costs_tokens_and_counts_nowhere_else(settings: dict[str, bool]) -> None:
    beside, plain = (step_record(0, 1.0, played(Branching(3, **more)), [], {}) for more in (settings, {}))  # type: ignore[arg-type]
    assert beside["tokens"] > plain["tokens"]
    for key in ("reward", "group/return_std", "component/total", "agent/ann/tokens", "episodes"):
        assert beside[key] == plain[key]


def test_answers_that_a_server_was_asked_for_again_are_counted_once_each_and_only_where_there_were_some() -> None:
    plain = played(Branching(3))
    assert "agent/ann/retries" not in step_record(0, 1.0, plain, [], {})
    again = played(Branching(3), retries=2)
    record = step_record(0, 1.0, again, [], {})
    answers = {turn.number for path in full_episodes(again) for turn in path.turns}
    assert record["agent/ann/retries"] + record["agent/bob/retries"] == 2 * len(answers)


def test_where_two_agents_learn_in_turn_the_other_ones_answers_are_not_counted_as_equal() -> None:
    groups = played(Ccpo().branching)
    stages, _ = Ccpo().credit(groups, Ccpo().begin())
    assert {sample.turn.agent for stage in stages for sample in stage} == {"ann"}
    assert 0 <= step_record(0, 1.0, groups, stages, {})["group/zero_advantage_fraction"] < 1
