"""Madrigal from Python and notebooks: train, evaluate, and ask a trained team."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from madrigal.config import Experiment, absolute, read_experiment
from madrigal.evaluation.evaluate import Evaluation
from madrigal.policies.quiet import quiet_libraries
from madrigal.recipes import RECIPES
from madrigal.recipes.embedded import elsewhere, own
from madrigal.recipes.start import base_experiment, require_trust, run_name, with_changes
from madrigal.report.document import page_of
from madrigal.report.markup import element
from madrigal.report.progress import Progress
from madrigal.rollouts.task import Task
from madrigal.runs.folders import folder_to_resume, hold_run
from madrigal.runs.log import RunLog, read_lines
from madrigal.runs.read import read_runs
from madrigal.runs.trackers import check_trackers
from madrigal.runs.variants import flags
from madrigal.runs.whole import found
from madrigal.tasks.data import Source
from madrigal.tasks.elsewhere import Elsewhere, ElsewhereTask, Rollout
from madrigal.tasks.own import IN_MEMORY, guarded
from madrigal.training.checks import open_checked_task
from madrigal.training.elsewhere import Losses, check_player, played_elsewhere
from madrigal.training.held_out import Callback, Notes, NullCallback, evaluate_experiment, evaluate_run
from madrigal.training.train import training_loop
from madrigal.training.trained_team import Answer, TrainedTeam, load_team
from madrigal.types import ConfigError, Example

RUNS = Path("runs")
Start = str | Path | Experiment | Task[Any]
Examples = str | Path | Source | Sequence[Any] | Mapping[str, Sequence[Any]]
Watch = Callback | Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to.

    Attributes:
        folder: where everything lies.
        finished: False where it was stopped early (Ctrl-C, or an interrupted cell); `resume=True` goes on then.
        task: the task it trained on, where no file names it.
    """

    folder: Path
    finished: bool
    task: Task[Any] | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was stopped before its last step."""
        return not self.finished

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """Held-out results by name: "before", "warm", "step-N", "after"."""
        return {when: Evaluation(**result) for when, result in RunLog(self.folder).evaluations().items()}

    @property
    def validations(self) -> dict[str, Evaluation]:
        """Results on the validation split by name, "step-N", where the best weights were kept."""
        return {when: Evaluation(**result) for when, result in RunLog(self.folder).validations().items()}

    @property
    def curve(self) -> list[dict[str, Any]]:
        """One record per training step, as in steps.jsonl."""
        return read_lines(self.folder / "steps.jsonl")

    def _repr_html_(self) -> str:
        """The report of the run, inline in a notebook: in a frame that may do nothing but run its own script."""
        page = page_of(read_runs([self.folder])).encode("utf-8", "replace").decode()
        style = "width: 100%; height: 48rem; border: 0"
        return str(element("iframe", {"sandbox": "allow-scripts", "srcdoc": page, "style": style}))

    @cached_property
    def team(self) -> TrainedTeam:
        """The trained team, loaded when it is first asked for."""
        return load_team(self.folder, task=self.task, trust=True)


def train(
    what: Start,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    watch: Watch | None = None,
    trust: bool = False,
    **settings: Any,
) -> TrainingResult:
    """Trains a team.

        >>> result = train("tldr", steps=2, evaluation={"examples": 4})  # doctest: +SKIP
        >>> result.team.answer("My dog ate my homework.").answers["concise"]  # doctest: +SKIP

    Args:
        what: a recipe, "file.py:task", an environment ("textarena:SimpleTak-v0"), a run folder or experiment.json, an
            Experiment, or a Task, also one that a notebook defines.
        folder: the run folder, made where there is none; by default the next free `runs/NAME`.
        resume: go on with the run in the folder, by default the newest of that name, with the settings that it has.
        overwrite: replace the run in the folder.
        quiet: show results and warnings only.
        watch: a function that is called with the record of every step, or a `Callback`, which is told of stages and
            evaluations too.
        trust: allow what a file asks for: own code, no sandbox, an expert, a tracker.
        settings: those of the command line, dotted or nested, or a section as its record: steps=2,
            evaluation={"examples": 4}, topology="sequential", sampling=Sampling(temperature=0.8).

    Raises:
        MadrigalError: one line, as from the command line.
    """
    quiet_libraries()
    task, named, resumed = _task_in(what), None if folder is None else Path(folder), None
    if resume:
        given = Path(what) if isinstance(what, str | Path) and Path(what).is_dir() else None
        resumed = folder_to_resume(RUNS, _name_of(what), named or given)
    run = with_changes(read_experiment(resumed) if resumed else _experiment_of(what), settings)
    if not trust:
        _check_trust(what, run, settings, resumed)
    check_trackers(run.records.trackers)
    check_player(run, task)
    hold = hold_run(RUNS, run.recipe, resumed or named, resume=resume, overwrite=overwrite)
    with open_checked_task(run, task) as checked, hold as held:
        with Progress(Console(), run.steps, held.folder.name, best=checked.best_return, quiet=quiet) as progress:
            signum = training_loop(checked, run, held, watch=progress if watch is None else _Watchers(progress, watch))
        return TrainingResult(held.folder, not signum, task)


def train_rollouts(
    rollout: Rollout,
    examples: Examples,
    folder: str | Path | None = None,
    *,
    agents: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    watch: Watch | None = None,
    trust: bool = False,
    name: str = "rollouts",
    task: Mapping[str, Any] = MappingProxyType({}),
    **settings: Any,
) -> TrainingResult:
    """Trains a team that lives elsewhere: a program that asks agents whatever it likes, and says what it was worth.

        >>> def rollout(example, client):
        ...     plan = client.chat("planner", example.data["question"])
        ...     answer = client.chat("writer", [{"role": "user", "content": plan}])
        ...     return float(example.data["answer"] in answer)
        >>> rows = [{"question": "Say yes.", "answer": "yes"}, {"question": "Say no.", "answer": "no"}]
        >>> train_rollouts(rollout, rows, agents=("planner", "writer"), steps=2)  # doctest: +SKIP

    Every example of a step is played `algorithm.width` times at once, each session in a thread of its own; what
    sessions ask is answered together. See docs/gateway.md.

    Args:
        rollout: plays one session of an example and returns its reward: a number, with rewards "own" a mapping with one
            for each agent, or a pair of it and a mapping of numbers to log. It may be a coroutine function. `client`
            asks agents by `client.chat(agent, messages)`, or is a session for any client of OpenAI's by
            `client.base_url` and `client.api_key`, with an agent's name as model.
        examples: a file or hub name, rows in memory, rows by split, or a `Source`.
        agents: the seats.
        name: of the run folder, where none is given.
        task: more of `madrigal.tasks.elsewhere.Elsewhere`: rewards, best_return, seconds, lost, gather, unclaimed.
        resume, overwrite, quiet, watch, trust, settings: as in `train`.

    Raises:
        MadrigalError: one line.
    """
    quiet_libraries()
    place = None if folder is None else Path(folder)
    resumed = folder_to_resume(RUNS, name, place) if resume else None
    run = with_changes(_elsewhere(resumed, name, examples, agents, task), settings)
    if resumed and not trust:
        _check_trust("", run, settings, resumed)
    check_trackers(run.records.trackers)
    hold = hold_run(RUNS, run.recipe, resumed or place, resume=resume, overwrite=overwrite)
    losses = Losses()
    played = played_elsewhere(run, rollout, losses, partial(_served, run))
    with played as given, open_checked_task(run, given) as checked, hold as held:
        with Progress(Console(), run.steps, held.folder.name, best=checked.best_return, quiet=quiet) as progress:
            losses.folder, losses.tell = held.folder, progress.stage
            signum = training_loop(checked, run, held, watch=progress if watch is None else _Watchers(progress, watch))
        return TrainingResult(held.folder, not signum)


def evaluate_rollouts(
    rollout: Rollout,
    run: str | Path,
    examples: Examples | None = None,
    *,
    step: int | None = None,
    trust: bool = False,
) -> Evaluation:
    """Evaluates the saved team of a run of `train_rollouts` by the same or another program.

    Args:
        examples: those of the run, where they lay in memory.
        step: evaluate the checkpoint of this step.
        trust: allow what the run's file asks for: an endpoint or a function in a seat.

    Raises:
        MadrigalError: one line.
    """
    quiet_libraries()
    settings = read_experiment(Path(run))
    if not isinstance(settings.task, Elsewhere):
        raise ConfigError(
            f"{run}: expected a run of madrigal.train_rollouts or madrigal gateway; madrigal.evaluate has others"
        )
    if examples is not None:
        _source(examples)
    with played_elsewhere(settings, rollout, Losses(), partial(_served, settings)) as played:
        return evaluate_run(Path(run), Notes(), trust=trust, step=step, task=played)[0]


def _served(run: Experiment, task: ElsewhereTask) -> AbstractContextManager[str]:
    """A server for programs that ask by HTTP, on a free port of this machine."""
    try:
        from madrigal.serving.gateway import gateway_app
        from madrigal.serving.web import serving
    except ImportError as error:
        raise ConfigError(f"base_url: {error.name} is not installed; install madrigal[serve]") from error
    return serving(gateway_app(task, run.sampling))


def _elsewhere(
    resumed: Path | None, name: str, examples: Examples, agents: Sequence[str], task: Mapping[str, Any]
) -> Experiment:
    """The experiment of a team that a program plays, or the one that is gone on with, of the same examples."""
    source = _source(examples)
    if resumed is None:
        if isinstance(agents, str) or not agents:
            raise ConfigError(f"agents: expected the names of the seats, ('planner', 'writer') say, got {agents!r}")
        known = [each.name for each in fields(Elsewhere) if each.name not in ("agents", "source")]
        if strange := sorted(set(task) - set(known)):
            raise ConfigError(f"task: expected some of {', '.join(known)}, got {', '.join(strange)}")
        return elsewhere(name, Elsewhere(agents=tuple(agents), source=source, **task))
    run = read_experiment(resumed)
    if not isinstance(run.task, Elsewhere):
        raise ConfigError(f"{resumed}: expected a run of a team that a program plays; go on with it by madrigal train")
    if replace(run.task.source, data=absolute(run.task.source.data)) != replace(source, data=absolute(source.data)):
        raise ConfigError(f"{resumed}: expected the examples of this run, {run.task.source.data}, got {source.data}")
    return run


def _source(examples: Examples) -> Source:
    """Where examples come from."""
    if isinstance(examples, Source):
        return examples
    if isinstance(examples, str | Path):
        return Source(str(examples))
    if isinstance(examples, Mapping):
        validation = "validation" if "validation" in examples else ""
        return Source.of({split: _rows(rows) for split, rows in examples.items()}, validation=validation)
    return Source.of(_rows(examples))


def _rows(examples: Iterable[Any]) -> Any:
    if not isinstance(examples, Sequence):  # a datasets.Dataset, say
        return examples
    return [{"id": one.id, **one.data} if isinstance(one, Example) else one for one in examples]


def evaluate(
    what: Start,
    *,
    task: Task[Any] | Mapping[str, Any] | None = None,
    step: int | None = None,
    trust: bool = False,
    **settings: Any,
) -> Evaluation:
    """Evaluates a run's saved team, or the models that a recipe, an experiment or a task starts from.

    Args:
        what: a run folder; or what `train` takes.
        task: the task of a run that trained on a Task of a notebook; or settings of a recipe's task.
        step: of a run, evaluate the checkpoint of this step.
        trust: allow what a file asks for: own code, no sandbox, an expert.
        settings: as in `train`; a run has its own.

    Raises:
        MadrigalError: one line, as from the command line.
    """
    quiet_libraries()
    if isinstance(task, Mapping):
        settings, task = {**settings, "task": task}, None
    if isinstance(what, str | Path) and str(what) not in RECIPES and (folder := found(what)).is_dir():
        if settings:
            raise ConfigError(f"evaluate: a run has its own settings and takes no others, got {', '.join(settings)}")
        given = None if task is None else guarded(task, "task")
        return evaluate_run(folder, Notes(), trust=trust, step=step, task=given)[0]
    if step is not None:
        raise ConfigError(f"evaluate: step names a checkpoint of a run, {what!r:.80} is none")
    run = with_changes(_experiment_of(what), settings)
    if not trust:
        _check_trust(what, run, settings, None)
    return evaluate_experiment(run, task=_task_in(what) if task is None else guarded(task, "task"))[0]


def _task_in(what: Start) -> Task[Any] | None:
    """The task itself, where no file names it."""
    return None if isinstance(what, str | Path | Experiment) else guarded(what, "expected a recipe, a file or a task")


def _experiment_of(what: Start) -> Experiment:
    if isinstance(what, Experiment):
        return what
    if isinstance(what, str | Path):
        return base_experiment(str(what))
    return replace(own(f"{IN_MEMORY}:{what.name}"), recipe=_name_of(what))


def _name_of(what: Start) -> str:
    """How the run folders of an experiment are called."""
    if isinstance(what, Experiment):
        return what.recipe
    if isinstance(what, str | Path):
        return run_name(str(what))
    return re.sub(r"[^\w.-]+", "-", what.name).strip(".") or "task"


def _check_trust(what: Start, run: Experiment, settings: Mapping[str, Any], place: Path | None) -> None:
    """Refuses what a file asks for beyond training; what Python made or said was not asked for by a file."""
    if place is None and not isinstance(what, str | Path):
        return
    name = str(what) if isinstance(what, str | Path) else ""
    typed = flags(settings)
    if isinstance(what, Experiment) and run.task == what.task:
        typed += [
            "--task.path",
            "--task.environment",
            "--task.observe",
            "--task.unconfined",
            "--task.expert.base-url",
            "--task.verifier.url",
        ]
        if run.team == what.team:
            outside = [f"--{setting.replace('_', '-')}" for setting in run.team.outside]
            typed += [
                "--team.policy.engine.url",
                *(f"{flag}.{kind}" for flag in outside for kind in ("remote.url", "script")),
            ]
        if run.tools == what.tools:
            typed += ["--tools.path", "--tools.mcp"]
    require_trust(run, name, typed, place or name)


class _Watchers:
    """Progress on the screen, and a user's own watcher, or function of each step's record."""

    def __init__(self, progress: Callback, watch: Watch) -> None:
        self.watchers: tuple[Callback, Callback] = (progress, _EachStep(watch) if callable(watch) else watch)

    def stage(self, name: str) -> None:
        for watcher in self.watchers:
            watcher.stage(name)

    def step(self, record: dict[str, Any]) -> None:
        for watcher in self.watchers:
            watcher.step(record)

    def evaluated(self, when: str, result: Evaluation) -> None:
        for watcher in self.watchers:
            watcher.evaluated(when, result)


class _EachStep(NullCallback):
    """A function as a watcher."""

    def __init__(self, function: Callable[[Mapping[str, Any]], object]) -> None:
        self.function = function

    def step(self, record: dict[str, Any]) -> None:
        self.function(record)


__all__ = [
    "Answer",
    "TrainedTeam",
    "TrainingResult",
    "evaluate",
    "evaluate_rollouts",
    "load_team",
    "train",
    "train_rollouts",
]
