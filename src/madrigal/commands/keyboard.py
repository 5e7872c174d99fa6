"""Answers that are typed, or read from a pipe: a speaker like any other.

Knows: lines of the standard input, and how a question is put. Does not know: seats, tasks, who else speaks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from madrigal.commands.scene import Scene
from madrigal.rollouts.play import Speaker, Utterance
from madrigal.types import Completion, ConfigError

END = "."


def keyboard(scene: Scene) -> Speaker:
    """The speaker at the keyboard: shown exactly what an agent would be shown, one observation after the other.

    It raises EOFError where the input ends before an answer has begun.
    """

    def speak(wanted: Sequence[Utterance]) -> list[Completion]:
        return [_ask(utterance, scene) for utterance in wanted]

    return speak


def _ask(utterance: Utterance, scene: Scene) -> Completion:
    began = time.perf_counter()
    scene.heading(f"You are {utterance.agent}. You see:")
    scene.messages(utterance.prompt)
    scene.heading(
        f"Type your answer; end it with a line that holds a single {END} or with Ctrl-D (the end of input). To leave: "
        "Ctrl-C, or Ctrl-D at once."
    )
    while not (text := _answer()).strip():
        scene.heading("An empty answer? Type y to give it, anything else to write another.")
        if _line().strip().lower() in ("y", "yes"):
            break
    return Completion(text, seconds=time.perf_counter() - began)


def _answer() -> str:
    """Lines up to the one that ends an answer, or to the end of input."""
    lines = [_line()]
    try:
        while lines[-1] != END:
            lines.append(_line())
    except EOFError:
        return "\n".join(lines)
    return "\n".join(lines[:-1])


def _line() -> str:
    try:
        line = sys.stdin.readline() if sys.stdin else ""
    except UnicodeDecodeError as error:
        raise ConfigError(f"play: expected an answer in {error.encoding}, got bytes that are none: {error}") from error
    if not line:
        raise EOFError
    # Where the locale is no UTF-8, bytes that are none come as lone surrogates, which nothing could write again.
    return line.removesuffix("\n").encode("utf-8", "replace").decode()
