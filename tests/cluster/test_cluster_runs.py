"""Whole tiny runs whose workers and learners live elsewhere: the same numbers, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.hosts import TASK, InProcess, in_process, losing
from fakes.runs import assert_equal, numbers, tiny_run, trained, weights
from madrigal.algorithms.actor_critic import MAPPO
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment
from madrigal.learning.learner import Learner
from madrigal.policies.local import LocalPolicy
from madrigal.runs.log import read_lines
from madrigal.settings import ClusterConfig, Lora, OptimizerConfig, RecordsConfig, Sampling, WarmConfig
from madrigal.training.train import train_experiment
from madrigal.types import Completion, EngineError, Sample, TrainingError, Turn

ALGORITHM = GroupRelative(width=3, kl=0.01)
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def plain(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Three steps on an own task, in one process."""
    home = tmp_path_factory.mktemp("odd")
    (home / "odd.py").write_text(TASK)
    return tiny_run(
        model_folder, f"{home}/odd.py:task", ALGORITHM, steps=3, prompts=4, records=RecordsConfig(transcripts=99)
    )


@pytest.fixture(scope="module")
def alone(plain: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(plain, tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Trains on a host in this process."""

    def train(run: Experiment, host: InProcess, workers: int = 1, **settings: Any) -> Path:
        with in_process(monkeypatch, host):
            cluster = ClusterConfig("local", workers, **settings)
            return trained(replace(run, cluster=cluster), tmp_path / f"run{len(list(tmp_path.iterdir()))}")

    return train


def said(folder: Path) -> list[Any]:
    """Who said what to what, in every episode of training."""
    return [
        (line["step"], line["example"], [(turn["agent"], turn["text"]) for turn in line["turns"]])
        for line in read_lines(folder / "episodes.jsonl")
        if "evaluation" not in line
    ]


def test_one_worker_makes_the_very_numbers_of_one_process(plain: Experiment, alone: Path, spread: Run) -> None:
    host = InProcess()
    other = spread(plain, host)
    assert numbers(other) == numbers(alone)
    assert_equal(weights(other), weights(alone))
    assert sorted(host.started) == ["ann", "bob", "rollout worker 1"]


@pytest.mark.parametrize(("workers", "lanes"), [(2, 1), (4, 1), (1, 2)])
def test_several_workers_and_lanes_play_the_same_and_learn_the_same_to_rounding(
    plain: Experiment, alone: Path, spread: Run, workers: int, lanes: int
) -> None:
    other = spread(plain, InProcess(), workers, lanes=lanes)
    assert said(other) == said(alone)
    for one, two in zip(numbers(other), numbers(alone), strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("method", ["answer", "judge", "after answer"])
def test_a_worker_lost_in_any_call_changes_nothing(plain: Experiment, alone: Path, spread: Run, method: str) -> None:
    host = InProcess(losing(4, "rollout worker 1", method, every=2))
    other = spread(plain, host)
    assert host.started.count("rollout worker 1") == 5
    assert numbers(other) == numbers(alone)
    assert_equal(weights(other), weights(alone))


@pytest.mark.parametrize(("method", "every"), [("update", 2), ("after update", 2), ("weights", 2), ("state", 1)])
def test_a_learner_lost_in_any_call_repeats_its_updates_to_the_same_weights(
    plain: Experiment, alone: Path, spread: Run, method: str, every: int
) -> None:
    host = InProcess(losing(1, "ann", method, every=every))
    other = spread(plain, host)
    assert host.started.count("ann") == 2
    assert numbers(other) == numbers(alone)
    assert_equal(weights(other), weights(alone))


def test_what_is_lost_again_and_again_ends_the_run_in_one_line(
    plain: Experiment, spread: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half a minute, in which Ray misses a machine that is gone."""
    slept: list[float] = []
    monkeypatch.setattr("madrigal.cluster.host.time.sleep", slept.append)
    with pytest.raises(EngineError, match="rollout worker 1 was lost 6 times in one call"):
        spread(plain, InProcess(losing(99, "rollout worker 1", "answer")))
    assert slept[-6:-4] == [0, 0] and sum(slept[-6:]) >= 30
    with pytest.raises(EngineError, match="the learner of ann was lost 6 times in one call"):
        spread(plain, InProcess(losing(99, "ann", "update")))


def test_adapters_on_one_model_and_a_warm_start(plain: Experiment, spread: Run, tmp_path: Path) -> None:
    policy = replace(plain.team.policy, lora=Lora(rank=2))
    run = replace(plain, team=replace(plain.team, policy=policy), warm=WarmConfig(examples=3, samples=2, epochs=1))
    alone = trained(run, tmp_path / "alone")
    other = spread(run, InProcess(losing(1, "bob", "update", every=3)))
    assert numbers(other) == numbers(alone)
    assert_equal(weights(other), weights(alone))


def test_critics_learn_elsewhere_too(plain: Experiment, spread: Run, tmp_path: Path) -> None:
    run = replace(plain, algorithm=MAPPO)
    alone = trained(run, tmp_path / "alone")
    host = InProcess(losing(1, "critic-joint", "update", every=2))
    other = spread(run, host)
    assert host.started.count("critic-joint") == 2
    assert numbers(other) == numbers(alone)
    assert_equal(weights(other), weights(alone))


def test_play_ahead_uses_the_weights_of_the_step_before_and_logs_their_age(plain: Experiment, spread: Run) -> None:
    run = replace(plain, algorithm=replace(ALGORITHM, clip=0.2), steps=4)
    records = numbers(spread(run, InProcess(), staleness=1))
    assert [record["update/ann/age"] for record in records] == [0, 1, 1, 1]
    assert [record["update/bob/age_max"] for record in records] == [0, 1, 1, 1]
    again = numbers(spread(run, InProcess(losing(1, "rollout worker 1", "answer", every=4)), staleness=1))
    assert again == records  # whoever is faster, and whatever is lost


def test_the_first_steps_of_play_ahead_are_those_without(plain: Experiment, alone: Path, spread: Run) -> None:
    run = replace(plain, algorithm=replace(ALGORITHM, clip=0.2))
    ahead, exact = spread(run, InProcess(), staleness=2), spread(run, InProcess())
    first = {key: value for key, value in numbers(ahead)[0].items() if "/age" not in key}
    assert first == numbers(exact)[0]
    assert [record["update/ann/age"] for record in numbers(ahead)] == [0, 1, 2]


def test_older_weights_than_play_may_be_ahead_are_refused(policy: LocalPolicy) -> None:
    learner = Learner(policy, OptimizerConfig(lr=1e-3), Sampling(), clip=0.2, staleness=1)
    learner.policy.version = 7
    turn = Turn("ann", (), Completion("a", (1,), (2,), (-1.0,), version=7))

    def learn() -> float:
        return learner.update([[Sample(turn, 1.0, 1.0)]], ALGORITHM.loss)["age"]

    assert (learn(), learn()) == (0, 1)
    with pytest.raises(TrainingError, match="with version 7 of the weights, the learner holds version 9; at most 1"):
        learn()


def test_a_run_that_stops_while_it_plays_ahead_is_saved_and_goes_on(
    plain: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = replace(plain, algorithm=replace(ALGORITHM, clip=0.2), steps=4, cluster=ClusterConfig("local", staleness=1))
    folder, record = tmp_path / "run", tmp_path / "run" / "steps.jsonl"
    with in_process(monkeypatch, InProcess()):
        assert not train_experiment(run, folder, stop=lambda: int(record.exists() and len(read_lines(record)) > 1))
        assert [path.name for path in sorted((folder / "checkpoints").iterdir())][-1] == "step-2"
        assert train_experiment(run, folder, resume=True)
    assert [row["update/ann/age"] for row in numbers(folder)] == [0, 1, 0, 1]  # resumed play begins with fresh weights
