"""Teams with a policy for each round: who speaks when, how they are made, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fakes.borders import assert_same_answers
from fakes.tiny import chat, load
from madrigal.compare.contenders import contenders
from madrigal.config import Experiment, from_json, to_json
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import Lora, PolicyConfig, Sampling, TeamConfig
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.training.checks import check_experiment
from madrigal.training.saving import save_team
from madrigal.training.teams import load_saved_team, make_team
from madrigal.types import Completion, ConfigError, Turn

AGENTS = ("ann", "bob")
SAMPLING = Sampling(max_new_tokens=6)


def config(model_folder: Path, rounds: int, rank: int = 4, *, shared: bool = False, frozen: str = "") -> TeamConfig:
    policy = PolicyConfig(model=str(model_folder), lora=Lora(rank))
    seats = {frozen: PolicyConfig(model=str(model_folder), trainable=False)} if frozen else {}
    return TeamConfig(policy=policy, seats=seats, shared=shared, rounds=rounds, device="cpu")


def names(team: Team, rounds: int = 3) -> list[list[str]]:
    return [[team.policy_of(agent, index).name for agent in AGENTS] for index in range(rounds)]


def shake(policy: LocalPolicy, by: float) -> None:
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(by)


def wanted() -> list[GenerationRequest]:
    return [GenerationRequest(agent, chat("a dog"), 1, round=index) for index in range(3) for agent in AGENTS]


def answers(team: Team) -> list[Completion]:
    return team.speaker(SAMPLING)(wanted())


def spoken(team: Team) -> list[tuple[int, ...]]:
    return [one.token_ids for one in answers(team)]


@pytest.mark.parametrize(
    ("rounds", "shared", "expected"),
    [
        (1, False, [["ann", "bob"]] * 3),
        (2, False, [["ann", "bob"], ["ann_round2", "bob_round2"], ["ann_round2", "bob_round2"]]),
        (3, False, [["ann", "bob"], ["ann_round2", "bob_round2"], ["ann_round3", "bob_round3"]]),
        (1, True, [["team", "team"]] * 3),
        (3, True, [["team"] * 2, ["team_round2"] * 2, ["team_round3"] * 2]),
    ],
)
def test_who_speaks_in_which_round(model_folder: Path, rounds: int, shared: bool, expected: list[list[str]]) -> None:
    team = make_team(config(model_folder, rounds, shared=shared), AGENTS, 0)
    assert names(team) == expected
    assert [policy.name for policy in team.policies] == list(dict.fromkeys(name for row in expected for name in row))
    assert team.trainable == team.policies
    assert len({id(policy.model) for policy in team.policies}) == 1  # adapters share one copy of the base


def test_a_turn_belongs_to_the_policy_of_its_round(model_folder: Path) -> None:
    team = make_team(config(model_folder, 2), AGENTS, 0)
    turns = [Turn("ann", (), Completion(""), index) for index in range(3)]
    mine = {policy.name: [team.spoke(policy, turn) for turn in turns] for policy in team.policies}
    assert mine == {
        "ann": [True, False, False],
        "bob": [False] * 3,
        "ann_round2": [False, True, True],
        "bob_round2": [False] * 3,
    }


@pytest.mark.parametrize(("rank", "shared"), [(4, False), (4, True), (0, False)])
def test_a_loaded_team_speaks_as_the_saved_one(model_folder: Path, tmp_path: Path, rank: int, shared: bool) -> None:
    settings = config(model_folder, 2, rank, shared=shared)
    team = make_team(settings, AGENTS, 0)
    for n, policy in enumerate(team.policies):
        shake(policy, 0.03 * (n + 1))
    save_team(team, tmp_path / "team")
    said = spoken(team)
    assert said == spoken(load_saved_team(tmp_path / "team", settings, AGENTS))
    assert said[:2] != said[2:4]
    for agent, second, third in zip(AGENTS, answers(team)[2:4], answers(team)[4:], strict=True):
        assert_same_answers(team.policy_of(agent, 1), [second], [third], SAMPLING, [1])
    written = json.loads((tmp_path / "team" / "team.json").read_text())
    assert written["later"] == [
        {agent: {"policy": f"{'team' if shared else agent}_round2", "folder": f"{agent}_round2"} for agent in AGENTS}
    ]


def test_who_does_not_learn_is_one_policy_in_all_rounds(model_folder: Path, tmp_path: Path) -> None:
    settings = config(model_folder, 3, frozen="bob")
    team = make_team(settings, AGENTS, 0)
    assert names(team) == [["ann", "bob"], ["ann_round2", "bob"], ["ann_round3", "bob"]]
    assert [policy.name for policy in team.trainable] == ["ann", "ann_round2", "ann_round3"]
    save_team(team, tmp_path / "team")
    assert not (tmp_path / "team" / "bob_round2").exists()
    assert spoken(team) == spoken(load_saved_team(tmp_path / "team", settings, AGENTS))


def test_weights_that_would_learn_as_two_policies_are_refused(model_folder: Path) -> None:
    ann = load(model_folder, "ann")
    twin = LocalPolicy("other", ann.model, ann.tokenizer)
    with pytest.raises(ConfigError, match="hold the same trainable model"):
        Team({"ann": ann}, later=({"ann": twin},))
    with pytest.raises(ConfigError, match="the seats ann and bob hold the same trainable model"):
        Team({"ann": ann, "bob": load(model_folder, "bob")}, later=({"ann": load(model_folder, "x"), "bob": ann},))
    assert Team({"ann": ann}, later=({"ann": ann},)).policies == (ann,)


def test_every_seat_is_taken_in_every_round(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected a policy for each of ann in every round"):
        Team({"ann": load(model_folder, "ann")}, later=({},))


def test_more_policies_than_rounds_are_refused(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"team.rounds: expected at least 1 policy for the rounds, got 0"):
        TeamConfig(rounds=0)
    run = Experiment("debate", Debate(rounds=2), team=config(model_folder, 3))
    with pytest.raises(ConfigError, match=r"team.rounds: expected at most as many as debate has, 2, got 3"):
        check_experiment(run, DebateTask(Debate(rounds=2)))


def test_the_setting_is_written_and_read() -> None:
    run = Experiment("debate", Debate(), team=TeamConfig(rounds=3))
    assert from_json(to_json(run)) == run
    without = json.loads(to_json(run))
    del without["team"]["rounds"]
    assert from_json(json.dumps(without)).team.rounds == 1


def test_a_seat_with_several_policies_is_not_swapped() -> None:
    run = Experiment("debate", Debate(), team=TeamConfig(rounds=2))
    assert not [one.name for one in contenders(run, ("first", "second")) if one.swapped]
    plain = Experiment("debate", Debate())
    assert len([one for one in contenders(plain, ("first", "second")) if one.swapped]) == 2
