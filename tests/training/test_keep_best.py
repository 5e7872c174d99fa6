"""Three splits of any task, and the weights with the best validation return: chosen, saved, gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.runs import StopsBefore, assert_equal, numbers, tiny_run, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment
from madrigal.evaluation.evaluate import Evaluation
from madrigal.rollouts.task import SingleRound
from madrigal.runs.checkpoint import checkpoints, load_checkpoint
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig, RecordsConfig
from madrigal.tasks.own import CustomTask
from madrigal.training import train as loop
from madrigal.training.held_out import NullCallback, evaluate_on, notices
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError, Example

BEST = EvaluationConfig(examples=2, timed_examples=0, keep="best", every=1)
SAVED = RecordsConfig(checkpoint_every=2, keep=1)


def odd(example: Example, said: Any) -> float:
    text = said["ann"] + said["bob"]
    return 2 * sum(ord(c) % 2 for c in text) / max(1, len(text))


def examples(split: str, count: int) -> tuple[Example, ...]:
    return tuple(Example(f"{split}-{n}", {"word": f"{split} {n}"}) for n in range(count))


TASK = SingleRound(
    "odd",
    ("ann", "bob"),
    examples("train", 10),
    examples("test", 2),
    lambda example, agent: f"{agent}, {example.data['word']}!",
    odd,
    best_return=2.0,
)


class Hears(NullCallback):
    def __init__(self) -> None:
        self.told: list[str] = []

    def stage(self, name: str) -> None:
        self.told.append(name)


@pytest.fixture
def played() -> list[str]:
    """The splits that were evaluated, in order."""
    return []


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, played: list[str]) -> Callable[[Sequence[float]], None]:
    """Replaces what validation measures, from the given step on, one number after the other."""

    def set_up(returns: Sequence[float]) -> None:
        left = iter(returns)

        def evaluate(*given: Any, **more: Any) -> tuple[Evaluation, list[Any]]:
            split = given[4] if len(given) > 4 else "test"
            played.append(split)
            result, shown = evaluate_on(*given, **more)
            return (replace(result, return_percent=next(left)) if split == "validation" else result), shown

        monkeypatch.setattr(loop, "evaluate_on", evaluate)

    return set_up


def best_run(model: Path, **changes: Any) -> Experiment:
    settings: dict[str, Any] = {"evaluation": BEST, "records": SAVED, "steps": 4, "prompts": 1} | changes
    return tiny_run(model, CustomTask("in-memory:odd"), GroupRelative(width=2), **settings)


def saved_weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    learners, _ = load_checkpoint(folder / "checkpoints" / f"step-{step}")
    return {
        f"{name}/{key}": value for name, learner in learners.items() for key, value in learner["parameters"].items()
    }


def same_weights(team: dict[str, torch.Tensor], checkpoint: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, checkpoint[key]) for key, value in team.items() if key in checkpoint)


def test_the_team_is_the_best_on_validation_and_the_test_split_is_looked_at_twice(
    model_folder: Path, tmp_path: Path, script: Any, played: list[str]
) -> None:
    script([20.0, 70.0, 50.0, 60.0, 40.0])
    hears, folder = Hears(), tmp_path / "run"
    assert train_experiment(best_run(model_folder), folder, task=TASK, watch=hears)
    assert played == ["test", *["validation"] * 5, "test"]
    assert same_weights(weights(folder), saved_weights(folder, 1))
    assert same_weights(weights(folder, "team-last"), saved_weights(folder, 4))
    assert not same_weights(weights(folder), saved_weights(folder, 4))
    assert [step for step, _ in checkpoints(folder / "checkpoints")] == [1, 4]
    assert list(json.loads((folder / "evaluation.json").read_text())) == ["before", "after"]
    validation = json.loads((folder / "validation.json").read_text())
    assert {when: result["return_percent"] for when, result in validation.items()} == {
        "step-0": 20.0,
        "step-1": 70.0,
        "step-2": 50.0,
        "step-3": 60.0,
        "step-4": 40.0,
    }
    about = json.loads((folder / "run.json").read_text())
    assert (about["team_step"], about["last_step"], about["best"]["return_percent"]) == (1, 4, 70.0)
    assert any("best validation return 70.0 %, after step 1 of 4" in line for line in hears.told)
    assert any("the last 2 of 10 training examples serve" in line for line in hears.told)
    trained = {line["example"] for line in read_lines(folder / "episodes.jsonl") if "evaluation" not in line}
    chosen = {line["example"] for line in read_lines(folder / "episodes.jsonl") if "validation" in str(line)}
    assert {"train-8", "train-9"} <= chosen and not {"train-8", "train-9"} & trained


def test_a_run_cut_in_its_first_step_keeps_what_was_evaluated_before(
    model_folder: Path, tmp_path: Path, script: Any, played: list[str]
) -> None:
    """The first validation leaves a checkpoint of step 0; what is filed by then is neither lost nor made again."""
    run = best_run(model_folder, steps=1)
    script([20.0, 70.0] * 2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train_experiment(run, whole, task=TASK)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(run, cut, task=TASK, watch=StopsBefore(0))
    assert train_experiment(run, cut, task=TASK, resume=True)
    assert read_lines(cut / "episodes.jsonl") == read_lines(whole / "episodes.jsonl")
    assert numbers(cut) == numbers(whole) and played == ["test", "validation", "validation", "test"] * 2


def test_training_ends_early_when_validation_does_not_get_better(
    model_folder: Path, tmp_path: Path, script: Any, played: list[str]
) -> None:
    script([20.0, 30.0, 25.0, 30.0, 90.0])
    run = best_run(model_folder, evaluation=replace(BEST, patience=2), steps=9)
    hears, folder = Hears(), tmp_path / "run"
    assert train_experiment(run, folder, task=TASK, watch=hears)
    assert played == ["test", *["validation"] * 4, "test"] and len(numbers(folder)) == 3
    assert any("stopped early, 2 evaluations without a better one" in line for line in hears.told)
    assert same_weights(weights(folder), saved_weights(folder, 1))
    assert "after" in json.loads((folder / "evaluation.json").read_text())
    with loop.open_checked_task(run, TASK) as task:
        assert notices(folder, run, task) == [
            "note: this is the team after 1 of 9 steps, the best on validation of 3 made"
        ]


@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_that_was_cut_off_chooses_as_the_one_that_was_not(
    model_folder: Path, tmp_path: Path, script: Any, cut: int
) -> None:
    returns = [20.0, 70.0, 50.0, 60.0, 40.0]
    run, whole, torn = best_run(model_folder), tmp_path / "whole", tmp_path / "torn"
    script(returns)
    assert train_experiment(run, whole, task=TASK)
    script(returns)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train_experiment(run, torn, task=TASK, watch=StopsBefore(cut))
    newest = checkpoints(torn / "checkpoints")[-1][0]
    script(returns[newest + 1 :])
    assert train_experiment(run, torn, task=TASK, resume=True)
    for team in ("team", "team-last"):
        assert_equal(weights(torn, team), weights(whole, team))
    assert numbers(torn) == numbers(whole)
    assert (torn / "validation.json").read_text() == (whole / "validation.json").read_text()
    names = [[line.get("evaluation") for line in read_lines(f / "episodes.jsonl")] for f in (torn, whole)]
    assert names[0] == names[1]


def test_validation_cannot_be_turned_on_half_way(model_folder: Path, tmp_path: Path) -> None:
    plain = best_run(model_folder, evaluation=EvaluationConfig(examples=1, timed_examples=0), steps=1)
    assert train_experiment(plain, tmp_path / "run", task=TASK)
    with pytest.raises(ConfigError, match=r"evaluation.keep was 'last', not 'best'; .* start a new run"):
        train_experiment(replace(plain, evaluation=BEST), tmp_path / "run", task=TASK, resume=True)


def test_a_tenth_of_the_steps_lies_between_evaluations_where_nothing_is_said() -> None:
    assert [EvaluationConfig(keep="best").interval(steps) for steps in (4, 50, 105)] == [1, 5, 11]
    assert EvaluationConfig(keep="best", every=7).interval(50) == 7 and EvaluationConfig().interval(50) == 0
    with pytest.raises(ConfigError, match="patience: stopping early needs validation"):
        EvaluationConfig(patience=2)
