"""Frames of plain values over a stream socket: four bytes of length, then `literals.encode`.

The confined side blocks and uses bare descriptors; the parent's side has a deadline for every byte and a bound for
every length, and turns whatever goes wrong into LostError.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Literal

from .literals import decode, encode

_HEADER = struct.Struct("!I")


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


def send(connection: socket.socket, message: tuple[object, ...], deadline: float) -> None:
    """Writes one message from the parent's side before the deadline, in seconds of time.monotonic().

    Raises:
        LostError: where the other side does not read it.
    """
    data = encode(message)
    try:
        connection.settimeout(_left(deadline))
        connection.sendall(_HEADER.pack(len(data)) + data)
    except TimeoutError:
        raise LostError("late") from None
    except OSError:
        raise LostError("ended") from None


def receive(connection: socket.socket, most: int, deadline: float) -> tuple[object, ...]:
    """Reads one message of at most `most` bytes on the parent's side before the deadline, and trusts none of it.

    Raises:
        LostError: where it is late, cut, too long or no tuple of plain values.
    """
    (length,) = _HEADER.unpack(_take(connection, _HEADER.size, deadline))
    if length > most:
        raise LostError("nonsense")
    try:
        message = decode(_take(connection, length, deadline))
    except ValueError:
        raise LostError("nonsense") from None
    if not isinstance(message, tuple):
        raise LostError("nonsense")
    return message


def _take(connection: socket.socket, length: int, deadline: float) -> bytes:
    parts = []
    try:
        while length:
            connection.settimeout(_left(deadline))
            part = connection.recv(length)
            if not part:
                raise LostError("ended")
            parts.append(part)
            length -= len(part)
    except TimeoutError:
        raise LostError("late") from None
    except OSError:
        raise LostError("ended") from None
    return b"".join(parts)


def _left(deadline: float) -> float:
    """Seconds until the deadline; a socket's timeout of 0 would mean something else."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
