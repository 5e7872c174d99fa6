"""A trained team as models of OpenAI's interface: the team itself, and each of its agents alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from madrigal.policies.engines.engine import TooLongError
from madrigal.rollouts.play import EpisodeRun, Play, SpeakRequest
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import answering_in, moves_of
from madrigal.rollouts.topology import Parallel, Sequential
from madrigal.runs.files import parse_json
from madrigal.serving.metrics import Metrics
from madrigal.serving.protocol import (
    ChatRequest,
    Choice,
    RefusedError,
    Response,
    model_record,
    read_chat,
    read_fields,
)
from madrigal.serving.telling import Happening, Inbox, Telling, by_agent, trace, turn_record, usage_of, words_record
from madrigal.serving.worker import ClosedError, FullError, Job, Words, Worker
from madrigal.training.trained_team import TrainedTeam
from madrigal.types import AgentId, ConfigError, Episode, MadrigalError, Messages, Point, Turn

LOG = logging.getLogger(__name__)
Happenings = AsyncGenerator[list[Happening], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken on at once.

    Attributes:
        playing: answers that are given together.
        waiting: answers that may wait for a place.
        ignore_history: of a chat with a team, answer the last message and leave out those before it.
    """

    playing: int = 64
    waiting: int = 256
    ignore_history: bool = False


