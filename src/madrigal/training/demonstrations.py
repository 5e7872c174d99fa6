"""Demonstrations: given joint answers to training examples, read of a file and played as if the team had given them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.config import Experiment
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Seat, Team
from madrigal.rollouts.play import EpisodeRun, Judge, Play, SpeakRequest, drive, play
from madrigal.rollouts.task import Task, demonstrations_of, scripted_in
from madrigal.tasks.data import EMBEDDED
from madrigal.tasks.fields import check_characters
from madrigal.tasks.files import read_file
from madrigal.types import AgentId, Completion, ConfigError, Episode, Example, Messages, Point


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A given joint answer.

    Attributes:
        where: its file and row, for errors.
        example: of the training split.
        answers: of each agent, one for each round that is shown.
    """

    where: str
    example: Example
    answers: Mapping[AgentId, tuple[str, ...]]

    @property
    def rounds(self) -> int:
        return len(next(iter(self.answers.values())))


def read_demonstrations(run: Experiment, task: Task[Any]) -> list[Demonstration]:
    """The demonstrations that a run is to begin with; none where it names no file.

    Raises:
        ConfigError, TaskError: in one line, if there are too few, or a row is no joint answer to a training example.
    """
    file, count = run.warm.demonstrations, run.warm.examples
    if not file:
        return []
    examples = {example.id: example for example in task.examples("train")}
    rows = _brought(task, examples) if file == EMBEDDED else read_file(file)
    if not rows or len(rows) < count:
        wanted = f"{count}, as warm.examples says" if count else "at least 1"
        raise ConfigError(
            f"warm.demonstrations {file}: expected {wanted}, found {len(rows)}; give more, or ask for less"
        )
    return [
        _demonstration(f"warm.demonstrations {file}, row {n}", row, task, examples) for n, row in _first(rows, count)
    ]


def _brought(task: Task[Any], examples: Collection[str]) -> list[dict[str, Any]]:
    """What the task brings, without examples that are kept for validation."""
    given = demonstrations_of(task)
    if not given:
        raise ConfigError(f"warm.demonstrations: the task {task.name} brings none; name a file of them")
    rows = [(name, {agent: list(texts) for agent, texts in answers.items()}) for name, answers in given.items()]
    return [{"id": name, "answers": answers} for name, answers in rows if name in examples]


def _first(rows: Sequence[Any], count: int) -> Iterator[tuple[int, Any]]:
    return enumerate(rows[: count or None], start=1)


def _demonstration(
    where: str, row: Mapping[str, Any], task: Task[Any], examples: Mapping[str, Example]
) -> Demonstration:
    name, answers = row.get("id"), row.get("answers")
    if not isinstance(name, str) or not isinstance(answers, dict) or row.keys() != {"id", "answers"}:
        raise ConfigError(
            f'{where}: expected {{"id": text, "answers": {{agent: text}}}}, got {", ".join(row) or "nothing"}'
        )
    if name not in examples:
        near = difflib.get_close_matches(name, examples, n=1) or list(examples)[:1]
        raise ConfigError(
            f"{where}: {name!r} is no training example of {task.name}; ids are like {near[0]!r}, and no test or "
            "validation example may be learned from"
        )
    expected = [agent for agent in task.agents if agent not in scripted_in(task, examples[name])]
    for agents, told in (
        ([agent for agent in answers if agent not in expected], "no agent that answers there"),
        ([agent for agent in expected if agent not in answers], "an agent without an answer"),
    ):
        if agents:
            raise ConfigError(f"{where}: {agents[0]!r} is {told}; expected answers of {', '.join(expected)}")
    by_agent = {agent: _texts(f"{where}: answers.{agent}", answers[agent]) for agent in expected}
    if len({*map(len, by_agent.values())}) > 1 or len(by_agent[expected[0]]) > task.horizon:
        counts = ", ".join(f"{agent} {len(texts)}" for agent, texts in by_agent.items())
        raise ConfigError(f"{where}: expected as many rounds of each agent, at most {task.horizon}, got {counts}")
    return Demonstration(where, examples[name], by_agent)


def _texts(where: str, given: object) -> tuple[str, ...]:
    """An agent's answers, one for each round; "" where it is silent in some of them."""
    texts = given if isinstance(given, list) else [given]
    if not all(isinstance(text, str) and text.strip() for text in texts if text != "") or not any(texts):
        raise ConfigError(f"{where}: expected a text, or a list with one for each round, got {given!r:.60}")
    for text in texts:
        check_characters(text, where)
    return tuple(texts)


def check_lengths(demonstrations: Sequence[Demonstration], team: Team, longest: int) -> None:
    """Refuses answers that the team could never end, before anything is played.

    Raises:
        ConfigError: naming row, agent, both lengths and what to do.
    """
    for one in demonstrations:
        for agent, texts in one.answers.items():
            for index, text in enumerate(texts):
                policy = team.policy_of(agent, index)
                length = len(policy.encode_answer(text)) if isinstance(policy, LocalPolicy) else 0
                if length > longest:
                    raise ConfigError(
                        f"{one.where}: the answer of {agent} has {length} tokens, sampling.max_new_tokens is "
                        f"{longest}; shorten the answer, or raise that"
                    )


def episodes_of(
    demonstrations: Sequence[Demonstration], run: Experiment, task: Task[Any], team: Team, judge: Judge
) -> list[Episode[Any]]:
    """The episodes in which agents say what was given; prompts are those that they are then shown."""
    games = []
    for one in demonstrations:
        moves = play(task, run.topology, Point(one.example.id, task.reset(one.example)), one.rounds)
        games.append(EpisodeRun(_following(moves, one, team), ()))
    return drive(games, lambda wanted: [], judge)


def _following(moves: Play, given: Demonstration, team: Team) -> Play:
    """Play in which what agents say is given, so that only the task is asked."""
    try:
        request = next(moves)
        while True:
            if isinstance(request, SpeakRequest):
                index = request.round
                reply: Any = {
                    agent: _said(team.policy_of(agent, index), prompt, given.answers[agent][index], given.where)
                    for agent, prompt in request.prompts.items()
                }
            else:
                reply = yield request
            request = moves.send(reply)
    except StopIteration as stop:
        episode: Episode[Any] = stop.value
        return episode


def _said(policy: Seat, prompt: Messages, text: str, where: str) -> Completion:
    """An answer as if the policy had said it; it was not sampled, so that its log-probs are nothing to be read."""
    if not isinstance(policy, LocalPolicy):
        return Completion(text)
    prompt_ids, token_ids = policy.encode(prompt), policy.encode_answer(text)
    if len(prompt_ids) + len(token_ids) > policy.context:
        raise ConfigError(
            f"{where}: a prompt of {len(prompt_ids)} tokens and its answer of {len(token_ids)} do not fit the "
            f"context of {policy.name}, {policy.context}; shorten them, or take a model with a longer context"
        )
    return Completion(text, prompt_ids, token_ids, (0.0,) * len(token_ids), version=policy.version)
