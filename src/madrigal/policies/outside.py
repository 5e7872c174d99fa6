"""Policies that are no models of this process: an endpoint, or a function of Python. They speak and do not learn.

They are asked in messages and answer in words. Their completions hold no token ids and no log-probs, so that no learner
and no critic can take them for something to learn from; how many tokens an endpoint counted stands in
`Completion.usage`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from madrigal.policies.remote import RemoteVoice, check_remote
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.task import explain
from madrigal.settings import PolicyConfig, Sampling
from madrigal.tasks.fields import check_characters
from madrigal.tasks.own import IN_MEMORY, CustomTask, module_object
from madrigal.tasks.tools.calls import in_words
from madrigal.types import Completion, ConfigError, EngineError, Messages, TaskError

Answer = Callable[[Messages, int], str]
POINTER = "outside.json"  # what a saved team has in place of weights
_HANDED_OVER: dict[str, Answer] = {}  # functions of this process, by the name that settings have for them


class Voice(Protocol):
    """What answers for a policy."""

    def answer(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[Completion]:
        """Answers in the order of the requests."""


@dataclass(frozen=True, eq=False)
class OutsidePolicy:
    """Who sits in a seat without weights of ours.

    Attributes:
        name: how logs call it.
        voice: what answers for it.
        config: the settings that it was made by.
    """

    name: str
    voice: Voice
    config: PolicyConfig

    trainable: ClassVar[bool] = False

    def speaker(self, sampling: Sampling) -> Generate:
        """Answers requests of the seats that it sits in."""
        return lambda requests: self.voice.answer(requests, sampling)

    def save(self, folder: Path) -> None:
        """Writes who it is; the key is no setting."""
        folder.mkdir(parents=True, exist_ok=True)
        record = {"remote": asdict(self.config.remote)} if self.config.remote.url else {"script": self.config.script}
        (folder / POINTER).write_text(json.dumps(record, indent=2) + "\n")


@dataclass(frozen=True)
class Script:
    """Answers by a function of the user's own, one request after the other.

    Attributes:
        where: how errors name it.
        function: is called with the messages that the agent is shown, and a seed of this answer alone.
    """

    where: str
    function: Answer

    def answer(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[Completion]:
        """Answers in the order of the requests; sampling says nothing to a function.

        Raises:
            EngineError: in one line, if it raises or returns anything but a text.
        """
        return [self._completion(request) for request in requests]

    def _completion(self, request: GenerationRequest) -> Completion:
        began = time.perf_counter()
        try:
            text: Any = self.function(in_words(request.prompt), request.seed)
        except (Exception, SystemExit) as error:
            raise EngineError(f"script {self.where}, agent {request.agent}: {explain(error)}") from error
        if not isinstance(text, str):
            raise EngineError(f"script {self.where}, agent {request.agent}: expected a text, got {text!r:.60}")
        try:
            check_characters(text, f"script {self.where}: its answer")
        except TaskError as error:
            raise EngineError(str(error)) from error
        return Completion(text, seconds=time.perf_counter() - began)


def scripted(function: Answer) -> str:
    """What `script` is to be set to so that a function of this process speaks; in another it has to be said again.

    >>> scripted(lambda messages, seed: "yes")
    'in-memory:lambda'
    """
    name = re.sub(r"\W", "", getattr(function, "__name__", type(function).__name__)) or "function"
    names = (name, *(f"{name}-{n}" for n in range(2, len(_HANDED_OVER) + 3)))
    free = next(one for one in names if _HANDED_OVER.get(one, function) is function)
    _HANDED_OVER[free] = function
    return f"{IN_MEMORY}:{free}"


def load_script(path: str) -> Script:
    """The function of a setting: "file.py:function", "package.module:function" or one of this process.

    Raises:
        ConfigError: if there is none.
    """
    module, _, name = path.rpartition(":")
    if not module:
        raise ConfigError(f"script: expected file.py:function or module:function, got {path!r}")
    found: Any = _HANDED_OVER.get(name)
    if module != IN_MEMORY:
        found = module_object(CustomTask(path), name, "script")
    elif found is None:
        raise ConfigError(
            f"script: the function {name} was handed over in Python and lies in no file; hand it over again: "
            "script=madrigal.scripted(function)"
        )
    if not callable(found):
        raise ConfigError(f"script: expected a function {name!r} in {module}, got {found!r:.60}")
    return Script(path, found)


def load_outside(name: str, config: PolicyConfig) -> OutsidePolicy:
    """A policy by settings that name an endpoint or a function; nobody is asked yet.

    Raises:
        ConfigError: if there is no such function, or the key cannot be used.
    """
    voice = RemoteVoice(config.remote) if config.remote.url else load_script(config.script)
    return OutsidePolicy(name, voice, config)


def check_outside(config: PolicyConfig) -> None:
    """Looks whether who is to speak is there, before any weight is loaded.

    Raises:
        ConfigError, EngineError: one line each.
    """
    if config.remote.url:
        check_remote(config.remote)
    else:
        load_script(config.script)
