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

CLIP = 300  # characters of a foreign text
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
    _write(partial(os.write, descriptor), encode(message, most))


def receive_frame(descriptor: int) -> tuple[object, ...]:
    """Reads one message on the confined side, from the parent, which is trusted.

    Raises:
        EOFError: where the parent has closed its end.
    """
    return _read_message(partial(os.read, descriptor))


class Timer(Protocol):
    """Says how many seconds are left to wait at most before it is to be asked again; 0 or less: no more."""

    def left(self) -> float: ...


def send(connection: socket.socket, message: tuple[object, ...], timer: Timer) -> None:
    """Writes one message from the parent's side while the timer has time left.

    Raises:
        LostError: where the other side does not read it.
    """
    _write(lambda rest: _in_time(connection, timer, partial(connection.send, rest)), encode(message))


def receive(connection: socket.socket, most: int, timer: Timer) -> tuple[object, ...]:
    """Reads one message of at most `most` bytes on the parent's side while there is time, and trusts none of it.

    Raises:
        LostError: where it is late, cut, too long or no tuple of plain values.
    """
    try:
        return _read_message(lambda length: _in_time(connection, timer, partial(connection.recv, length)), most)
    except EOFError:
        raise LostError("ended") from None
    except ValueError:
        raise LostError("nonsense") from None


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


def _write(write: Callable[[memoryview], int], data: bytes) -> None:
    rest = memoryview(_HEADER.pack(len(data)) + data)
    while rest:
        rest = rest[write(rest) :]


def _read_message(read: Callable[[int], bytes], most: int = 2**32) -> tuple[object, ...]:
    """Reads one message.

    Raises:
        EOFError: where the other side has closed its end.
        ValueError: where the message is longer than `most` bytes, or no tuple of plain values.
    """
    (length,) = _HEADER.unpack(_read(read, _HEADER.size))
    if length > most:
        raise ValueError(f"expected at most {most} bytes, got {length}")
    message = decode(_read(read, length))
    if not isinstance(message, tuple):
        raise ValueError(f"expected a tuple, got {type(message).__name__}")
    return message


def _read(read: Callable[[int], bytes], length: int) -> bytes:
    parts = []
    while length:
        part = read(length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
