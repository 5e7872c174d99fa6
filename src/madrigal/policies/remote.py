"""An endpoint of OpenAI's protocol that speaks for seats: what it is asked, at what pace, and what is kept.

    POST /chat/completions    {"model", "messages": [{"role", "content"}], "max_tokens", "temperature", "top_p", "seed"}
    POST /responses           {"model", "input": [{"role", "content"}], "max_output_tokens", "temperature", "top_p"}

What may pass (no answer, a busy or broken endpoint, half an answer, a page of HTML) is asked again, see
`tasks.endpoint.tries`; a request that is refused stays wrong.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from madrigal.policies.engines.client import SECRET, Client
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import RemoteConfig, Sampling
from madrigal.tasks.endpoint import GivenUpError, retried
from madrigal.tasks.tools.calls import in_words
from madrigal.types import Completion, EngineError, Messages, Usage

MINUTE, MILLION = 60.0, 1e6
SEEDS = 2**31  # more are not taken by all servers
CUT = ("length", "max_output_tokens")  # why an answer was cut off, in either protocol
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What an endpoint answered, as it is kept.

    Attributes:
        prompt_tokens, tokens: as it counted; 0 where it does not say.
        seconds: how long it took.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0


class RemoteVoice:
    """Asks one endpoint, many requests at a time."""

    def __init__(
        self,
        config: RemoteConfig,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the key; nobody is asked yet.

        Args:
            pause: waits that many seconds, between tries and for the pace.
            clock: the time in seconds.

        Raises:
            ConfigError: if the key cannot stand in a header.
        """
        self.config = config
        self.client = _Paced(config, Pace(config.per_minute, pause, clock), pause)
        self.cache = Cache(Path(config.cache).expanduser()) if config.cache else None
        self.pool = ThreadPoolExecutor(config.connections, "remote")
        self.path, self.body, self.read = APIS[config.api]

    def answer(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[Completion]:
        """Answers in the order of the requests.

        Raises:
            EngineError: if the endpoint refuses, or all tries fail.
        """
        coming = [self.pool.submit(self._answer, request, sampling) for request in requests]
        try:
            for future in wait(coming, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in coming]
        finally:
            for future in coming:
                future.cancel()

    def _answer(self, request: GenerationRequest, sampling: Sampling) -> Completion:
        body, failed, kept = self.body(self.config.model, request, sampling), 0, None
        if self.cache:
            key = self.cache.key(self.client.url + self.path, body)
            kept = self.cache.find(key)
        if kept is None:
            began = time.perf_counter()
            found, failed = self.client.ask_counting(self.path, body, self.read)
            said = replace(found, seconds=time.perf_counter() - began)
            if self.cache:
                self.cache.keep(key, said)
        else:
            said = kept
        usage = Usage(said.prompt_tokens, said.tokens, 0.0 if kept else self._cost(said), kept is not None)
        return Completion(said.text, finish=said.finish, seconds=said.seconds, retries=failed, usage=usage)

    def _cost(self, said: Said) -> float:
        config = self.config
        return (said.prompt_tokens * config.prompt_price + said.tokens * config.answer_price) / MILLION


class Pace:
    """Lets at most so many requests begin in any minute, whichever thread they come from."""

    def __init__(
        self,
        per_minute: int,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`per_minute` of 0 lets all begin at once."""
        self.per_minute, self.pause, self.clock = per_minute, pause, clock
        self.begun, self.lock = deque[float](maxlen=per_minute), Lock()

    def __call__(self) -> None:
        """Waits until the next one may begin."""
        if not self.per_minute:
            return
        with self.lock:
            early = self.begun[0] + MINUTE - self.clock() if len(self.begun) == self.per_minute else 0.0
            if early > 0:
                self.pause(early)
            self.begun.append(self.clock())


class _Paced(Client):
    """A client whose every try waits for its turn."""

    def __init__(self, config: RemoteConfig, pace: Pace, pause: Callable[[float], None]) -> None:
        super().__init__(config, pause)
        self.pace = pace

    def exchange(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        self.pace()
        return super().exchange(path, body)


@dataclass(frozen=True, slots=True)
class Cache:
    """Answers by what was asked, one file each; a key of an endpoint is in none of them."""

    folder: Path

    def key(self, url: str, body: Body) -> str:
        """A digest of all that decides the answer: address, model, messages, sampling and seed."""
        return hashlib.sha256(json.dumps([url, body], sort_keys=True).encode()).hexdigest()

    def find(self, key: str) -> Said | None:
        """The answer that is kept; None where there is none, or its file is damaged."""
        try:
            return Said(**json.loads(self._file(key).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, key: str, said: Said) -> None:
        """Writes an answer beside its place and renames it.

        Raises:
            EngineError: if it cannot be written.
        """
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".", delete=False) as draft:
                json.dump(asdict(said), draft)
            Path(draft.name).replace(file)
        except OSError as error:
            raise EngineError(
                f"remote.cache: {file} could not be written ({error}); make room, or name another"
            ) from error

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def check_remote(config: RemoteConfig, pause: Callable[[float], None] = time.sleep) -> None:
    """Looks whether an endpoint is there and takes the key; one whose answers are kept may be gone.

    Raises:
        ConfigError, EngineError: one line each.
    """
    client = Client(config, pause)
    if config.cache:
        return
    try:
        (status, content), _ = retried(lambda: client.exchange("/models", None), config.seconds, pause)
    except GivenUpError as error:
        raise EngineError(f"{config.name}: {error}") from error
    if status in SECRET:  # any other status says that somebody is there; not all endpoints have a list of models
        raise EngineError(f"{config.name}: {client.reason(status, content)}")


def _drawn(request: GenerationRequest, sampling: Sampling) -> Body:
    greedy = sampling.greedy or request.greedy
    # The protocol has no top_k, but many servers know it; one that does not says so.
    more = {"top_k": sampling.top_k} if sampling.top_k else {}
    return {"temperature": 0.0 if greedy else sampling.temperature, "top_p": sampling.top_p, **more}


def _shown(messages: Messages) -> list[Body]:
    return [{"role": message.role, "content": message.content} for message in in_words(messages)]


def _chat_body(model: str, request: GenerationRequest, sampling: Sampling) -> Body:
    limit = {"max_tokens": sampling.max_new_tokens, "seed": request.seed % SEEDS}
    return {"model": model, "messages": _shown(request.prompt), **limit, **_drawn(request, sampling)}


def _responses_body(model: str, request: GenerationRequest, sampling: Sampling) -> Body:
    limit = {"max_output_tokens": sampling.max_new_tokens}
    return {"model": model, "input": _shown(request.prompt), **limit, **_drawn(request, sampling)}


def read_chat(reply: Any) -> Said:
    """What a chat completion says.

    >>> read_chat({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}})
    Said(text='hi', finish='stop', prompt_tokens=3, tokens=0, seconds=0.0)

    Raises:
        ValueError: with what was expected and what came.
    """
    match reply:
        case {"choices": [{"message": {"content": str(text)}, **choice}, *_]}:
            return _said(text, choice.get("finish_reason"), reply)
        case {"choices": [{"message": {"content": None}, "finish_reason": "length" | "content_filter" as why}, *_]}:
            return _said("", why, reply)  # cut off, or held back, before the first word
    raise ValueError(f"a chat completion with a text, got {str(reply)[:60]!r}")


def read_response(reply: Any) -> Said:
    """The same of a reply of the responses API.

    >>> read_response({"output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]})
    Said(text='hi', finish='stop', prompt_tokens=0, tokens=0, seconds=0.0)

    Raises:
        ValueError: with what was expected and what came.
    """
    match reply:
        case {"output": [*items]} if all(isinstance(item, dict) for item in items):
            content = [item.get("content") or [] for item in items if item.get("type") == "message"]
            texts = [part["text"] for parts in content for part in parts if part.get("type") == "output_text"]
            why = (reply.get("incomplete_details") or {}).get("reason")
            if all(isinstance(text, str) for text in texts) and (texts or why):
                return _said("".join(texts), why, reply)
    raise ValueError(f"a response with a text, got {str(reply)[:60]!r}")


def _said(text: str, why: Any, reply: Mapping[str, Any]) -> Said:
    """A text without halves of characters, which no tokenizer reads, and the counts of either protocol."""
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, answer = (
        next((counts[name] for name in names if type(counts.get(name)) is int and counts[name] >= 0), 0)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    return Said(text.encode(errors="replace").decode(), "length" if why in CUT else "stop", prompt, answer)


APIS: dict[str, tuple[str, Callable[[str, GenerationRequest, Sampling], Body], Callable[[Any], Said]]] = {
    "chat": ("/chat/completions", _chat_body, read_chat),
    "responses": ("/responses", _responses_body, read_response),
}
