"""Madrigal from Python and notebooks: train, evaluate, and ask a trained team."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from madrigal.build.experiment import open_checked_task
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.evaluate import Evaluation
from madrigal.policies.team import Team
from madrigal.recipes import RECIPES, recipe
from madrigal.recipes.embedded import own
from madrigal.recipes.own_file import own_experiment, with_dotted
from madrigal.report.progress import Progress
from madrigal.rollouts.play import EpisodeRun, StepRequest, drive, play
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task, check_task
from madrigal.rollouts.task.asking import ASKED, ask, unjudged
from madrigal.runs.folders import Held, held, held_free
from madrigal.runs.log import RunLog, read_lines
from madrigal.runs.records import transcript
from madrigal.tasks.guarded import Guarded
from madrigal.tasks.trust import check_trust
from madrigal.training.held_out import Callback, check_saved, evaluate_experiment, evaluate_run, team_at, team_of
from madrigal.training.train import train_in
from madrigal.types import AgentId, ConfigError, Episode, Example, Point, Step

IN_MEMORY = "in-memory:"  # the place of a task that no file holds, in a run's settings


@dataclass(frozen=True, slots=True)
class Answer:
    """What a team answered.

    Attributes:
        answers: the last words of each agent: the joint answer.
        turns: everything that was said, in order: agent, round, text, why it ended ("stop" or "length"), tokens.
    """

    answers: Mapping[AgentId, str]
    turns: tuple[Mapping[str, Any], ...]

    @property
    def text(self) -> str:
        """The joint answer as one text, in the order of the agents."""
        return "\n\n".join(self.answers.values())


@dataclass(frozen=True, slots=True)
class TrainedTeam:
    """A team and the task that it was trained on, to be asked or to play.

    Attributes:
        run: the settings of its run.
        task: what agents are shown, and who hears whom.
        team: its policies, `team.seats[agent]`.
    """

    run: Experiment
    task: Task[Any]
    team: Team

    def answer(self, data: str | Mapping[str, Any], *, seed: int = 0, greedy: bool = False) -> Answer:
        """Answers new data together, without a reference and without judging.

        Args:
            data: a text, or a mapping with the fields of an example; see `fields of data` in the documentation.
            seed: equal seeds give equal answers.
            greedy: every agent takes its most likely words.

        Raises:
            ConfigError: if the task cannot be asked, or not by such data.
        """
        return self.answer_many([data], seed=seed, greedy=greedy)[0]

    def answer_many(
        self, rows: Sequence[str | Mapping[str, Any]], *, seed: int = 0, greedy: bool = False
    ) -> list[Answer]:
        """`answer` for many, in batches of one call per policy."""
        points = [Point(ASKED, ask(self.task, data)) for data in rows]

        def step_unjudged(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
            return [unjudged(self.task, request.state, request.actions) for request in requests]

        return [_answer(self.task, episode) for episode in self._episodes(points, step_unjudged, seed, greedy)]

    def play(self, example: Example | None = None, *, seed: int = 0, greedy: bool = False) -> dict[str, Any]:
        """Plays an example of the task, the first of the test split by default; a transcript with rewards."""
        example = example or self.task.examples("test")[0]

        def judge(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
            return [self.task.step(request.state, request.actions) for request in requests]

        (episode,) = self._episodes([Point(example.id, self.task.reset(example))], judge, seed, greedy)
        return transcript(episode)

    def _episodes(self, points: Sequence[Point[Any]], judge: Any, seed: int, greedy: bool) -> list[Episode[Any]]:
        moves = (play(self.task, self.run.topology, point) for point in points)
        games = [EpisodeRun(each, (derive(seed, "asked"), n), greedy=greedy) for n, each in enumerate(moves)]
        return drive(games, self.team.speaker(self.run.sampling), judge)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training run came to.

    Attributes:
        folder: where everything lies.
        finished: False where it was stopped early; it can be resumed then.
        task: the task it trained on, where no file names it.
    """

    folder: Path
    finished: bool
    task: Task[Any] | None = None

    @property
    def evaluations(self) -> dict[str, Any]:
        """Held-out results by name: "before", "step-N", "after"."""
        return RunLog(self.folder).evaluations()

    @property
    def curve(self) -> list[dict[str, Any]]:
        """One record per training step, as in steps.jsonl."""
        return read_lines(self.folder / "steps.jsonl")

    @property
    def team(self) -> TrainedTeam:
        """The trained team, loaded anew."""
        return load_team(self.folder, task=self.task, trust=True)


