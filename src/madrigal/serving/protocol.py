"""The chat completions of OpenAI's interface: from a body to a record, and from answers to what a client reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from madrigal.runs.files import parse_json
from madrigal.settings import Sampling
from madrigal.types import ROLES, ConfigError, MadrigalError, Message, Messages

T = TypeVar("T")
MOST_CHOICES = 16
MOST_STOPS = 16
SPEAKERS = tuple(name for name, role in ROLES.items() if role != "tool")
# Fields that change what is answered and are not supported, with the values that ask for nothing.
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
_TYPES = {HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error"}


class RefusedError(MadrigalError):
    """A request that is not answered: the status, and what OpenAI's clients read of an error.

    Attributes:
        param: the field that is at fault.
        code: a word for programs.
        retry_after: seconds after which it may be asked again.
    """

    def __init__(
        self,
        message: str,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asks for; None is what the model does by itself.

    Attributes:
        n: answers that are wanted.
        stop: texts before which every answer is cut.
    """

    model: str
    messages: Messages
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def sampling(self, own: Sampling) -> Sampling:
        """How answers are drawn: as the model's own settings say, but for what the request says.

        The length limit can be lowered, not raised. A temperature of 0 takes the most likely tokens.
        """
        drawn = self.temperature is not None and self.temperature > 0
        return Sampling(
            temperature=self.temperature if self.temperature is not None and drawn else own.temperature,
            top_p=own.top_p if self.top_p is None else self.top_p,
            top_k=own.top_k,
            max_new_tokens=min(own.max_new_tokens, self.max_tokens or own.max_new_tokens),
            greedy=own.greedy if self.temperature is None else not drawn,
        )


def read_fields(body: bytes) -> dict[str, Any]:
    """The fields of a body.

    Raises:
        RefusedError: if it holds no JSON object.
    """
    try:
        fields = parse_json(body, "body")
    except ConfigError as error:
        raise RefusedError(str(error)) from error
    if not isinstance(fields, dict):
        raise RefusedError(f"body: expected a JSON object, got {type(fields).__name__}")
    return fields


def read_chat(fields: Mapping[str, Any], *, blank: bool = False, roles: Sequence[str] = SPEAKERS) -> ChatRequest:
    """The request in a body's fields; those that are not known are ignored.

    Args:
        blank: whether messages may hold no text.
        roles: that messages may have.

    Raises:
        RefusedError: saying what was expected and what came.
    """
    for name, harmless in HARMLESS.items():
        if (value := fields.get(name)) is not None and value not in harmless:
            raise RefusedError(f"{name}: not supported here; leave it out", param=name, code="unsupported_parameter")
    limit = "max_tokens" if fields.get("max_completion_tokens") is None else "max_completion_tokens"
    options = _read(fields, "stream_options", dict, {}, "an object")
    return ChatRequest(
        model=_model(fields),
        messages=_messages(fields, blank, roles),
        n=_within(fields, "n", int, 1, MOST_CHOICES) or 1,
        stream=_read(fields, "stream", bool, False, "true or false"),
        include_usage=_read(options, "include_usage", bool, False, "true or false"),
        temperature=_within(fields, "temperature", float, 0, 2),
        top_p=_within(fields, "top_p", float, 1e-6, 1),
        max_tokens=_within(fields, limit, int, 1, 2**31),
        stop=_stops(fields),
        seed=_within(fields, "seed", int, -(2**63), 2**64),
    )


def _read(fields: Mapping[str, Any], name: str, kind: type[T], default: T, expected: str) -> T:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise RefusedError(f"{name}: expected {expected}, got {value!r:.60}", param=name)
    return value


def _within(fields: Mapping[str, Any], name: str, kind: Callable[[Any], T], low: float, high: float) -> T | None:
    value = fields.get(name)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or (kind is int and value != int(value)):
        whole = "a whole number" if kind is int else "a number"
        raise RefusedError(f"{name}: expected {whole} of {low:g} to {high:g}, got {value!r:.60}", param=name)
    return kind(value)


