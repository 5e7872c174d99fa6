"""A gateway to seats that learn: OpenAI's interface for programs that play sessions, and what a session came to.

A session is named by its id: in the path (/sessions/ID/v1), in the header X-Madrigal-Session, or as the API key. A
model is a seat. What is asked is recorded as it is sampled: a client cannot change how answers are drawn, for the
learner needs the log-probs of the distribution that it trains.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from madrigal.rollouts.sessions import Session, SessionError
from madrigal.serving.functions import as_texts, take_offer
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
from madrigal.serving.service import refusal_of
from madrigal.serving.web import Address, Asked, Reply, WebApp, bearer, web_app
from madrigal.settings import Sampling
from madrigal.tasks.elsewhere import ElsewhereTask
from madrigal.types import ROLES, Completion, Example, RewardError

SESSION, RETRIES, IDEMPOTENCY = "x-madrigal-session", "x-stainless-retry-count", "idempotency-key"


def gateway_app(
    task: ElsewhereTask, sampling: Sampling, *, key: str = "", done: Callable[[], bool] = lambda: False
) -> WebApp:
    """The web application of a task that programs play.

    Args:
        sampling: how all answers are drawn.
        key: without which nobody takes a session; in one, its id is enough. "" asks for none.
        done: whether the run is over, so that no session will come any more.
    """
    desk, created = task.desk, int(time.time())

    def session_of(asked: Asked) -> Session:
        """The session that a request belongs to."""
        name = asked.names.get("session") or asked.headers.get(SESSION) or bearer(asked.headers)
        if (session := desk.find(name)) is not None:
            return session
        if desk.is_over(name):
            raise RefusedError(
                "this session is over; ask in a new one (POST /v1/sessions)", HTTPStatus.CONFLICT, code="session_over"
            )
        raise RefusedError(
            f"there is no such session; take one by POST /v1/sessions and give its id as API key or as {SESSION}",
            HTTPStatus.NOT_FOUND,
            code="session_not_found",
        )

    async def health(asked: Asked) -> Reply:
        return Reply({"status": "ok"})

    async def models(asked: Asked) -> Reply:
        if "session" in asked.names:
            session_of(asked)
        return Reply({"object": "list", "data": [model_record(agent, created) for agent in task.agents]})

    async def chat(asked: Asked) -> Reply:
        session = session_of(asked)
        fields = read_fields(asked.body)
        offer = take_offer(fields)
        fields["messages"] = as_texts(fields.get("messages"), _answers(session))
        request = _as_sampled(read_chat(fields, blank=True, roles=tuple(ROLES)), sampling)
        if request.model not in task.agents:
            raise RefusedError(
                f"model: there is no seat {request.model[:100]!r}; there is {', '.join(task.agents)}",
                HTTPStatus.NOT_FOUND,
                param="model",
                code="model_not_found",
            )
        again = asked.headers.get(RETRIES, "0") not in ("", "0")
        try:
            prompt, name = (*offer.message, *request.messages), asked.headers.get(IDEMPOTENCY, "")
            call = await asyncio.to_thread(session.ask, request.model, prompt, again=again, key=name)
            # Who hangs up takes nothing back: asked again, it gets the same answer.
            said = await asyncio.shield(asyncio.wrap_future(call))
        except SessionError as error:
            raise RefusedError(str(error), HTTPStatus.CONFLICT, code="session_over") from error
        except Exception as error:
            raise refusal_of(error) from error
        return Reply(_answer(request, said, *offer.spoken(said.text, _name(session, call))))

    async def following(asked: Asked) -> Reply:
        free = desk.free()
        return Reply({"done": done(), "waiting": len(free), "next": _example(free[0].example) if free else None})

    async def take(asked: Asked) -> Reply:
        wanted = read_fields(asked.body or b"{}").get("example", "")
        if not isinstance(wanted, str):
            raise RefusedError(f"example: expected the id of an example, got {wanted!r:.60}", param="example")
        session = desk.claim(wanted)
        if session is None:
            of = f" of example {wanted[:100]!r}" if wanted else ""
            raise RefusedError(
                f"no session{of} waits to be played; those of a step are all that there are until it is learned from",
                HTTPStatus.CONFLICT,
                code="done" if done() else "none_free",
                retry_after=1,
            )
        return Reply(
            {
                "id": session.id,
                "base_path": f"/sessions/{session.id}/v1",
                "example": _example(session.example),
                "evaluating": session.evaluating,
                "seconds": desk.seconds,
            }
        )

    async def reward(asked: Asked) -> Reply:
        fields, session = read_fields(asked.body or b"{}"), session_of(asked)
        if "reward" not in fields:
            raise RefusedError('expected {"reward": a number, or one for each agent}', param="reward")
        try:
            session.end(task.outcome((fields["reward"], fields.get("metrics") or {})))
        except RewardError as error:
            raise RefusedError(str(error), param="reward") from error
        except SessionError as error:
            raise RefusedError(str(error), HTTPStatus.CONFLICT, code="session_over") from error
        return Reply({"id": session.id, "calls": len(session.calls)})

    addresses = [
        # The id of a session is the key of all that is done in it; seats have no secrets.
        Address("GET", "/health", health, open=True),
        Address("GET", "/v1/models", models, open=True),
        Address("POST", "/v1/chat/completions", chat, open=True),
        Address("GET", "/sessions/{session}/v1/models", models, open=True),
        Address("POST", "/sessions/{session}/v1/chat/completions", chat, open=True),
        Address("POST", "/v1/sessions/{session}/reward", reward, open=True),
        Address("POST", "/v1/sessions", take),
        Address("GET", "/v1/examples/next", following),
    ]
    return web_app(addresses, key, timeout=desk.seconds)


def _example(example: Example) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(dict(example.data), default=str))
    return {"id": example.id, "data": data}


def _answers(session: Session) -> dict[str, str]:
    """What was said in a session, the newest first, by the names that ids of calls derive from."""
    said = [call.reply for call in reversed(session.calls)]
    return {_name(session, one): one.result().text for one in said if one.done() and not one.exception()}


def _name(session: Session, reply: Future[Completion]) -> str:
    return f"{session.id}/{next(n for n, call in enumerate(session.calls) if call.reply is reply)}"


def _as_sampled(request: ChatRequest, sampling: Sampling) -> ChatRequest:
    """The request, if it asks for no other answers than the run trains.

    Raises:
        RefusedError: naming the field.
    """
    told = {
        "temperature": (request.temperature, sampling.temperature),
        "top_p": (request.top_p, sampling.top_p),
        "n": (request.n, 1),
        "stop": (request.stop or None, None),
        "seed": (request.seed, None),
    }
    for name, (given, own) in told.items():
        if given is not None and given != own:
            raise RefusedError(
                f"{name}: answers are drawn as the run trains them{'' if own is None else f', with {own:g}'}; leave it "
                "out, or set it for the run (--sampling...)",
                param=name,
                code="unsupported_parameter",
            )
    if request.max_tokens is not None and request.max_tokens < sampling.max_new_tokens:
        raise RefusedError(
            f"max_tokens: answers of this run have up to {sampling.max_new_tokens} tokens, got {request.max_tokens}; "
            "leave it out, or lower --sampling.max-new-tokens",
            param="max_tokens",
            code="unsupported_parameter",
        )
    return request


def _answer(
    request: ChatRequest, said: Completion, words: str, calls: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | AsyncIterator[list[dict[str, Any]]]:
    """An answer as clients read it: JSON, or a stream in which words and calls are whole."""
    response = Response(f"chatcmpl-{secrets.token_hex(12)}", request.model, int(time.time()))
    usage = Usage(len(said.prompt_ids), len(said.token_ids))
    choice = Choice(words, "tool_calls" if calls else said.finish, calls=calls)
    if not request.stream:
        return response.whole([choice], usage, {"version": said.version})

    async def stream() -> AsyncIterator[list[dict[str, Any]]]:
        parts = [response.chunk(0, {"role": "assistant", "content": None if calls and not words else ""})]
        if words:
            parts.append(response.chunk(0, {"content": words}))
        if calls:
            parts.append(response.chunk(0, {"tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]}))
        parts.append(response.chunk(0, {}, choice.finish, {"version": said.version}))
        yield [*parts, response.last(usage)] if request.include_usage else parts

    return stream()
