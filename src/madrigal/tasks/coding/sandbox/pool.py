"""The sandbox itself: a pool of fork servers that many threads may use at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from madrigal.types import EngineError, TaskError

from .judge import ProgramError, call, judge
from .records import Limits, Program, Verdict
from .server import ForkServer, ServerLostError, confinement

T = TypeVar("T")


class Worker:
    """Owns one fork server: starts it at first use, and again when it died."""

    def __init__(self, limits: Limits, allow_unconfined: bool) -> None:
        self._limits = limits
        self._allow_unconfined = allow_unconfined
        self._server: ForkServer | None = None

    def run(self, work: Callable[[Limits, ForkServer], T]) -> T:
        """Does something with a program, if need be on a new server.

        Raises:
            EngineError: where the new server died as well.
        """
        for _ in range(2):
            try:
                self._server = self._server or ForkServer(self._limits, self._allow_unconfined)
                return work(self._limits, self._server)
            except ServerLostError:
                self.close()
            except (TaskError, ProgramError):  # of a test or program that cannot be run, after a whole exchange
                raise
            except BaseException:
                self.close()  # an exchange that was cut short leaves an answer in the pipe
                raise
        raise EngineError("Expected the sandbox's fork server to answer, but two in a row died or never started.")

    def close(self) -> None:
        """Ends the server. May be called again."""
        if self._server is not None:
            self._server.close()
            self._server = None


class Sandbox:
    """Runs programs that a model wrote, confined, and says what came of each test.

        with Sandbox(workers=2) as sandbox:
            verdicts = sandbox.run(Program("def double(x): return 2 * x", "double", (CallTest("(4,)", "8"),)))

    Threads may share one; a process forked from this one may not, and makes its own. An open one holds its processes:
    close it, or use it in a with statement.

    Raises:
        EngineError: on a machine without Landlock or seccomp, unless allow_unconfined; then only limits and the
            separation of processes hold, and hostile code can read and write what this user can.
    """

    def __init__(self, limits: Limits = Limits(), *, workers: int = 2, allow_unconfined: bool = False) -> None:  # noqa: B008
        if not allow_unconfined:
            _require(confinement())
        self._workers = [Worker(limits, allow_unconfined) for _ in range(workers)]
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        self._closing = threading.Lock()
        self._closed = False
        for worker in self._workers:
            self._idle.put(worker)

    def run(self, program: Program) -> tuple[Verdict, ...]:
        """One verdict per test, in order. Blocks; may be called from many threads.

        Raises:
            TaskError: for a test that is not written in literals, or fails by itself.
            EngineError: after close(), or where no fork server can be kept alive.
        """
        return self._work(partial(judge, program))

    def call(self, source: str, entry_point: str, arguments: tuple[object, ...]) -> object:
        """The plain value that a function of a program returns, for plain arguments. Blocks, as `run` does.

        Raises:
            ProgramError: if there is none, in one harmless line.
            EngineError: as `run`.
        """
        return self._work(partial(call, Program(source, entry_point, ()), arguments))

    def _work(self, work: Callable[[Limits, ForkServer], T]) -> T:
        worker = self._idle.get()
        try:
            if worker is None:
                raise EngineError("Expected an open sandbox, but this one was closed; make a new one.")
            return worker.run(work)
        finally:
            self._idle.put(worker)

    def run_many(self, programs: Sequence[Program]) -> list[tuple[Verdict, ...]]:
        """What `run` says of each program, in order; as many at a time as there are workers."""
        with ThreadPoolExecutor(len(self._workers)) as threads:
            return list(threads.map(self.run, programs))

    def close(self) -> None:
        """Waits for the programs that run, then ends every process. May be called again."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for _ in self._workers:
                worker = self._idle.get()
                assert worker is not None
                worker.close()
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def _require(granted: dict[str, bool]) -> None:
    missing = [layer for layer in ("landlock", "seccomp") if not granted[layer]]
    if missing:
        raise EngineError(
            f"Expected a kernel with Landlock and seccomp to run code that a model wrote, but {' and '.join(missing)} "
            "cannot be had here; use another machine, or allow_unconfined=True for code that you trust."
        )
