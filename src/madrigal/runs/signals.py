"""Signals that ask a run to end: Ctrl-C, SIGTERM of a batch system, SIGHUP of a terminal that was closed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Stop = Callable[[], int]
ENDING = (signal.SIGTERM, signal.SIGHUP)
_ended_by = 0  # what `ending_cleanly` was sent: a library's callback may swallow the exit, and the program goes on


class StoppedError(Exception):
    """Somebody asked to stop between two steps of training: in an evaluation, or in the warm start."""


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turns the first signal into a wish to stop after the present step; the second one ends at once.

    Yields:
        The number of the signal that came, 0 while there is none; one whose exit was swallowed counts.
    """
    came = _ended_by

    def ask(signum: int, frame: Any) -> None:
        nonlocal came
        if came:
            end(signum, frame)
        came = signum

    with _handled((signal.SIGINT, *ENDING), ask):
        yield lambda: came


@contextmanager
def postponed() -> Iterator[None]:
    """A signal that comes within is answered when the context is left: what is begun here is known when it ends."""
    came: list[int] = []
    with _handled((signal.SIGINT, *ENDING), lambda signum, frame: came.append(signum)):
        yield
    if came:
        signal.raise_signal(came[0])


def end(signum: int, frame: Any) -> None:
    """Ends the process through every `finally`, so that nothing is left behind."""
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(exit_code(signum))


def exit_code(signum: int) -> int:
    """What a shell reports of a program that a signal ended.

    >>> exit_code(signal.SIGTERM)
    143
    """
    return 128 + signum


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process as Ctrl-C does."""
    global _ended_by

    def end_now(signum: int, frame: Any) -> None:
        global _ended_by
        _ended_by = signum
        end(signum, frame)

    try:
        with _handled(ENDING, end_now):
            yield
    finally:
        _ended_by = 0


@contextmanager
def _handled(signums: tuple[signal.Signals, ...], handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {}
    try:
        for signum in signums:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup
                before[signum] = signal.signal(signum, handler)
    except ValueError:  # not the main thread: whoever owns it also owns its signals
        pass
    try:
        yield
    finally:
        for signum, former in before.items():
            signal.signal(signum, former)
