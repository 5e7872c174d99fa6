"""Frames of plain values over a stream socket: four bytes of length, then `literals.encode`.

The confined side blocks and uses bare descriptors; the parent's side has a timer for every byte and a bound for
every length, and turns whatever goes wrong into LostError.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, TypeVar

from .literals import decode, encode

SHORTEST_WAIT = 0.002  # seconds
_HEADER = struct.Struct("!I")
T = TypeVar("T")


class LostError(Exception):
    """A confined process that will not answer any more: it is late, its end is closed, or it talks nonsense."""

    def __init__(self, how: Literal["late", "ended", "nonsense"]) -> None:
        super().__init__(how)
        self.how: Literal["late", "ended", "nonsense"] = how


def send_frame(descriptor: int, message: tuple[object, ...], most: int = 2**31) -> None:
    """Writes one message from the confined side.

    Raises:
        NotPlainError: before anything is written, where the message holds what may not cross.
    """
    data = encode(message, most)
    rest = memoryview(_HEADER.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive_frame(descriptor: int) -> tuple[object, ...]:
    """Reads one message on the confined side, from the parent, which is trusted.

    Raises:
        EOFError: where the parent has closed its end.
    """
    (length,) = _HEADER.unpack(_read(descriptor, _HEADER.size))
    message = decode(_read(descriptor, length))
    if not isinstance(message, tuple):
        raise ValueError(f"expected a tuple, got {type(message).__name__}")
    return message


def _read(descriptor: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(descriptor, length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


class Timer(Protocol):
    """Says how many seconds are left to wait at most before it is to be asked again; 0 or less: no more."""

    def left(self) -> float: ...


def send(connection: socket.socket, message: tuple[object, ...], timer: Timer) -> None:
    """Writes one message from the parent's side while the timer has time left.

    Raises:
        LostError: where the other side does not read it.
    """
    data = encode(message)
    rest = memoryview(_HEADER.pack(len(data)) + data)
    while rest:
        rest = rest[_in_time(connection, timer, partial(connection.send, rest)) :]


def receive(connection: socket.socket, most: int, timer: Timer) -> tuple[object, ...]:
    """Reads one message of at most `most` bytes on the parent's side while there is time, and trusts none of it.

    Raises:
        LostError: where it is late, cut, too long or no tuple of plain values.
    """
    (length,) = _HEADER.unpack(_take(connection, _HEADER.size, timer))
    if length > most:
        raise LostError("nonsense")
    try:
        message = decode(_take(connection, length, timer))
    except ValueError:
        raise LostError("nonsense") from None
    if not isinstance(message, tuple):
        raise LostError("nonsense")
    return message


def _take(connection: socket.socket, length: int, timer: Timer) -> bytes:
    parts = []
    while length:
        part = _in_time(connection, timer, partial(connection.recv, length))
        if not part:
            raise LostError("ended")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _in_time(connection: socket.socket, timer: Timer, act: Callable[[], T]) -> T:
    """Sends or receives once; what is ready is taken even where the time has run out meanwhile."""
    while (left := timer.left()) > 0:
        try:
            connection.settimeout(max(left, SHORTEST_WAIT))
            return act()
        except TimeoutError:
            continue
        except OSError:
            raise LostError("ended") from None
    raise LostError("late")
