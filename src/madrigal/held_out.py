"""A team on the held-out examples of an experiment: while it trains, or loaded again from its run folder.

Knows: which examples an experiment evaluates and how often. Does not know: training, baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from madrigal.assemble import check_prompts, load_team, make_team, prepare, voices
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.evaluate import Evaluation, evaluate, percent_of_best
from madrigal.measure import Record, transcript
from madrigal.rollout import Judger, Speaker
from madrigal.task import Task
from madrigal.tasks.trust import check_trust, trusting
from madrigal.team import Team
from madrigal.types import AgentId, ConfigError, Example


class Watcher(Protocol):
    """Is told how a run goes; a progress view, say."""

    def stage(self, name: str) -> None: ...
    def step(self, record: Record) -> None: ...
    def evaluated(self, when: str, result: Evaluation) -> None: ...


class Silent:
    """A watcher that shows nothing."""

    def stage(self, name: str) -> None:
        pass

    def step(self, record: Record) -> None:
        pass

    def evaluated(self, when: str, result: Evaluation) -> None:
        pass


def held_out(run: Experiment, task: Task[Any]) -> Sequence[Example]:
    """The examples that an experiment evaluates."""
    return task.examples("test")[: run.evaluation.examples]


def evaluate_on(task: Task[Any], run: Experiment, speak: Speaker, judge: Judger) -> tuple[Evaluation, list[Record]]:
    """Plays them; what was measured, and every transcript with its sample's number and its normalised return."""
    asked = run.evaluation
    result, episodes = evaluate(
        task, run.topology, held_out(run, task), speak, judge, samples=asked.samples, timed=asked.timed, seed=run.seed
    )
    return result, [
        {"sample": n % asked.samples, "return_percent": percent_of_best(task, episode), **transcript(episode)}
        for n, episode in enumerate(episodes)
    ]


def evaluate_run(folder: Path, watch: Watcher | None = None, *, trust: bool = False) -> tuple[Evaluation, list[Record]]:
    """Repeats the last evaluation of a run: from its saved team, or, where nothing was trained, from the base models.

    Args:
        trust: let the run's file import an own task, go without the sandbox, or send to an expert or verifier.

    Raises:
        ConfigError: if the run has no saved team yet, or asks for what needs trust.
    """
    run = read_experiment(folder)
    if not trust:
        check_trust(run.task, folder)
    check_saved(folder, run)
    use_threads(run.threads)
    with prepare(run) as task:
        (watch or Silent()).stage("loading the team")
        team = team_of(folder, run, task.agents)
        check_prompts(run, task, team, held_out(run, task))
        with voices(run, task, team) as (speak, judge):
            return evaluate_on(task, run, speak, judge)


def check_saved(folder: Path, run: Experiment, otherwise: str = "") -> None:
    """Refuses a run that has trained a team but not saved it yet.

    Args:
        otherwise: what else the user can do, after the words "finish it with: ...".

    Raises:
        ConfigError: saying how to finish it.
    """
    if run.steps and not (folder / "team").is_dir():
        again = trusting(f"madrigal train {folder} --resume", run.task, run.records.trackers)
        raise ConfigError(f"run {folder}: there is no saved team yet; finish it with: {again}{otherwise}")


def team_of(folder: Path, run: Experiment, agents: tuple[AgentId, ...]) -> Team:
    """A run's saved team, or, where nothing was trained, the base models."""
    return load_team(folder / "team", run.team, agents) if run.steps else make_team(run.team, agents, run.seed)


def use_threads(count: int) -> None:
    """Sets torch's threads on the CPU; 0 leaves them."""
    if count:
        torch.set_num_threads(count)
