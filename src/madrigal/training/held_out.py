"""Evaluates a team on the held-out examples of an experiment, while it trains or loaded again from its run folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.evaluate import EvalSetup, Evaluation, evaluate, percent_of_best
from madrigal.policies.team import Team
from madrigal.recipes.trust import check_trust, of_its_task
from madrigal.rollouts.bill import billed
from madrigal.rollouts.play import Generate, Judge
from madrigal.rollouts.rewards import Fluency, rewarded
from madrigal.rollouts.task import Task
from madrigal.runs.provenance import read_about
from madrigal.runs.records import Record, transcript
from madrigal.training.checks import check_engines_of, check_prompts, open_checked_task
from madrigal.training.elsewhere import check_player
from madrigal.training.fingerprints import differences, fingerprints
from madrigal.training.teams import (
    check_saved,
    make_fluency,
    make_team,
    open_rollout_workers,
    reads_fluency,
    team_of_run,
    use_threads,
)
from madrigal.types import Example, Split


class Callback(Protocol):
    """Hears how a run goes; a progress view, say."""

    def stage(self, name: str) -> None: ...
    def step(self, record: Record) -> None: ...
    def evaluated(self, when: str, result: Evaluation) -> None: ...


class NullCallback:
    """A watcher that shows nothing."""

    def stage(self, name: str) -> None:
        pass

    def step(self, record: Record) -> None:
        pass

    def evaluated(self, when: str, result: Evaluation) -> None:
        pass


class Notes(NullCallback):
    """A watcher that prints on stderr what a reader of an evaluation must know, and nothing else."""

    def stage(self, name: str) -> None:
        if name.startswith("note: "):
            print(f"madrigal: {name}", file=sys.stderr)


def held_out(run: Experiment, task: Task[Any], split: Split = "test") -> Sequence[Example]:
    """The examples that an experiment evaluates."""
    return task.examples(split)[: run.evaluation.examples]


def evaluate_on(
    task: Task[Any],
    run: Experiment,
    speak: Generate,
    judge: Judge,
    split: Split = "test",
    fluency: Fluency | None = None,
    lanes: int = 1,
) -> tuple[Evaluation, list[Record]]:
    """Plays them; what was measured, and every transcript with its sample's number and its normalized return.

    Args:
        judge: the task's own steps; rewards are weighed here.
        split: whose examples; on the validation split nothing is timed.
        fluency: reads texts; where None is given and the settings ask for it, a model is loaded for this evaluation.
        lanes: see `rollouts.play.in_lanes`.
    """
    if fluency is None and reads_fluency(run):
        fluency = make_fluency(run)
    samples, examples = run.evaluation.samples, held_out(run, task, split)
    timed = run.evaluation.timed_examples if split == "test" else 0
    judge = rewarded(judge, task, run.topology, run.reward, fluency=fluency)
    setup = EvalSetup(task, run.topology, examples, speak, judge, run.seed, lanes)
    result, episodes = evaluate(setup, samples=samples, timed_examples=timed)
    return result, [
        {"sample": n % samples, "return_percent": percent_of_best(task, episode), **transcript(episode)}
        for n, episode in enumerate(episodes)
    ]


def evaluate_experiment(
    run: Experiment, watch: Callback | None = None, *, task: Task[Any] | None = None
) -> tuple[Evaluation, list[Record]]:
    """Evaluates the models that an experiment starts from, on its task or on a given one."""
    check_player(run, task)
    use_threads(run.threads)
    with open_checked_task(run, task) as checked:
        check_engines_of(run, checked)
        (watch or NullCallback()).stage("loading the team")
        team = make_team(run.team, checked.agents, run.seed, run.memory)
        return _evaluated(team, run, checked, watch or NullCallback())


def evaluate_run(
    folder: Path,
    watch: Callback | None = None,
    *,
    trust: bool = False,
    step: int | None = None,
    task: Task[Any] | None = None,
) -> tuple[Evaluation, list[Record]]:
    """Repeats the last evaluation of a run: from its saved team, or, where nothing was trained, from the base models.

    Args:
        watch: hears, too, what is no longer as it was when the run began.
        trust: let the run's file import own code, go without the sandbox, or send to an endpoint, expert or verifier.
        step: evaluate the checkpoint of this step instead of the saved team.
        task: the task itself, where no file names it.

    Raises:
        ConfigError: if the run has no saved team yet, or asks for what needs trust.
    """
    run = read_experiment(folder)
    if not trust:
        check_trust(run, folder, "play", of_its_task(run, task))
    if step is None:
        check_saved(folder, run)
    check_player(run, task)
    use_threads(run.threads)
    watch = watch or NullCallback()
    with open_checked_task(run, task) as checked:
        for notice in notices(folder, run, checked, step):
            watch.stage(notice)
        check_engines_of(run, checked)
        watch.stage("loading the team")
        return _evaluated(team_of_run(folder, run, checked.agents, step), run, checked, watch)


def _evaluated(team: Team, run: Experiment, task: Task[Any], watch: Callback) -> tuple[Evaluation, list[Record]]:
    check_prompts(run, task, team, held_out(run, task))
    with open_rollout_workers(run, task, team) as (speak, judge), billed(watch.stage) as counted:
        fluency = make_fluency(run, team) if reads_fluency(run) else None
        return evaluate_on(task, run, counted(speak), judge, fluency=fluency)


def notices(folder: Path, run: Experiment, task: Task[Any], step: int | None = None) -> list[str]:
    """What a reader of an evaluation must know: what has changed since training, and a team that is not the last."""
    about = read_about(folder)
    changed = differences(about.get("fingerprints", {}), fingerprints(run, task))
    notes = [f"note: {name} is not what the run was started with" for name in changed]
    made = about.get("team_step", run.steps)
    if step is None and made != run.steps:
        best = f", the best on validation of {about['last_step']} made" if "best" in about else ""
        notes.append(f"note: this is the team after {made} of {run.steps} steps{best}")
    return notes
