"""An expert that reads the team's program and advises each agent: any OpenAI-compatible endpoint.

The key is read from an environment variable when the endpoint is opened; no record and no message holds it.

References:
    Liu et al., 2025, arXiv:2508.04652: expert guidance as a source of feedback between turns.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from madrigal.tasks.coding.config import ExpertConfig
from madrigal.tasks.endpoint import EndpointError, post_json, tries
from madrigal.types import ConfigError, EngineError

MAX_TOKENS = 2048  # the authors' configuration, as are the two numbers below
TEMPERATURE = 0.3
SECONDS = 60.0  # for one whole answer
LARGEST = 1 << 20  # bytes of an answer
ENDPOINT = "https://api.openai.com/v1"  # where neither the settings nor OPENAI_BASE_URL name one

QUESTION = """\
Two programmers solve one problem together: a helper writes the function aux, and a main programmer writes the
function that the problem asks for and may call aux.

Problem:
{problem}

Their program:
{code}

Answer with one JSON object and nothing else: {{"aux": "...", "main": "..."}}. In each field give that
programmer the concrete edits, or the whole corrected function, or "no change needed"."""


@dataclass(frozen=True, slots=True)
class Edits:
    """What the expert advises, and what it took to get it.

    Attributes:
        aux: advice for the helper; "" where none came.
        main: advice for the main agent; "" where none came.
        failed: how many tries gave nothing; never hidden, so that a dead endpoint shows in the metrics.
        answered: whether any try gave advice.
        reason: why the last failed try failed; "" where none did.
    """

    aux: str = ""
    main: str = ""
    failed: int = 0
    answered: bool = True
    reason: str = ""


Expert = Callable[[str, str], Edits]
Ask = Callable[[str], str]


def consult(ask: Ask, problem: str, code: str, pause: Callable[[float], None] = time.sleep) -> Edits:
    """Asks for edits, again where no reply can be read; where none can at all they are empty, and say so.

    >>> consult(lambda question: '{"aux": "no change needed", "main": "sort first"}', "...", "...").main
    'sort first'

    Args:
        ask: sends one question and returns the reply; raises EngineError where there is none.
        pause: waits that many seconds before the next try; see `tries`.
    """
    reason, failed = "", 0
    for failed in tries(SECONDS, pause):
        try:
            aux, main = read_edits(ask(QUESTION.format(problem=problem.strip(), code=code)))
        except EngineError as error:
            reason = str(error)
            continue
        return Edits(aux, main, failed, reason=reason)
    return Edits(failed=failed + 1, answered=False, reason=reason)


def read_edits(reply: str) -> tuple[str, str]:
    """Finds the first JSON object with the texts `aux` and `main` in a reply, whatever stands around it.

    Raises:
        EngineError: if there is none.
    """
    decoder = json.JSONDecoder()
    start = reply.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(reply, start)
        except (json.JSONDecodeError, RecursionError):
            value = None
        match value:
            case {"aux": str(aux), "main": str(main)}:
                return aux, main
        start = reply.find("{", start + 1)
    raise EngineError(f"expected JSON with the texts aux and main from the expert, got {reply[:80]!r}")


def open_expert(config: ExpertConfig, pause: Callable[[float], None] = time.sleep) -> Expert:
    """What asks an endpoint; it can be handed to a task.

    Args:
        pause: waits between tries; see `consult`.

    Raises:
        ConfigError: if no model is named, or there is no usable key in the environment.
    """
    key = os.environ.get(config.key_variable, "").strip()
    if not key or not config.model:
        raise ConfigError(
            f"the expert needs a model and a key: got the model {config.model!r} and "
            f"{'a' if key else 'no'} key in {config.key_variable}; set both"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"expected a key of plain ASCII characters in {config.key_variable}; set it again")
    url = f"{(config.base_url or os.environ.get('OPENAI_BASE_URL', '') or ENDPOINT).rstrip('/')}/chat/completions"
    headers = {"Authorization": f"Bearer {key}"}

    def ask(question: str) -> str:
        body = {
            "model": config.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": MAX_TOKENS,
            "temperature": TEMPERATURE,
        }
        try:
            status, content = post_json(url, body, seconds=SECONDS, largest=LARGEST, headers=headers)
        except EndpointError as error:
            raise EngineError(f"the expert {config.model} did not answer: {error}") from None
        if status != 200:
            # The words of the refusal are left out: some endpoints repeat a part of the key in them.
            raise EngineError(f"the expert {config.model} did not answer: status {status}")
        return read_completion(content)

    return lambda problem, code: consult(ask, problem, code, pause)


def read_completion(content: bytes) -> str:
    """The text of the first choice in a chat completion.

    >>> read_completion(b'{"choices": [{"message": {"content": "sort first"}}]}')
    'sort first'

    Raises:
        EngineError: if it is anything else: a page of a proxy, another kind of JSON, no text.
    """
    try:
        reply: Any = json.loads(content)
    except (ValueError, RecursionError):
        reply = None
    match reply:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
    raise EngineError(f"expected a chat completion with a text from the expert, got {content[:60]!r}")
