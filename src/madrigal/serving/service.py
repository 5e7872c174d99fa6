"""A trained team as models of OpenAI's interface: the team itself, and each of its agents alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
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
    Usage,
    model_record,
    read_chat,
    read_fields,
)
from madrigal.serving.worker import ClosedError, Event, FullError, Job, Words, Worker
from madrigal.training.trained_team import TrainedTeam
from madrigal.types import AgentId, ConfigError, EngineError, Episode, MadrigalError, Messages, Point, Turn

LOG = logging.getLogger(__name__)
Happening = tuple[int, Words | Turn | Episode[Any]]  # which of a request's answers, and what came of it


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

    async def chat(self, body: bytes) -> dict[str, Any] | AsyncIterator[dict[str, Any]]:
        """What a chat completion answers: JSON, or the parts of a stream, of which the first has come.

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
            asked = []
            async for one in happenings:  # what is refused now still has a status of its own
                asked.append(one)
                if not (isinstance(one[1], Words) and not one[1].text):
                    break
            return self._stream(request, response, seed, asked, happenings)
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

    async def _play(self, runs: Sequence[EpisodeRun], request: ChatRequest) -> AsyncGenerator[Happening, None]:
        """Every turn as it is spoken, and every episode as it ends; whoever stops listening takes the plays away.

        Of a stream also words, before the turn to which they belong: the newest, where some came meanwhile.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()
        newest: dict[tuple[int, AgentId], Words] = {}

        def put(index: int, event: Event) -> None:
            if not isinstance(event, Words):
                queue.put_nowait((index, event))
                return
            if (index, event.agent) not in newest:
                queue.put_nowait((index, event))
            newest[index, event.agent] = event

        def teller(index: int) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended before the worker
                    loop.call_soon_threadsafe(put, index, event)

            return tell

        jobs = [Job(run, teller(index), request.stop, request.stream) for index, run in enumerate(runs)]
        outcome, began = "left", time.monotonic()
        try:
            self.worker.submit(jobs)
            playing = len(jobs)
            while playing:
                index, event = await queue.get()
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Words):
                    event = newest.pop((index, event.agent))
                elif isinstance(event, Turn):
                    said = event.completion
                    self.metrics.spoke(event.agent, len(said.prompt_ids), len(said.token_ids))
                else:
                    playing -= 1
                yield index, event
            outcome = "answered"
        except Exception as error:
            outcome = ""  # counted by whoever sends the refusal
            raise refusal_of(error) from error
        finally:
            self.worker.drop(jobs)
            if outcome:
                self.metrics.ended(outcome, time.monotonic() - began)

    async def _whole(
        self, request: ChatRequest, response: Response, seed: int, happenings: AsyncGenerator[Happening, None]
    ) -> dict[str, Any]:
        turns: list[Turn] = []
        choices: dict[int, Choice] = {}
        async with aclosing(happenings):
            async for index, event in happenings:
                if isinstance(event, Turn):
                    turns.append(event)
                elif isinstance(event, Episode):
                    choices[index] = self._choice(request, event)
        ordered = [choices[index] for index in sorted(choices)]
        return response.whole(ordered, usage_of(turns), {"seed": seed, "agents": by_agent(turns)})

    async def _stream(
        self,
        request: ChatRequest,
        response: Response,
        seed: int,
        asked: Sequence[Happening],
        happenings: AsyncGenerator[Happening, None],
    ) -> AsyncIterator[dict[str, Any]]:
        """Words and turns as they are spoken.

        So comes the answer where every agent speaks once; else it comes when its play has ended, for later words of an
        agent replace earlier ones.
        """
        turns: list[Turn] = []
        alone, ended = self.agents.get(request.model), 0
        tellings = [_Telling((alone,) if alone else self.once, traced=not alone) for _ in range(request.n)]
        async with aclosing(happenings):
            for index in range(request.n):
                yield response.chunk(index, {"role": "assistant", "content": ""})
            async for index, event in _chained(asked, happenings):
                telling = tellings[index]
                if isinstance(event, Words):
                    if (new := telling.overhear(event)) or not event.text:
                        yield response.chunk(index, telling.delta(), extra={"words": words_record(event, new)})
                    continue
                if isinstance(event, Turn):
                    turns.append(event)
                    telling.hear(event)
                    yield response.chunk(index, telling.delta(), extra={"turn": turn_record(event)})
                    continue
                ended += 1
                choice = self._choice(request, event)
                told = {"answers": choice.extra["answers"], "seed": seed}
                if rest := telling.rest(choice.text):
                    yield response.chunk(index, {"content": rest})
                summed = {"agents": by_agent(turns)} if ended == request.n else {}
                yield response.chunk(index, {}, choice.finish, told | summed)
            if request.include_usage:
                yield response.last(usage_of(turns))

    def _choice(self, request: ChatRequest, episode: Episode[Any]) -> Choice:
        """The joint answer of an episode, or one agent's."""
        last = {turn.agent: turn.completion for turn in episode.turns}
        cut = any(said.finish == "length" for said in last.values())
        extra = {"turns": list(map(turn_record, episode.turns))}
        if agent := self.agents.get(request.model):
            text, trace, answers = last[agent].text, "", {agent: last[agent].text}
        else:
            answer = self.team.answer_of(episode)
            text, trace, answers = answer.text, _trace(episode.turns), dict(answer.answers)
        return Choice(text, "length" if cut else "stop", trace, {"answers": answers} | extra)


