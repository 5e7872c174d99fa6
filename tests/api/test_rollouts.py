"""A team that a program plays learns as in process: the same tokens, log-probs and weights; its run folder is any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fakes.elsewhere import AGENTS, ROWS, digits, play
from fakes.tiny import build_model
from madrigal import ConfigError, TrainingResult, api, load_team, train, train_rollouts

SMALL: dict[str, Any] = {
    "steps": 2,
    "prompts": 2,
    "quiet": True,
    "algorithm": {"width": 3},
    "evaluation": {"examples": 1, "timed_examples": 0},
    "sampling": {"max_new_tokens": 8},
    "optimizer": {"lr": 1e-3},
    "records": {"transcripts": 6},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = build_model(tmp_path_factory.mktemp("model"))
    return SMALL | {"team": {"policy": {"model": str(model), "lora": {"rank": 0}}}}


@pytest.fixture(scope="module")
def elsewhere(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    folder = tmp_path_factory.mktemp("runs") / "elsewhere"
    return train_rollouts(play, ROWS, folder, agents=AGENTS, task={"gather": 20.0}, **settings)


def weights_of(folder: Path, agent: str) -> dict[str, torch.Tensor]:
    (file,) = (folder / "team" / agent).glob("*.safetensors")
    return load_file(file)


def test_a_program_and_a_task_come_to_the_same_weights(
    elsewhere: TrainingResult, settings: dict[str, Any], tmp_path: Path
) -> None:
    own = train(digits(), tmp_path / "own", **settings)
    for agent in AGENTS:
        ours, theirs = weights_of(own.folder, agent), weights_of(elsewhere.folder, agent)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for ours, theirs in zip(own.curve, elsewhere.curve, strict=True):
        told = [name for name in ours if name.endswith(("/loss", "/gradient_norm", "/entropy")) or name == "reward"]
        assert len(told) == 7 and [ours[name] for name in told] == [theirs[name] for name in told]
    after = {name: result.evaluations["after"].return_percent for name, result in (("own", own), ("else", elsewhere))}
    assert after["own"] == after["else"]


def test_its_run_folder_goes_on_is_evaluated_and_loaded(elsewhere: TrainingResult) -> None:
    more = train_rollouts(play, ROWS, elsewhere.folder, resume=True, quiet=True, steps=3)
    assert [record["step"] for record in more.curve] == [0, 1, 2]
    repeated = api.evaluate_rollouts(play, elsewhere.folder, ROWS)
    assert repeated.return_percent == more.evaluations["after"].return_percent
    team = load_team(elsewhere.folder)
    assert team.agents == AGENTS
    with pytest.raises(ConfigError, match="cannot be asked without it; its agents can, one by one: madrigal serve"):
        team.answer("3")
    for alone in (api.evaluate, train):
        with pytest.raises(ConfigError, match="played by a program of its own: hand it to madrigal"):
            alone(elsewhere.folder)
    with pytest.raises(ConfigError, match=r"expected the examples of this run, memory:"):
        train_rollouts(play, {**ROWS, "train": ROWS["train"][:1]}, elsewhere.folder, resume=True)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"agents": ()}, r"agents: expected the names of the seats, .* got \(\)"),
        ({"agents": "left"}, "agents: expected the names of the seats, .* got 'left'"),
        (
            {"task": {"second": 1}},
            "task: expected some of rewards, best_return, seconds, lost, gather, unclaimed, got second",
        ),
        ({"task": {"lost": float("nan")}}, "task.lost: expected a finite reward"),
        (
            {"algorithm": "mappo"},
            "algorithm mappo looks into the rounds of a task, and a session has none",
        ),
        ({"algorithm": "at_grpo"}, "algorithm at_grpo plays on from the middle of an episode"),
        ({"algorithm": "leave_one_out_team"}, "judges every answer again without one agent"),
        ({"topology": "sequential"}, "topology: .*the program says who speaks when"),
        ({"warm": {"examples": 4}}, "warm: .*leave it as it comes"),
    ],
)
def test_what_cannot_be_trained_so_is_said_in_one_line(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        train_rollouts(play, ROWS, tmp_path / "run", **{"agents": AGENTS, "quiet": True} | changed)
    assert not (tmp_path / "run").exists()
