"""Whole runs whose answers come from an engine with copies of the weights; what is wrong with one ends them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.engines import SERVER, Copies, opening
from fakes.runs import assert_equal, numbers, tiny_run, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment
from madrigal.policies.engines import asking
from madrigal.rollouts.task import SingleRound
from madrigal.runs.log import read_lines
from madrigal.settings import EngineConfig, EvaluationConfig, Lora, OptimizerConfig, PolicyConfig, TeamConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.train import train_experiment
from madrigal.types import EngineError, Example, MadrigalError

TASK = SingleRound(
    "odd",
    ("ann", "bob"),
    [Example(f"train-{n}", {"word": "ab"[n % 2] * (n + 1)}) for n in range(5)],
    [Example(f"test-{n}", {"word": "c" * (n + 1)}) for n in range(2)],
    lambda example, agent: f"{agent}, {example.data['word']}!",
    lambda example, said: sum(ord(c) % 2 for c in "".join(said.values())) / max(1, len("".join(said.values()))),
)


def experiment(folder: Path, lora: int = 0) -> Experiment:
    policy = PolicyConfig(model=str(folder), lora=Lora(rank=lora), engine=SERVER)
    return tiny_run(
        folder,
        CustomTask("memory:odd"),
        GroupRelative(width=4, kl=0.01),
        team=TeamConfig(policy=policy, device="cpu"),
        optimizer=OptimizerConfig(lr=3e-3),
        evaluation=EvaluationConfig(examples=2, every=2, timed_examples=1),
        steps=4,
    )


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the server is there."""
    monkeypatch.setattr("madrigal.training.checks.check_engines", lambda *_: None)


def train(
    run: Experiment, folder: Path, engine: Copies, monkeypatch: pytest.MonkeyPatch, *, resume: bool = False
) -> None:
    monkeypatch.setattr("madrigal.training.teams.open_engines", opening(engine))
    train_experiment(run, folder, task=TASK, resume=resume)


@pytest.mark.parametrize("lora", [0, 4], ids=["whole", "adapters"])
def test_a_run_by_copies_is_the_run_without_them(
    model_folder: Path, tmp_path: Path, lora: int, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number, transcript and weight; and versions say how often weights were handed over: once a step."""
    run, engine = experiment(model_folder, lora), Copies()
    local = replace(run, team=replace(run.team, policy=replace(run.team.policy, engine=EngineConfig())))
    train_experiment(local, tmp_path / "local", task=TASK)
    train(run, tmp_path / "copies", engine, monkeypatch)
    assert numbers(tmp_path / "copies") == numbers(tmp_path / "local")
    assert read_lines(tmp_path / "copies" / "episodes.jsonl") == read_lines(tmp_path / "local" / "episodes.jsonl")
    assert_equal(weights(tmp_path / "copies"), weights(tmp_path / "local"))
    assert engine.loads == {"ann": run.steps + 1, "bob": run.steps + 1}


@pytest.mark.parametrize("fault", ["stale", "stale and says so", "swapped", "temperature", "tokenizer", "truncated"])
@pytest.mark.parametrize("guard", ["first answers", "learner"])
def test_a_planted_fault_ends_the_run_within_one_step(
    model_folder: Path, tmp_path: Path, fault: str, guard: str, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the hand-over after the second step on: found in the first answers, and, did nobody look, by the learner."""
    if guard == "learner":
        monkeypatch.setattr(asking, "prove", lambda *_: None)
        monkeypatch.setattr(asking, "check_answer", lambda *_: None)
    run = replace(experiment(model_folder), evaluation=EvaluationConfig(1, timed_examples=0))
    with pytest.raises(MadrigalError, match=r"policy (ann|bob): .*the server at http://127.0.0.1:9.*version") as found:
        train(run, tmp_path / "run", Copies(fault, since=2), monkeypatch)
    assert len(read_lines(tmp_path / "run" / "steps.jsonl")) == 2
    assert "\n" not in str(found.value) and ("answer of" in str(found.value)) == (guard == "learner")


def test_a_run_goes_on_by_another_engine(
    model_folder: Path, tmp_path: Path, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server has another port on the next day; weights of a new process are handed over anew."""
    run = experiment(model_folder)
    train(replace(run, steps=2), tmp_path / "run", Copies(), monkeypatch)
    policy = replace(run.team.policy, engine=replace(SERVER, url="http://127.0.0.1:8"))
    other = Copies()
    train(replace(run, team=replace(run.team, policy=policy)), tmp_path / "run", other, monkeypatch, resume=True)
    assert len(read_lines(tmp_path / "run" / "steps.jsonl")) == 4 and other.loads == {"ann": 3, "bob": 3}


def test_an_engine_that_does_not_start_leaves_no_run_behind(
    model_folder: Path, tmp_path: Path, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def refuse(*_: object) -> Iterator[None]:
        raise EngineError("it does not start")
        yield

    monkeypatch.setattr("madrigal.training.teams.open_engines", refuse)
    with pytest.raises(EngineError, match="it does not start"):
        train_experiment(experiment(model_folder), tmp_path / "run", task=TASK)
    assert not (tmp_path / "run" / "experiment.json").exists()
    train(replace(experiment(model_folder), steps=1), tmp_path / "run", Copies(), monkeypatch)


def test_older_weights_that_come_back_are_handed_over_as_new_ones(
    model_folder: Path, tmp_path: Path, there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights of validation are older than the last ones, and it is they that are evaluated in the end."""
    run, engine = experiment(model_folder), Copies()
    run = replace(run, evaluation=EvaluationConfig(2, every=1, timed_examples=0, keep="best"))
    train(run, tmp_path / "run", engine, monkeypatch)
    assert engine.held["ann"].version == max(engine.versions.values()) >= run.steps