def _each_once(team: TrainedTeam) -> bool:
    """Whether no agent of a team speaks twice, so that its first words are its answer."""
    one_round = team.task.horizon == 1 and moves_of(team.task) is None
    return one_round and isinstance(team.run.topology, Parallel | Sequential)


def _alone(agent: AgentId, prompt: Messages) -> Play:
    """The play in which one agent answers one prompt."""
    replies = yield SpeakRequest({agent: prompt}, 0, 0)
    turn = Turn(agent, prompt, replies[agent])
    return Episode(Point("asked", None), (turn,), ())


class _Telling:
    """One answer of a stream; owns what was said of it, and what was sent of that.

    Args:
        joint: the agents whose words are the answer, where each of them speaks once; () where it comes at the end.
        traced: whether who said what is told, too.
    """

    def __init__(self, joint: Sequence[AgentId], *, traced: bool) -> None:
        self.joint, self.traced = joint, traced
        self._said: list[Words] = []  # turns in their order; of those that are spoken at once, all that is known
        self._whole = 0  # so many of them are over
        self._sent = {"reasoning_content": "", "content": ""}

    def overhear(self, words: Words) -> str:
        """Takes up the words of a turn that is not over; what is new of them."""
        place = next((n for n, one in enumerate(self._said) if n >= self._whole and one.agent == words.agent), None)
        if place is None:
            self._said.append(words)
            return words.text
        before = self._said[place].text
        if not words.text.startswith(before):  # it is said again, since another failed in the same batch
            return ""
        self._said[place] = words
        return words.text[len(before) :]

    def hear(self, turn: Turn) -> None:
        """Takes up a turn that is over: the first of those that were not."""
        words = Words(turn.agent, turn.round, turn.completion.text)
        _rest(words.text, self._said[self._whole].text)
        self._said[self._whole] = words
        self._whole += 1

    def delta(self) -> dict[str, str]:
        """What can be sent now: of turns that are spoken at once, the first one's words, and then the next one's."""
        told = self._said[: self._whole + 1]
        trace = "".join(map(_traced, told[: self._whole])) + "".join(_traced(one, "") for one in told[self._whole :])
        said, over = {one.agent: one.text for one in self._said}, {one.agent for one in told[: self._whole]}
        answered = next((n for n, agent in enumerate(self.joint) if agent not in over), len(self.joint))
        content = "\n\n".join(said[agent] for agent in self.joint[: answered + 1] if agent in said)
        whole = {"reasoning_content": trace if self.traced else "", "content": content}
        new = {name: text[len(self._sent[name]) :] for name, text in whole.items()}
        self._sent = whole
        return {name: text for name, text in new.items() if text}

    def rest(self, answer: str) -> str:
        """What has not been sent of an answer."""
        return _rest(answer, self._sent["content"])


def _rest(whole: str, begun: str) -> str:
    """What of a text follows its beginning.

    Raises:
        EngineError: if it begins in another way: a batch was repeated, and rounding changed a word.
    """
    if not whole.startswith(begun):
        raise EngineError("the answer had to be given again, and came out otherwise than it had begun; ask again")
    return whole[len(begun) :]


async def _chained(first: Sequence[Happening], others: AsyncGenerator[Happening, None]) -> AsyncIterator[Happening]:
    for one in first:
        yield one
    async for one in others:
        yield one


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


def usage_of(turns: Sequence[Turn]) -> Usage:
    """What all agents have read and written."""
    said = [turn.completion for turn in turns]
    return Usage(sum(len(one.prompt_ids) for one in said), sum(len(one.token_ids) for one in said))


def by_agent(turns: Sequence[Turn]) -> dict[AgentId, dict[str, float]]:
    """Tokens and seconds of each agent."""
    agents = dict.fromkeys(turn.agent for turn in turns)
    own = {agent: [turn for turn in turns if turn.agent == agent] for agent in agents}
    return {
        agent: usage_of(said).record | {"seconds": round(sum(turn.completion.seconds for turn in said), 4)}
        for agent, said in own.items()
    }


def words_record(words: Words, new: str) -> Mapping[str, Any]:
    """What an agent has added to a turn, as clients are told of it."""
    return {"agent": words.agent, "round": words.round, "text": new}


def turn_record(turn: Turn) -> Mapping[str, Any]:
    """A turn as clients are told of it."""
    said = turn.completion
    return {
        "agent": turn.agent,
        "round": turn.round,
        "text": said.text,
        "finish": said.finish,
        "prompt_tokens": len(said.prompt_ids),
        "completion_tokens": len(said.token_ids),
        "seconds": round(said.seconds, 4),
    }


def _trace(turns: Sequence[Turn]) -> str:
    """Who said what, for readers."""
    return "".join(_traced(Words(turn.agent, turn.round, turn.completion.text)) for turn in turns)


def _traced(words: Words, end: str = "\n\n") -> str:
    where = f", round {words.round + 1}" if words.round else ""
    return f"{words.agent}{where}: {words.text}{end}"
