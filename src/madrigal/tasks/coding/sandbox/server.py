"""The parent's side of one fork server, and of the processes that it forks."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from madrigal.types import EngineError

from . import channel
from .guards import Settings
from .records import Limits

# The isolation of -I, but for the hash seed: with a random one, a program that depends on the order of a set
# would get another verdict from another server.
_FLAGS = ("-s", "-S", "-B", "-P")
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}
# The package's own __init__ would import all of Madrigal, so that a hollow one stands in for it.
_BOOT = """
import sys, types
package = types.ModuleType("sandbox")
package.__path__ = [sys.argv[1]]
sys.modules["sandbox"] = package
from sandbox import zygote
package.__path__ = []
zygote.main(sys.argv[2]) if sys.argv[2:] else zygote.probe()
"""
_PATIENCE = 30.0  # seconds for a server to start or to fork, on a machine that is very busy


class ServerLostError(Exception):
    """A fork server that does not answer; a new one may."""


def _command(*arguments: str) -> list[str]:
    return [sys.executable, *_FLAGS, "-c", _BOOT, str(Path(__file__).parent), *arguments]


@functools.cache
def confinement() -> dict[str, bool]:
    """What this machine grants: landlock and seccomp, which the sandbox needs, and namespaces, an extra.

    Tried out in a process of its own.
    """
    try:
        done = subprocess.run(_command(), env=_ENVIRONMENT, capture_output=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return {"landlock": False, "seccomp": False, "namespaces": False}
    granted: dict[str, bool] = json.loads(done.stdout)
    return granted


def _processor_clock(pid: int) -> int:
    """The clock of a process's time on processors, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of ~pid."""
    return (~pid << 3) | 2


class Process:
    """A confined process, from the parent's side: it has a socket to it, and can end it."""

    def __init__(self, server: ForkServer, pid: int, connection: socket.socket) -> None:
        self._server = server
        self._pid = pid
        self._connection = connection
        self._code: int | None = None
        self._seconds = 0.0
        self._clock = _processor_clock(pid)

    def seconds(self) -> float:
        """The processor time that it has used, up to its end."""
        if self._code is None:
            try:
                self._seconds = time.clock_gettime(self._clock)
            except OSError:  # it cannot be asked; contextlib.suppress would cost more than the question
                return self._seconds
        return self._seconds

    def send(self, message: tuple[object, ...], timer: channel.Timer) -> None:
        """Sends it one message.

        Raises:
            LostError: where it does not read.
        """
        channel.send(self._connection, message, timer)

    def receive(self, most: int, timer: channel.Timer) -> tuple[object, ...]:
        """Reads one message of at most `most` bytes.

        Raises:
            LostError: where none comes, or nonsense.
        """
        return channel.receive(self._connection, most, timer)

    def stop(self) -> int:
        """Ends it; its exit code, or minus the signal that it died of. May be called again."""
        if self._code is None:
            self._connection.close()
            self.seconds()
            self._code = self._server.stop(self._pid)
        return self._code


class ForkServer:
    """Owns one zygote: an interpreter that forks a confined process for each request.

    Raises:
        EngineError: where it cannot confine itself, unless allowed to go without.
        ServerLostError: where it does not start.
    """

    def __init__(self, limits: Limits, allow_unconfined: bool) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_PATIENCE)
        with theirs:
            self._zygote = self._start(limits, allow_unconfined, theirs.fileno())
        try:
            granted = json.loads(self._receive())
            if not granted["landlock"] and not allow_unconfined:
                raise EngineError("Expected a fork server under Landlock, but the kernel refused it this time.")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _start(limits: Limits, allow_unconfined: bool, control: int) -> subprocess.Popen[bytes]:
        fields = asdict(limits)
        settings = {name: fields[name] for name in Settings.__annotations__ if name in fields}
        text = json.dumps({**settings, "control": control, "allow_unconfined": allow_unconfined})
        return subprocess.Popen(
            _command(text),
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(control,),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )

    def fork(self) -> Process:
        """Forks a process that waits for its first message.

        Raises:
            ServerLostError: where the server is gone.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = int(self._request(b"fork", theirs.fileno()))
        except BaseException:
            ours.close()
            raise
        return Process(self, pid, ours)

    def stop(self, pid: int) -> int:
        """Kills and reaps one of its processes; its exit code, or minus its signal.

        Raises:
            ServerLostError: where the server is gone.
        """
        return int(self._request(b"stop %d" % pid))

    def _request(self, message: bytes, *descriptors: int) -> bytes:
        try:
            socket.send_fds(self._control, [message], descriptors)
        except OSError as error:
            raise ServerLostError(str(error)) from error
        return self._receive()

    def _receive(self) -> bytes:
        try:
            answer = self._control.recv(256)
        except OSError as error:
            raise ServerLostError(str(error)) from error
        if not answer:
            raise ServerLostError("it ended")
        return answer

    def close(self) -> None:
        """Ends the server; it ends its children. May be called again."""
        self._control.close()
        try:
            self._zygote.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()
