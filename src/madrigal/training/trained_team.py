"""A trained team that is asked something new, or plays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from madrigal.config import Experiment, read_experiment
from madrigal.policies.quiet import quiet_libraries
from madrigal.policies.team import Team
from madrigal.rollouts.play import EpisodeRun, StepRequest, drive, judge_in_turn, play
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task
from madrigal.rollouts.task.asking import ASKED, Data, ask, unjudged
from madrigal.runs.records import transcript
from madrigal.tasks.catalog import open_task
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.task import coding_to_ask
from madrigal.tasks.coordinating import Coordinating, coordinated
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.tasks.own import guarded
from madrigal.tasks.reworded import in_words
from madrigal.tasks.roles import in_roles
from madrigal.tasks.trust import check_trust
from madrigal.training.checks import open_checked_task
from madrigal.training.teams import check_saved, sampling_budget, team_of_run, use_threads
from madrigal.types import AgentId, ConfigError, Episode, Example, Point, Step, Turn

BATCH = 32  # questions answered together; the first answers to many come early


@dataclass(frozen=True, slots=True)
class Answer:
    """What a team answered.

    Attributes:
        answers: the last words of each agent: the joint answer.
        turns: everything that was said, in order: agent, round, text, why it ended ("stop" or "length"), tokens, and
            the prompt as chat messages.
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
        task: what agents are shown, and who hears whom; without the services that only judging needs.
        team: its policies, `team.seats[agent]`.
        given: the task as it was handed over, where no file names it.
    """

    run: Experiment
    task: Task[Any]
    team: Team
    given: Task[Any] | None = None

    def answer(self, data: Data, *, seed: int = 0, greedy: bool = False) -> Answer:
        """Answers new data together, without a reference and without judging.

        Args:
            data: a text, a mapping with the fields of an example, or an `Example`.
            seed: equal seeds give equal answers to equal data, alone or among others.
            greedy: every agent takes its most likely words.

        Raises:
            ConfigError: if the task cannot be asked, or not by such data.
        """
        return self.answer_many([data], seed=seed, greedy=greedy)[0]

    def answer_many(self, rows: Sequence[Data], *, seed: int = 0, greedy: bool = False) -> list[Answer]:
        """`answer` for many, in batches of one call per policy."""
        return list(self.iter_answers(rows, seed=seed, greedy=greedy))

    def iter_answers(self, rows: Sequence[Data], *, seed: int = 0, greedy: bool = False) -> Iterator[Answer]:
        """`answer_many`, batch after batch; all rows are looked at before the first is answered."""
        points = iter([self._point(row, n if len(rows) > 1 else 0) for n, row in enumerate(rows, start=1)])
        keys = iter([(derive(seed, "asked"), _spelled(row)) for row in rows])

        def step_unjudged(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
            return [unjudged(self.task, request.state, request.actions) for request in requests]

        while batch := list(islice(points, BATCH)):
            for episode in self._episodes(self.task, batch, list(islice(keys, BATCH)), step_unjudged, greedy):
                yield self._answer(episode)

    def play(self, example: Example | None = None, *, seed: int = 0, greedy: bool = False) -> dict[str, Any]:
        """Plays an example of the task, the first of the test split by default; a transcript with rewards."""
        with open_checked_task(self.run, self.given) as task:
            example = example or task.examples("test")[0]
            point, key = Point(example.id, task.reset(example)), (derive(seed, "asked"), example.id)
            (episode,) = self._episodes(task, [point], [key], judge_in_turn(task), greedy)
            return transcript(episode)

    def _point(self, data: Data, number: int) -> Point[Any]:
        try:
            return Point(ASKED, ask(self.task, data))
        except ConfigError as error:
            raise ConfigError(f"row {number}: {error}" if number else str(error)) from error

    def _episodes(
        self,
        task: Task[Any],
        points: Sequence[Point[Any]],
        keys: Sequence[tuple[object, ...]],
        judge: Any,
        greedy: bool,
    ) -> list[Episode[Any]]:
        moves = [play(task, self.run.topology, point) for point in points]
        games = [EpisodeRun(each, key, greedy=greedy) for each, key in zip(moves, keys, strict=True)]
        return drive(games, self.team.speaker(self.run.sampling, sampling_budget(self.run, self.team)), judge)

    def _answer(self, episode: Episode[Any]) -> Answer:
        last = {turn.agent: turn.completion.text for turn in episode.turns}
        # What a coordinator says is a call, and no part of the joint answer.
        agents = self.task.task.agents if isinstance(self.task, Coordinating) else self.task.agents
        return Answer({agent: last[agent] for agent in agents if agent in last}, tuple(map(_shown, episode.turns)))


def load_team(
    run: str | Path,
    *,
    step: int | None = None,
    task: Task[Any] | None = None,
    trust: bool = False,
    device: str = "",
) -> TrainedTeam:
    """Loads the team of a run, to be asked: `load_team("runs/tldr").answer("...")`.

    The data of the run are not needed.

    Args:
        run: the run's folder.
        step: the team of this step's checkpoint; by default the saved team.
        task: the task of a run that trained on a Task of a notebook.
        trust: allow what the run's file asks for: own code, no sandbox, an expert.
        device: "auto", "cpu" or "cuda", instead of the one that the run was made on.

    Raises:
        ConfigError: if there is no such run, it has no team, or asks for what needs trust.
    """
    folder = Path(run)
    settings = read_experiment(folder)
    if device:
        settings = replace(settings, team=replace(settings.team, device=device))
    if not trust and task is None:
        check_trust(settings.task, folder)
    if step is None:
        check_saved(folder, settings)
    quiet_libraries()
    use_threads(settings.threads)
    given = None if task is None else guarded(task, "task")
    plain = _task_to_ask(settings) if given is None else given
    asked = coordinated(in_roles(in_words(plain, settings.reworded), settings.roles), settings.topology)
    return TrainedTeam(settings, asked, team_of_run(folder, settings, asked.agents, step), given)


def _task_to_ask(run: Experiment) -> Task[Any]:
    """The task of a run, without the data and the services that only judging needs."""
    if isinstance(run.task, Coding):
        return coding_to_ask(run.task)
    if isinstance(run.task, Debate):
        return DebateTask(run.task)
    with open_task(run.task) as task:
        return task


def _spelled(data: Data) -> str:
    return json.dumps(data.data if isinstance(data, Example) else data, sort_keys=True, default=str)


def _shown(turn: Turn) -> dict[str, Any]:
    return {
        "agent": turn.agent,
        "round": turn.round,
        "text": turn.completion.text,
        "finish": turn.completion.finish,
        "tokens": len(turn.completion.token_ids),
        "prompt": [{"role": message.role, "content": message.content} for message in turn.prompt],
    }
