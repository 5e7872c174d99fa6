"""The candidate, in a confined process: runs a program and answers calls of its entry point.

It is at the mercy of the program that it runs: all it can send is a value or an error, and any of them the program
could have returned or raised honestly. Verdicts are made elsewhere.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterable, Iterator
from typing import Any

from .attempt import attempt, fresh_module
from .channel import receive_frame, send_frame
from .literals import NotPlainError, encode

ROOM = 64  # bytes that a frame needs beside the value that it carries
LAZY: tuple[type[Iterable[Any]], ...] = (Iterator, type({}.keys()), type({}.values()), type({}.items()))


def serve_candidate(descriptor: int, most: int, prelude: str, source: str, entry: str) -> None:
    """Loads a program, and answers calls until the parent goes away; an answer takes at most `most` bytes."""
    module = fresh_module("candidate")
    problem = attempt(lambda: _define(module, prelude, source, entry))
    send_frame(descriptor, ("raised", *problem) if problem else ("loaded",))
    while not problem:
        number, *question = receive_frame(descriptor)
        _answer(descriptor, most, vars(module)[entry], number, *question)


def _define(module: types.ModuleType, prelude: str, source: str, entry: str) -> None:
    exec(compile(prelude, "<prelude>", "exec", dont_inherit=True), vars(module))
    exec(compile(source, "<program>", "exec", dont_inherit=True), vars(module))
    if entry not in vars(module):
        raise NameError(f"name {entry!r} is not defined")


def _answer(descriptor: int, most: int, entry: Any, number: object, arguments: Any, keywords: Any, watch: Any) -> None:
    def call() -> None:
        before = encode((arguments, keywords)) if watch else b""
        value, kind = entry(*arguments, **keywords), "value"
        try:
            if watch and isinstance(value, LAZY):
                value, kind = list(itertools.islice(value, most)), "items"
            after = encode((arguments, keywords)) if watch else b""
            changed = (arguments, keywords) if before != after else None
            send_frame(
                descriptor, (number, kind, value, changed), most + ROOM + (min(most, len(after)) if changed else 0)
            )
        except NotPlainError as error:
            send_frame(descriptor, (number, "foreign", f"returned {error}"))

    problem = attempt(call)
    if problem:
        send_frame(descriptor, (number, "raised", *problem))
