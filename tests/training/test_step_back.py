"""A jump of KL or entropy: back to the last good checkpoint with half the rate, a bounded number of times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes.runs import StopsBefore, assert_equal, numbers, tiny_run, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment
from madrigal.evaluation.alarms import Alarm
from madrigal.evaluation.early import EarlyAlarms
from madrigal.rollouts.task import SingleRound
from madrigal.runs.checkpoint import checkpoints, load_checkpoint
from madrigal.runs.log import read_lines
from madrigal.settings import OptimizerConfig, RecordsConfig
from madrigal.tasks.own import CustomTask
from madrigal.training import saving
from madrigal.training.held_out import NullCallback
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError, Example

ROWS = tuple(Example(str(n), {"n": n}) for n in range(6))


def odd(example: Example, said: Any) -> float:
    text = said["ann"] + said["bob"]
    return sum(ord(c) % 2 for c in text) / max(1, len(text))


TASK = SingleRound("odd", ("ann", "bob"), ROWS[:5], ROWS[5:], lambda example, agent: f"{agent} {example.id}!", odd)


class Hears(NullCallback):
    def __init__(self) -> None:
        self.told: list[str] = []

    def stage(self, name: str) -> None:
        self.told.append(name)


def jumps_at(step: int, above: float) -> type[EarlyAlarms]:
    """Alarms that see a jump in one step, as long as its rate is above a bound."""

    class Jumpy(EarlyAlarms):
        def jump(self, record: Any) -> Alarm | None:
            bad = record["step"] == step and record["update/ann/lr"] > above
            return Alarm("KL jump", "warning", step, "KL is 2") if bad else None

    return Jumpy


def run_of(model: Path, step_backs: int, **changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "optimizer": OptimizerConfig(lr=1e-3, step_backs=step_backs),
        "records": RecordsConfig(checkpoint_every=2, keep=9),
        "steps": 5,
        "prompts": 1,
    }
    return tiny_run(model, CustomTask("in-memory:odd"), GroupRelative(width=2), **settings | changes)


def rates(folder: Path) -> list[float]:
    return [record["update/ann/lr"] for record in read_lines(folder / "steps.jsonl")]


def test_a_run_goes_back_with_half_the_rate_and_says_so(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "EarlyAlarms", jumps_at(3, above=3e-4))
    hears, folder = Hears(), tmp_path / "run"
    assert train_experiment(run_of(model_folder, 3), folder, task=TASK, watch=hears)
    assert rates(folder) == [1e-3, 1e-3, 2.5e-4, 2.5e-4, 2.5e-4]
    records = read_lines(folder / "steps.jsonl")
    assert [record["step"] for record in records] == [0, 1, 2, 3, 4]
    assert [record.get("step_backs", 0) for record in records] == [0, 0, 2, 2, 2]
    backs = json.loads((folder / "run.json").read_text())["step_backs"]
    assert [(one["from"], one["to"], one["rate"], one["alarm"]) for one in backs] == [
        (3, 2, 0.5, "KL jump: KL is 2"),
        (3, 2, 0.25, "KL jump: KL is 2"),
    ]
    assert all(one["tokens"] > 0 for one in backs)
    told = "note: KL jump in step 4: back to the checkpoint after step 2, and on with"
    assert [line for line in hears.told if "back to" in line] == [
        f"{told} 0.5 of the learning rate (1 of 3 times)",
        f"{told} 0.25 of the learning rate (2 of 3 times)",
    ]
    assert {line.get("evaluation") for line in read_lines(folder / "episodes.jsonl")} == {None, "before", "after"}


def test_it_goes_back_no_oftener_than_it_may_and_not_unasked(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "EarlyAlarms", jumps_at(3, above=0.0))
    for allowed, last in ((0, 1e-3), (1, 5e-4)):
        hears, folder = Hears(), tmp_path / str(allowed)
        assert train_experiment(run_of(model_folder, allowed), folder, task=TASK, watch=hears)
        left = [line for line in hears.told if "no return to a checkpoint is left" in line]
        assert left == ["note: KL jump in step 4, and no return to a checkpoint is left"] * allowed
        assert rates(folder)[-1] == last and len(rates(folder)) == 5


def test_weights_that_a_step_finds_bad_are_not_those_gone_back_to(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint after step 3 holds what the jump in step 4 was measured on; that after step 2 does not."""
    monkeypatch.setattr(saving, "EarlyAlarms", jumps_at(3, above=6e-4))
    folder = tmp_path / "run"
    records = RecordsConfig(checkpoint_every=1, keep=1)
    assert train_experiment(run_of(model_folder, 1, records=records), folder, task=TASK)
    assert rates(folder) == [1e-3, 1e-3, 5e-4, 5e-4, 5e-4]
    assert [step for step, _ in checkpoints(folder / "checkpoints")] == [4, 5]
    assert load_checkpoint(folder / "checkpoints" / "step-4")[1]["step_backs"] == 1


def test_without_a_checkpoint_of_its_own_it_goes_back_to_the_start(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "EarlyAlarms", jumps_at(1, above=6e-4))
    folder = tmp_path / "run"
    records = RecordsConfig(checkpoint_every=0)
    assert train_experiment(run_of(model_folder, 1, records=records, steps=3), folder, task=TASK)
    assert rates(folder) == [5e-4] * 3
    slow = run_of(model_folder, 0, records=records, steps=3, optimizer=OptimizerConfig(lr=5e-4))
    assert train_experiment(slow, tmp_path / "slow", task=TASK)
    assert_equal(weights(folder), weights(tmp_path / "slow"))
    assert "before" in {line.get("evaluation") for line in read_lines(folder / "episodes.jsonl")}


def test_a_resumed_run_keeps_the_rate_that_it_went_back_to(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "EarlyAlarms", jumps_at(3, above=6e-4))
    run, whole, torn = run_of(model_folder, 2), tmp_path / "whole", tmp_path / "torn"
    assert train_experiment(run, whole, task=TASK)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(run, torn, task=TASK, watch=StopsBefore(4))
    assert train_experiment(run, torn, task=TASK, resume=True)
    assert numbers(torn) == numbers(whole) and rates(torn)[-1] == 5e-4
    assert_equal(weights(torn), weights(whole))
    assert len(json.loads((torn / "run.json").read_text())["step_backs"]) == 1


def test_alarms_find_each_jump_again_where_a_run_may_go_back() -> None:
    look = EarlyAlarms()
    kls = [0.0, 0.6, 0.6, 1.3, 1.3]
    found = [look.jump({"step": n, "update/ann/kl": kl}) for n, kl in enumerate(kls)]
    jump = [alarm and (alarm.name, alarm.step) for alarm in found]
    assert jump == [None, None, ("KL jump", 2), None, ("KL jump", 4)]
    with pytest.raises(ConfigError, match=r"optimizer\.step_backs: expected 0 or more"):
        OptimizerConfig(step_backs=-1)