class TeamService:
    """Answers requests for a team and its agents; owns the thread in which they speak."""

    def __init__(self, team: TrainedTeam, name: str, limits: Limits | None = None) -> None:
        self.team, self.limits = team, limits or Limits()
        self.name, self.created = f"team/{name}", int(time.time())
        self.agents = {f"{self.name}/{agent}": agent for agent in team.team.seats}
        self.worker = Worker(team.speaker(), team.unjudged, playing=self.limits.playing, waiting=self.limits.waiting)
        self.metrics = Metrics(lambda: self.worker.load)
        self.once = answering_in(team.task) if _each_once(team) else ()

    def models(self) -> dict[str, Any]:
        """What `GET /v1/models` answers."""
        names = [self.name, *self.agents]
        return {"object": "list", "data": [model_record(name, self.created) for name in names]}

    def model(self, name: str) -> dict[str, Any]:
        """What `GET /v1/models/NAME` answers.

        Raises:
            RefusedError: if there is none.
        """
        self._agent_of(name)
        return model_record(name, self.created)

    async def chat(self, body: bytes) -> dict[str, Any] | AsyncIterator[list[dict[str, Any]]]:
        """What a chat completion answers: JSON, or the parts of a stream as they are ready; the first has come.

        Raises:
            RefusedError: if it cannot be answered.
        """
        began = time.monotonic()
        try:
            request = read_chat(read_fields(body))
            seed = secrets.randbelow(2**31) if request.seed is None else request.seed
            runs = await asyncio.to_thread(self.runs, request, seed)
            happenings = self._play(runs, request)
            response = Response(f"chatcmpl-{secrets.token_hex(12)}", request.model, int(time.time()))
            if not request.stream:
                return await self._whole(request, response, seed, happenings)
            asked = list[Happening]()
            async for some in happenings:  # what is refused now still has a status of its own
                asked += some
                if any(not isinstance(event, Words) or event.text for _, event in some):
                    break
            return self._stream(request, response, seed, _chained(asked, happenings))
        except RefusedError as refusal:
            self.metrics.ended(f"refused {refusal.status.value}", time.monotonic() - began)
            raise

    def runs(self, request: ChatRequest, seed: int) -> list[EpisodeRun]:
        """The plays of a request, one for each answer that is wanted.

        Raises:
            RefusedError: if there is no such model, or the task cannot be asked by these messages.
        """
        agent, sampling = self._agent_of(request.model), request.sampling(self.team.run.sampling)
        if request.messages[-1].role != "user":
            raise RefusedError("messages: expected the last one to be the user's", param="messages")
        if agent:
            key = (derive(seed, "asked"), agent, *(f"{m.role}: {m.content}" for m in request.messages))
            plays = [_alone(agent, request.messages) for _ in range(request.n)]
            return [EpisodeRun(one, (*key, n), sampling=sampling) for n, one in enumerate(plays)]
        data = self._asked(request.messages)
        try:
            return [self.team.run_to_ask(data, seed=seed, sampling=sampling, choice=n) for n in range(request.n)]
        except ConfigError as error:
            raise RefusedError(f"messages: {error}", param="messages") from error

    def _agent_of(self, name: str) -> AgentId:
        """Who answers for a model; "" for the team."""
        if name == self.name or name in self.agents:
            return self.agents.get(name, "")
        known = ", ".join([self.name, *self.agents])
        raise RefusedError(
            f"model: there is no {name[:100]!r}; there is {known}",
            HTTPStatus.NOT_FOUND,
            param="model",
            code="model_not_found",
        )

    def _asked(self, messages: Messages) -> str | dict[str, Any]:
        """What a chat asks of the task: the last message, a text or, as JSON, the fields of an example."""
        if len(messages) > 1 and not self.limits.ignore_history:
            raise RefusedError(
                f"messages: this team answers one message of the user at a time, got {len(messages)}; send the last "
                "one alone, ask one of its agents, or start the server with --ignore-history",
                param="messages",
            )
        text = messages[-1].content
        if text.lstrip().startswith("{"):
            with contextlib.suppress(ConfigError):
                fields = parse_json(text, "message")
                return fields if isinstance(fields, dict) else text
        return text

    async def _play(self, runs: Sequence[EpisodeRun], request: ChatRequest) -> Happenings:
        """Every turn as it is spoken, every episode as it ends, and of a stream also words; together what has come.

        Whoever stops listening takes the plays away.
        """
        inbox, began, outcome = Inbox(), time.monotonic(), "left"
        jobs = [Job(run, partial(inbox.put, index), request.stop, request.stream) for index, run in enumerate(runs)]
        try:
            self.worker.submit(jobs)
            playing = len(jobs)
            while playing:
                happened = await inbox.take()
                for _, event in happened:
                    if isinstance(event, Exception):
                        raise event
                    if isinstance(event, Turn):
                        said = event.completion
                        self.metrics.spoke(event.agent, len(said.prompt_ids), len(said.token_ids))
                    playing -= isinstance(event, Episode)
                yield happened
            outcome = "answered"
        except Exception as error:
            outcome = ""  # counted by whoever sends the refusal
            raise refusal_of(error) from error
        finally:
            self.worker.drop(jobs)
            if outcome:
                self.metrics.ended(outcome, time.monotonic() - began)

    async def _whole(
        self, request: ChatRequest, response: Response, seed: int, happenings: Happenings
    ) -> dict[str, Any]:
        turns: list[Turn] = []
        choices: dict[int, Choice] = {}
        async with aclosing(happenings):
            async for some in happenings:
                turns += [event for _, event in some if isinstance(event, Turn)]
                choices |= {index: self._choice(request, event) for index, event in some if isinstance(event, Episode)}
        ordered = [choices[index] for index in sorted(choices)]
        return response.whole(ordered, usage_of(turns), {"seed": seed, "agents": by_agent(turns)})

    async def _stream(
        self, request: ChatRequest, response: Response, seed: int, happenings: Happenings
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Words and turns as they are spoken, together where several are ready.

        So comes the answer where every agent speaks once; else it comes when its play has ended, for later words of an
        agent replace earlier ones.
        """
        turns: list[Turn] = []
        alone, ended = self.agents.get(request.model), 0
        tellings = [Telling((alone,) if alone else self.once, traced=not alone) for _ in range(request.n)]
        async with aclosing(happenings):
            async for some in happenings:
                parts = []
                for index, event in some:
                    telling = tellings[index]
                    if isinstance(event, Words):
                        if (new := telling.overhear(event)) or not event.text:
                            parts.append(
                                response.chunk(index, telling.delta(), extra={"words": words_record(event, new)})
                            )
                    elif isinstance(event, Turn):
                        turns.append(event)
                        telling.hear(event)
                        parts.append(response.chunk(index, telling.delta(), extra={"turn": turn_record(event)}))
                    elif isinstance(event, Episode):
                        ended += 1
                        choice = self._choice(request, event)
                        told = {"answers": choice.extra["answers"], "seed": seed}
                        if rest := telling.rest(choice.text):
                            parts.append(response.chunk(index, {"content": rest}))
                        summed = {"agents": by_agent(turns)} if ended == request.n else {}
                        parts.append(response.chunk(index, {}, choice.finish, told | summed))
                if ended == request.n and request.include_usage:
                    parts.append(response.last(usage_of(turns)))
                yield parts

    def _choice(self, request: ChatRequest, episode: Episode[Any]) -> Choice:
        """The joint answer of an episode, or one agent's."""
        last = {turn.agent: turn.completion for turn in episode.turns}
        cut = any(said.finish == "length" for said in last.values())
        extra = {"turns": list(map(turn_record, episode.turns))}
        if agent := self.agents.get(request.model):
            text, reasoning, answers = last[agent].text, "", {agent: last[agent].text}
        else:
            answer = self.team.answer_of(episode)
            text, reasoning, answers = answer.text, trace(episode.turns), dict(answer.answers)
        return Choice(text, "length" if cut else "stop", reasoning, {"answers": answers} | extra)


def _each_once(team: TrainedTeam) -> bool:
    """Whether no agent of a team speaks twice, so that its first words are its answer."""
    one_round = team.task.horizon == 1 and moves_of(team.task) is None
    return one_round and isinstance(team.run.topology, Parallel | Sequential)


def _alone(agent: AgentId, prompt: Messages) -> Play:
    """The play in which one agent answers one prompt."""
    replies = yield SpeakRequest({agent: prompt}, 0, 0)
    turn = Turn(agent, prompt, replies[agent])
    return Episode(Point("asked", None), (turn,), ())


async def _chained(first: list[Happening], others: Happenings) -> Happenings:
    async with aclosing(others):
        yield first
        async for some in others:
            yield some


def refusal_of(error: Exception) -> RefusedError:
    """What a client is told of an error; what nobody expected is logged, and told by its kind only."""
    match error:
        case RefusedError():
            return error
        case FullError():
            status, code = HTTPStatus.TOO_MANY_REQUESTS, "queue_full"
            return RefusedError(str(error), status, code=code, retry_after=error.seconds)
        case ClosedError():
            return RefusedError(str(error), HTTPStatus.SERVICE_UNAVAILABLE, code="closing")
        case TooLongError():
            return RefusedError(str(error), param="messages", code="context_length_exceeded")
        case MadrigalError():
            return RefusedError(str(error), code="not_answered")
    LOG.error("a request failed", exc_info=error)
    return RefusedError(
        f"the server failed ({type(error).__name__}); its log says more", HTTPStatus.INTERNAL_SERVER_ERROR
    )
