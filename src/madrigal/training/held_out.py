"""A team on the held-out examples of an experiment: while it trains, or loaded again from its run folder.

Knows: which examples an experiment evaluates and how often. Does not know: training, baselines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from madrigal.build.experiment import check_prompts, load_team, make_team, prepare, voices
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.evaluate import Evaluation, evaluate, percent_of_best
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.rollouts.play import Judger, Speaker
from madrigal.rollouts.task import Task
from madrigal.runs.checkpoint import checkpoints, load_checkpoint, newest_checkpoint
from madrigal.runs.provenance import read_about
from madrigal.runs.records import Record, transcript
from madrigal.tasks.trust import check_trust, trusting
from madrigal.training.fingerprints import differences, fingerprints
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


def evaluate_experiment(run: Experiment, watch: Watcher | None = None) -> tuple[Evaluation, list[Record]]:
    """Evaluates the models that an experiment starts from."""
    use_threads(run.threads)
    with prepare(run) as task:
        (watch or Silent()).stage("loading the team")
        return _evaluated(make_team(run.team, task.agents, run.seed), run, task)


def evaluate_run(
    folder: Path, watch: Watcher | None = None, *, trust: bool = False, step: int | None = None
) -> tuple[Evaluation, list[Record]]:
    """Repeats the last evaluation of a run: from its saved team, or, where nothing was trained, from the base models.

    Args:
        watch: is told, too, what is no longer as it was when the run began.
        trust: let the run's file import an own task, go without the sandbox, or send to an expert or verifier.
        step: evaluate the checkpoint of this step instead of the saved team.

    Raises:
        ConfigError: if the run has no saved team yet, or asks for what needs trust.
    """
    run = read_experiment(folder)
    if not trust:
        check_trust(run.task, folder)
    if step is None:
        check_saved(folder, run)
    use_threads(run.threads)
    watch = watch or Silent()
    with prepare(run) as task:
        for notice in notices(folder, run, task, step):
            watch.stage(notice)
        watch.stage("loading the team")
        agents = task.agents
        team = team_of(folder, run, agents) if step is None else team_at(folder, run, agents, step)
        return _evaluated(team, run, task)


def _evaluated(team: Team, run: Experiment, task: Task[Any]) -> tuple[Evaluation, list[Record]]:
    check_prompts(run, task, team, held_out(run, task))
    with voices(run, task, team) as (speak, judge):
        return evaluate_on(task, run, speak, judge)


def notices(folder: Path, run: Experiment, task: Task[Any], step: int | None = None) -> list[str]:
    """What a reader of an evaluation must know: what has changed since training, and a team that is not the last."""
    about = read_about(folder)
    changed = differences(about.get("fingerprints", {}), fingerprints(run, task))
    told = [f"note: {name} is not what the run was started with" for name in changed]
    made = about.get("team_step", run.steps)
    if step is None and made != run.steps:
        told.append(f"note: this is the team after {made} of {run.steps} steps")
    return told


def team_at(folder: Path, run: Experiment, agents: tuple[AgentId, ...], step: int | None = None) -> Team:
    """The team of a checkpoint of a run, the newest by default.

    Raises:
        ConfigError: if there is no such checkpoint, or it is damaged or of other policies.
    """
    there = dict(checkpoints(folder / "checkpoints"))
    if not there or (step is not None and step not in there):
        known = f"; there is {', '.join(f'step {number}' for number in there)}" if there else ""
        raise ConfigError(f"run {folder}: there is no checkpoint{'' if step is None else f' of step {step}'}{known}")
    learners, _ = load_checkpoint(there[max(there) if step is None else step])
    team = make_team(run.team, agents, run.seed)
    for policy in team.trainable:
        _put(policy, learners.get(policy.name, {}).get("parameters", {}), folder)
    return team


@torch.no_grad()
def _put(policy: LocalPolicy, saved: Mapping[str, Tensor], folder: Path) -> None:
    own = policy.parameters()
    if {name: one.shape for name, one in saved.items()} != {name: one.shape for name, one in own.items()}:
        raise ConfigError(f"run {folder}: the checkpoint does not hold the weights of {policy.name}")
    for name, parameter in own.items():
        parameter.copy_(saved[name])


def check_saved(folder: Path, run: Experiment, otherwise: str = "") -> None:
    """Refuses a run that has trained a team but not saved it yet.

    Args:
        otherwise: what else the user can do, after the words "finish it with: ...".

    Raises:
        ConfigError: saying how to finish it.
    """
    if run.steps and not (folder / "team").is_dir():
        again = trusting(f"madrigal train {folder} --resume", run.task, run.records.trackers)
        if newest_checkpoint(folder / "checkpoints"):
            otherwise = f", or make one of the newest checkpoint: madrigal export {folder}{otherwise}"
        raise ConfigError(f"run {folder}: there is no saved team yet; finish it with: {again}{otherwise}")


def team_of(folder: Path, run: Experiment, agents: tuple[AgentId, ...]) -> Team:
    """A run's saved team, or, where nothing was trained, the base models."""
    return load_team(folder / "team", run.team, agents) if run.steps else make_team(run.team, agents, run.seed)


def use_threads(count: int) -> None:
    """Sets torch's threads on the CPU; 0 leaves them."""
    if count:
        torch.set_num_threads(count)
