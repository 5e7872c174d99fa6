"""An expert that reads the team's program and advises each agent: any OpenAI-compatible endpoint.

Knows: how the expert is asked, how its JSON is read, how often it is asked again.
Does not know: agents' prompts, rewards.

`openai` is imported here alone, and only when a connection is opened. The key is read from an environment
variable and kept by the client; no record and no message holds it.

References:
    Liu et al., 2025, arXiv:2508.04652: expert guidance as a source of feedback between turns.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from madrigal.tasks.coding.config import ExpertConfig
from madrigal.types import ConfigError, EngineError

MAX_TOKENS = 2048  # the authors' configuration, as are the two numbers below
TEMPERATURE = 0.3
TRIES = 3
SECONDS = 60.0

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
    """Asks for edits, up to three times; where no reply can be read they are empty, and say so.

    >>> consult(lambda question: '{"aux": "no change needed", "main": "sort first"}', "...", "...").main
    'sort first'

    Args:
        ask: sends one question and returns the reply; raises EngineError where there is none.
        pause: waits that many seconds before the next try: 1, then 2.
    """
    reason = ""
    for failed in range(TRIES):
        if failed:
            pause(float(failed))
        try:
            aux, main = read_edits(ask(QUESTION.format(problem=problem.strip(), code=code)))
        except EngineError as error:
            reason = str(error)
            continue
        return Edits(aux, main, failed, reason=reason)
    return Edits(failed=TRIES, answered=False, reason=reason)


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


def open_expert(config: ExpertConfig) -> Expert:
    """Connects to an endpoint; what comes back can be handed to a task.

    Raises:
        ConfigError: if `openai` is not installed, no model is named, or there is no key in the environment.
    """
    try:
        openai: Any = importlib.import_module("openai")
    except ImportError as error:
        raise ConfigError("expert edits need the openai client: pip install 'madrigal[api]'") from error
    key = os.environ.get(config.key_variable, "")
    if not key or not config.model:
        raise ConfigError(
            f"the expert needs a model and a key: got the model {config.model!r} and "
            f"{'a' if key else 'no'} key in {config.key_variable}; set both"
        )
    client = openai.OpenAI(api_key=key, base_url=config.base_url or None, max_retries=0, timeout=SECONDS)

    def ask(question: str) -> str:
        try:
            reply = client.chat.completions.create(
                model=config.model,
                messages=[{"role": "user", "content": question}],
                max_tokens=MAX_TOKENS,
                temperature=TEMPERATURE,
            )
        except openai.OpenAIError as error:
            # The words of the error are left out: some endpoints repeat a part of the key in them.
            raise EngineError(f"the expert {config.model} did not answer: {type(error).__name__}") from None
        return str(reply.choices[0].message.content or "") if reply.choices else ""

    return lambda problem, code: consult(ask, problem, code)
