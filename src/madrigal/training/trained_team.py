"""A trained team that is asked something new, or plays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from madrigal.config import Experiment, read_experiment
from madrigal.policies.hub import check_may_push, upload
from madrigal.policies.quiet import quiet_libraries
from madrigal.policies.team import Team
from madrigal.recipes.trust import check_trust, of_its_task
from madrigal.rollouts.play import EpisodeRun, Generate, Lockstep, StepRequest, drive, heard, judge_in_turn, play
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task, answering_in
from madrigal.rollouts.task.asking import ASKED, Data, ask, unjudged
from madrigal.runs.records import transcript
from madrigal.runs.whole import found
from madrigal.settings import Sampling
from madrigal.tasks.catalog import open_task
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.task import coding_to_ask
from madrigal.tasks.coordinating import Coordinating, coordinated
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.tasks.own import guarded
from madrigal.tasks.reworded import in_words
from madrigal.tasks.roles import in_roles
from madrigal.tasks.tools.config import lasting_tools
from madrigal.training.checks import open_checked_task
from madrigal.training.teams import check_saved, sampling_budget, team_of_run, use_threads
from madrigal.training.whole import Source, save_whole
from madrigal.types import AgentId, Completion, ConfigError, Episode, Example, Point, Step, Turn

BATCH = 32  # questions answered together; the first answers to many come early


@dataclass(frozen=True, slots=True)
class Answer:
    """What a team answered.

    Attributes:
        answers: the last words of each agent: the joint answer.
        turns: everything that was said, in order: agent, round, text, why it ended ("stop" or "length"), tokens, and
            the prompt as chat messages.
        answering: the agents whose words are the answer; the others worked for them.
    """

    answers: Mapping[AgentId, str]
    turns: tuple[Mapping[str, Any], ...]
    answering: tuple[AgentId, ...]

    @property
    def text(self) -> str:
        """The answer as one text: the words of those that answer, in the order of the agents."""
        return "\n\n".join(self.answers[agent] for agent in self.answering if agent in self.answers)


@dataclass(frozen=True, slots=True)
class TrainedTeam:
    """A team and the task that it was trained on, to be asked or to play.

    Attributes:
        run: the settings of its run.
        task: what agents are shown, and who hears whom; without the services that only judging needs.
        team: its policies, `team.seats[agent]`.
        given: the task as it was handed over, where no file names it.
        folder: where it was loaded from.
        step: of the checkpoint that it was loaded from; None for the saved team.
    """

    run: Experiment
    task: Task[Any]
    team: Team
    given: Task[Any] | None = None
    folder: Path | None = None
    step: int | None = None

    def save(self, folder: str | Path) -> Path:
        """Saves the team as one folder that is all it takes to load it elsewhere, and returns the folder.

        Raises:
            ConfigError: if something else lies there, or it was not loaded from a folder.
        """
        return save_whole(self._source(), Path(folder))

    def push(self, name: str, *, public: bool = False) -> str:
        """Saves the team on the Hugging Face hub, as owner/name, and returns its address.

        The token is that of HF_TOKEN or `hf auth login`.

        Args:
            public: whether a new repository is for everybody to see.

        Raises:
            ConfigError: if there is no token.
            EngineError: if the hub refuses it or is not reached.
        """
        check_may_push(name)
        with TemporaryDirectory() as made:
            return upload(save_whole(self._source(), Path(made) / "team", name=name), name, public=public)

    def _source(self) -> Source:
        if self.folder is None:
            raise ConfigError("team: expected one that load_team has loaded, of which the folder is known")
        return Source(self.folder, self.run, self.task, self.step)

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
        numbered = [(row, n if len(rows) > 1 else 0) for n, row in enumerate(rows, start=1)]
        asked = iter([self.run_to_ask(row, seed=seed, greedy=greedy, number=n) for row, n in numbered])
        speak = self.speaker()
        while batch := list(islice(asked, BATCH)):
            yield from map(self.answer_of, drive(batch, speak, self.unjudged))

    def iter_turns(
        self,
        data: Data,
        *,
        seed: int = 0,
        greedy: bool = False,
        overhear: Callable[[AgentId, int, str], bool] | None = None,
    ) -> Iterator[Mapping[str, Any]]:
        """`answer` as it comes: each turn, as in `Answer.turns`, when it was spoken and before the next is.

        Args:
            overhear: told of agent and round when an agent is asked, and of all that it has said so far whenever that
                is more, from any thread; False ends its turn there.
        """
        spoken: list[Turn] = []

        def hear(turn: Turn) -> Completion:
            spoken.append(turn)
            return turn.completion

        run, together = self.run_to_ask(data, seed=seed, greedy=greedy), Lockstep(self.speaker(), self.unjudged)
        together.join(replace(run, moves=heard(run.moves, hear, overhear)))
        ended: Mapping[int, Episode[Any] | Exception] = {}
        while not ended:
            ended = together.tick()
            yield from map(turn_record, spoken)
            spoken.clear()
        for result in ended.values():
            if isinstance(result, Exception):
                raise result

    @property
    def agents(self) -> tuple[AgentId, ...]:
        """Who has a part in the joint answer, in its order; what a coordinator says is a call, and none."""
        return self.task.task.agents if isinstance(self.task, Coordinating) else self.task.agents

    def run_to_ask(
        self,
        data: Data,
        *,
        seed: int = 0,
        greedy: bool = False,
        sampling: Sampling | None = None,
        choice: int = 0,
        number: int = 0,
    ) -> EpisodeRun:
        """The play of new data, to be driven with `speaker()` and `unjudged`, alone or among others.

        Args:
            sampling: other than the team was trained with.
            choice: which of several answers to equal data with equal seeds; the first is that of `answer`.
            number: of the row, for errors; 0 where there is only one.

        Raises:
            ConfigError: if the task cannot be asked, or not by such data.
        """
        try:
            point = Point(ASKED, ask(self.task, data))
        except ConfigError as error:
            raise ConfigError(f"row {number}: {error}" if number else str(error)) from error
        key = (derive(seed, "asked"), _spelled(data), *((choice,) if choice else ()))
        return EpisodeRun(play(self.task, self.run.topology, point), key, greedy=greedy, sampling=sampling)

    def speaker(self) -> Generate:
        """Answers the requests of all agents, in batches that fit the memory."""
        return self.team.speaker(self.run.sampling, sampling_budget(self.run, self.team))

    def unjudged(self, requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        """The steps of joint actions that nobody judges."""
        return [unjudged(self.task, request.state, request.actions) for request in requests]

    def answer_of(self, episode: Episode[Any]) -> Answer:
        """What an episode came to, as an answer."""
        last = {turn.agent: turn.completion.text for turn in episode.turns}
        answers = {agent: last[agent] for agent in self.agents if agent in last}
        return Answer(answers, tuple(map(turn_record, episode.turns)), answering_in(self.task))

    def play(self, example: Example | None = None, *, seed: int = 0, greedy: bool = False) -> dict[str, Any]:
        """Plays an example of the task, the first of the test split by default; a transcript with rewards."""
        with open_checked_task(self.run, self.given) as task:
            example = example or task.examples("test")[0]
            moves = play(task, self.run.topology, Point(example.id, task.reset(example)))
            run = EpisodeRun(moves, (derive(seed, "asked"), example.id), greedy=greedy)
            (episode,) = drive([run], self.speaker(), judge_in_turn(task))
            return transcript(episode)


def load_team(
    run: str | Path,
    *,
    step: int | None = None,
    task: Task[Any] | None = None,
    trust: bool = False,
    device: str = "",
) -> TrainedTeam:
    """Loads a team, to be asked: `load_team("runs/tldr").answer("...")`.

    The data of the run are not needed.

    Args:
        run: the folder of a run, or of a team that was saved as a whole, or the name of one on the Hugging Face hub,
            owner/name. No code comes with a team but that of an own task, and weights are safetensors.
        step: the team of this step's checkpoint; by default the saved team.
        task: the task of a run that trained on a Task of a notebook.
        trust: allow what the run's file asks for: own code, no sandbox, an expert, an endpoint.
        device: "auto", "cpu" or "cuda", instead of the one that the run was made on.

    Raises:
        ConfigError: if there is no such run, it has no team, a file of it is damaged, or it asks for what needs trust.
        EngineError: if it cannot be had from the hub, or its base model is not there.
    """
    given = None if task is None else guarded(task, "task")
    source = source_of(run, step=step, task=given, trust=trust)
    settings = source.run
    if device:
        settings = replace(settings, team=replace(settings.team, device=device))
    use_threads(settings.threads)
    team = team_of_run(source.folder, settings, source.task.agents, step)
    return TrainedTeam(settings, source.task, team, given, source.folder, step)


def source_of(
    run: str | Path, *, step: int | None = None, task: Task[Any] | None = None, trust: bool = False
) -> Source:
    """Of which folder, settings and task a team is, before any model is loaded.

    Args, raises: as `load_team`.
    """
    folder = found(run)
    settings = read_experiment(folder)
    if not trust:
        check_trust(settings, folder, "ask", of_its_task(settings, task))
    if step is None:
        check_saved(folder, settings)
    quiet_libraries()
    plain = _task_to_ask(settings) if task is None else task
    tooled = lasting_tools(plain, settings.tools, settings.topology)
    asked = coordinated(in_roles(in_words(tooled, settings.reworded), settings.roles), settings.topology)
    return Source(folder, settings, asked, step)


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


def turn_record(turn: Turn) -> dict[str, Any]:
    """A turn as `Answer.turns` has it."""
    return {
        "agent": turn.agent,
        "round": turn.round,
        "text": turn.completion.text,
        "finish": turn.completion.finish,
        "tokens": turn.completion.tokens,
        "prompt": [{"role": message.role, "content": message.content} for message in turn.prompt],
    }