def train(
    what: str | Path | Experiment | Task[Any],
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    watch: Callback | None = None,
    **settings: Any,
) -> TrainingResult:
    """Trains a team.

        >>> result = train("tldr", steps=2, evaluation={"examples": 4})  # doctest: +SKIP
        >>> result.team.answer("My dog ate my homework.").answers["concise"]  # doctest: +SKIP

    Args:
        what: a recipe, "file.py:task", an Experiment, or a Task, also one that a notebook defines.
        folder: the run folder, made where there is none; by default the next free `runs/NAME`.
        resume: go on with the run in the folder.
        overwrite: replace the run in the folder.
        quiet: show results and warnings only.
        watch: is told of every step and evaluation, in place of the progress shown.
        settings: those of the command line, by name or nested: steps=2, evaluation={"examples": 4},
            topology="sequential".

    Raises:
        MadrigalError: one line, as from the command line.
    """
    run, task = _opened(what)
    run = _changed(run, settings)
    with open_checked_task(run, task) as checked, _place(run, folder, resume=resume, overwrite=overwrite) as place:
        if watch is not None:
            signum = train_in(checked, run, place, watch=watch)
        else:
            with Progress(Console(), run.steps, place.folder.name, best=checked.best_return, quiet=quiet) as progress:
                signum = train_in(checked, run, place, watch=progress)
        return TrainingResult(place.folder, not signum, task)


def evaluate(
    what: str | Path | Experiment | Task[Any],
    *,
    task: Task[Any] | None = None,
    step: int | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluates a run's saved team, or the models that a recipe, an experiment or a task starts from.

    Args:
        what: a run folder; or what `train` takes.
        task: the task of a run that trained on a Task of a notebook.
        step: of a run, evaluate the checkpoint of this step.
        settings: as in `train`; a run has its own.

    Raises:
        MadrigalError: one line, as from the command line.
    """
    if _is_run(what):
        if settings:
            raise ConfigError(f"evaluate: a run has its own settings, got {', '.join(settings)}")
        return evaluate_run(Path(str(what)), trust=True, step=step, task=_guarded(task))[0]
    run, own_task = _opened(what if task is None else task)
    return evaluate_experiment(_changed(run, settings), task=own_task)[0]


def load_team(
    run: str | Path, *, step: int | None = None, task: Task[Any] | None = None, trust: bool = False
) -> TrainedTeam:
    """Loads the team of a run, to be asked: `load_team("runs/tldr").answer("...")`.

    Args:
        run: the run's folder.
        step: the team of this step's checkpoint; by default the saved team.
        task: the task of a run that trained on a Task of a notebook.
        trust: allow what the run's file asks for: own code, no sandbox, an expert.

    Raises:
        ConfigError: if there is no such run, it has no team, or asks for what needs trust.
    """
    folder = Path(run)
    settings = read_experiment(folder)
    if not trust and task is None:
        check_trust(settings.task, folder)
    if step is None:
        check_saved(folder, settings)
    with open_checked_task(settings, _guarded(task)) as checked:
        agents = checked.agents
        team = team_of(folder, settings, agents) if step is None else team_at(folder, settings, agents, step)
        return TrainedTeam(settings, checked, team)


def _answer(task: Task[Any], episode: Episode[Any]) -> Answer:
    last = {turn.agent: turn.completion.text for turn in episode.turns}
    turns = tuple(
        {
            "agent": turn.agent,
            "round": turn.round,
            "text": turn.completion.text,
            "finish": turn.completion.finish,
            "tokens": len(turn.completion.token_ids),
        }
        for turn in episode.turns
    )
    return Answer({agent: last[agent] for agent in task.agents if agent in last}, turns)


def _is_run(what: Any) -> bool:
    return isinstance(what, str | Path) and str(what) not in RECIPES and (Path(what) / "experiment.json").is_file()


def _opened(what: Any) -> tuple[Experiment, Task[Any] | None]:
    """The experiment to start from, and the task itself where no file names it."""
    if isinstance(what, Experiment):
        return what, None
    if isinstance(what, Path) or (isinstance(what, str) and Path(what).exists()):
        return read_experiment(Path(what)), None
    if isinstance(what, str):
        return (own_experiment(what) if ":" in what and what not in RECIPES else recipe(what)), None
    task = _guarded(what)
    if task is None:
        raise ConfigError("expected a recipe, a file, an Experiment or a Task, got None")
    run = own(f"{IN_MEMORY}{task.name}")
    return replace(run, recipe="".join(c if c.isalnum() or c in "._-" else "-" for c in task.name) or "task"), task


def _guarded(task: Task[Any] | None) -> Task[Any] | None:
    if task is None or isinstance(task, Guarded):
        return task
    guarded = Guarded(task)
    check_task(guarded)
    return guarded


def _changed(run: Experiment, settings: Mapping[str, Any]) -> Experiment:
    return with_dotted(run, dict(_flat(settings)), "settings") if settings else run


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted ones."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@contextmanager
def _place(run: Experiment, folder: str | Path | None, *, resume: bool, overwrite: bool) -> Iterator[Held]:
    if folder is not None:
        with held(Path(folder), resume=resume, overwrite=overwrite, beside=True) as place:
            yield place
    elif resume or overwrite:
        with held(Path("runs") / run.recipe, resume=resume, overwrite=overwrite) as place:
            yield place
    else:
        with held_free(Path("runs"), run.recipe) as place:
            yield place


__all__ = ["Answer", "TrainedTeam", "TrainingResult", "evaluate", "load_team", "train"]
