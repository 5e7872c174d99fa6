"""Runs with fluency: read in evaluation without a weight, in training too with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.runs import tiny_run
from madrigal.algorithms.group import MAGRPO
from madrigal.config import Experiment
from madrigal.policies import local
from madrigal.runs.log import RunLog, read_lines
from madrigal.settings import BASE, EvaluationConfig, Lora, RewardWeights, Sampling, WarmConfig
from madrigal.training.checks import open_checked_task
from madrigal.training.held_out import evaluate_run
from madrigal.training.teams import fluency_model, holds_base
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError

LOAD = local.load_model
TASK = """
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

task = SingleRound("one", ("ann", "bob"), [Example(f"train-{n}", {}) for n in range(4)], [Example("test", {})],
                   lambda example, agent: f"{agent}, write {example.id}!", lambda example, said: 0.5)
"""


def experiment(model: Path, folder: Path, weight: float) -> Experiment:
    file = folder / "one_half.py"
    file.write_text(TASK)
    return tiny_run(
        model,
        f"{file}:task",
        replace(MAGRPO, width=2),
        reward=RewardWeights(fluency=weight),
        evaluation=EvaluationConfig(examples=1, timed_examples=0, fluency=BASE),
        sampling=Sampling(max_new_tokens=6),
        steps=1,
    )


def test_without_a_weight_only_evaluation_reads(model_folder: Path, tmp_path: Path) -> None:
    train_experiment(experiment(model_folder, tmp_path, 0.0), tmp_path / "run")
    (record,) = read_lines(tmp_path / "run" / "steps.jsonl")
    assert not any("fluency" in key for key in record) and record["reward"] == 0.5
    components = RunLog(tmp_path / "run").evaluations()["after"]["components"]
    assert components["fluency"] < 0 and {"fluency/ann", "fluency/bob"} <= set(components)


@pytest.mark.parametrize(("rank", "loads"), [(0, 3), (2, 1)])
def test_the_model_that_reads_is_loaded_once_a_run_and_below_adapters_not_at_all(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, loads: int
) -> None:
    run = experiment(model_folder, tmp_path, 0.0)
    policy = replace(run.team.policy, lora=Lora(rank=rank))
    loaded = list[str]()
    monkeypatch.setattr(local, "load_model", lambda config, device: loaded.append(config.model) or LOAD(config, device))
    train_experiment(replace(run, team=replace(run.team, policy=policy)), tmp_path / "run")
    assert len(loaded) == loads


def test_a_warm_start_alone_moves_weights_that_fluency_is_not_read_by(model_folder: Path, tmp_path: Path) -> None:
    run = experiment(model_folder, tmp_path, 0.0)
    own = run.team.policy
    for changes, stays in (({"steps": 0}, True), ({"steps": 0, "warm": WarmConfig(examples=2)}, False)):
        changed = replace(run, **changes)
        assert holds_base(changed, own, fluency_model(changed)) is stays
        assert holds_base(changed, replace(own, lora=Lora(rank=2)), fluency_model(changed))


def test_with_a_weight_training_pays_it(model_folder: Path, tmp_path: Path) -> None:
    train_experiment(experiment(model_folder, tmp_path, 0.25), tmp_path / "run")
    (record,) = read_lines(tmp_path / "run" / "steps.jsonl")
    assert record["reward"] == pytest.approx(0.5 + 0.25 * record["component/fluency"])
    assert record["component/return_percent"] == 50.0
    evaluation = RunLog(tmp_path / "run").evaluations()["after"]
    assert evaluation["return_percent"] == 50.0
    again, _ = evaluate_run(tmp_path / "run", trust=True)
    assert again.components["fluency"] == pytest.approx(evaluation["components"]["fluency"], abs=1e-6)


def test_a_model_to_read_by_that_is_not_there_is_one_line(model_folder: Path, tmp_path: Path) -> None:
    run = experiment(model_folder, tmp_path, 0.0)
    run = replace(run, evaluation=replace(run.evaluation, fluency="./nowhere"))
    with pytest.raises(ConfigError, match="expected a folder with a saved model at"), open_checked_task(run):
        pass