def _model(fields: Mapping[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise RefusedError("model: expected an id of GET /v1/models, got none", param="model")
    return model


def _stops(fields: Mapping[str, Any]) -> tuple[str, ...]:
    stop = fields.get("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise RefusedError(f"stop: expected a text or up to {MOST_STOPS} texts, none of them empty", param="stop")
    return tuple(stops)


def _messages(fields: Mapping[str, Any], blank: bool, roles: Sequence[str]) -> Messages:
    given = fields.get("messages")
    if not isinstance(given, list) or not given:
        raise RefusedError("messages: expected a list with at least one message", param="messages")
    return tuple(_message(one, f"messages[{place}]", blank, roles) for place, one in enumerate(given))


def _message(given: Any, where: str, blank: bool, roles: Sequence[str]) -> Message:
    if not isinstance(given, dict) or given.get("role") not in roles:
        got = repr(given.get("role")) if isinstance(given, dict) else type(given).__name__
        raise RefusedError(f"{where}: expected a role of {', '.join(roles)}, got {got:.60}", param="messages")
    content = given.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(map(_is_text, parts)):
        raise RefusedError(f"{where}: expected a text, or parts of type text", param="messages")
    text = "".join(part["text"] for part in parts)
    if not (blank or text.strip()):
        raise RefusedError(f"{where}: expected a text, got an empty one", param="messages")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RefusedError(f"{where}: expected Unicode, got half of a surrogate pair", param="messages") from error
    return Message(ROLES[given["role"]], text)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def until_stop(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of some texts that is in it.

    >>> until_stop("one, two. three", [".", ","]), until_stop("one", ["two"])
    ('one', 'one')
    """
    return text[: min((place for one in stop if (place := text.find(one)) >= 0), default=len(text))]


def certain(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """What `until_stop` will leave of a text that still grows, as far as that is known; and whether it is all.

    >>> certain("one, tw", ["two"]), certain("one, two. ", ["two"]), certain("one", [])
    (('one, ', False), ('one, ', True), ('one', False))
    """
    cut = until_stop(text, stop)
    longest = min(len(text), max(map(len, stop), default=1) - 1)
    starts = range(len(text) - longest, len(text))
    open_from = next((n for n in starts if any(one.startswith(text[n:]) for one in stop)), len(text))
    return cut[:open_from], len(cut) < len(text) and len(cut) <= open_from


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were read and written."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion)

    @property
    def record(self) -> dict[str, int]:
        """The usage as JSON."""
        total = self.prompt + self.completion
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": total}


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer.

    Attributes:
        reasoning: what led to it.
        extra: what no client of OpenAI's looks for, under the name "madrigal".
        calls: of functions, in the form of OpenAI's interface.
    """

    text: str
    finish: Literal["stop", "length", "tool_calls"] = "stop"
    reasoning: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    calls: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """What all that is sent to one request has in common."""

    id: str
    model: str
    created: int

    def whole(self, choices: Sequence[Choice], usage: Usage, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        return {
            **self._head("chat.completion", list(map(_choice, range(len(choices)), choices))),
            "usage": usage.record,
            "madrigal": dict(extra),
        }

    def chunk(
        self, index: int, delta: Mapping[str, Any], finish: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A part of a stream; `finish` says why the answer of this number has ended."""
        choice = {"index": index, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        return self._head("chat.completion.chunk", [choice]) | ({"madrigal": dict(extra)} if extra else {})

    def last(self, usage: Usage) -> dict[str, Any]:
        """The end of a stream whose usage was asked for."""
        return self._head("chat.completion.chunk", []) | {"usage": usage.record}

    def _head(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.calls:
        message |= {"content": choice.text or None, "tool_calls": list(choice.calls)}
    return {
        "index": index,
        "message": message | ({"reasoning_content": choice.reasoning} if choice.reasoning else {}),
        "finish_reason": choice.finish,
        "logprobs": None,
        "madrigal": dict(choice.extra),
    }


def model_record(name: str, created: int) -> dict[str, Any]:
    """A model as `GET /v1/models` lists it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "madrigal"}
