"""Judges one program: puts its tests to a confined process, and compares in this one.

A forged answer gains nothing: to a call, the program can only answer with a value, which is compared here with an
expected value that it never sees; a check asks for values in the same way, from another process.

Every text in a verdict is foreign: an agent reads it in its next prompt, and a terminal may show it. `_line` is where
it is made harmless; that control tokens of a chat stay text is the tokenizer's side (`madrigal.policies.chat`).
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from madrigal.types import EngineError, TaskError

from .channel import CLIP, LostError, Timer
from .literals import parse
from .records import CallTest, CheckTest, Limits, Program, Verdict
from .server import ForkServer, Process

T = TypeVar("T")
MOST_TIMEOUTS = 3
MOST_SHOWN = 134  # characters of a value: two of them, and the words around them, make a message
_OVERHEAD = 8192  # bytes of a frame beside its value: an error's type and text, escaped
_MOST_CHECK_BYTES = 1 << 24
_LATE = Verdict("timeout", "no answer within the time limit")
_NONSENSE = Verdict("crashed", "an answer that breaks the protocol")


class ProgramError(Exception):
    """A program that gave no value; says why in one harmless line."""


class KilledError(Exception):
    """A process that was killed, which none of those in here can do to itself; or one that closed its only way out."""


@dataclass(frozen=True, slots=True)
class Call:
    """A CallTest whose literals were read."""

    arguments: tuple[object, ...]
    expected: object


def judge(program: Program, limits: Limits, server: ForkServer) -> tuple[Verdict, ...]:
    """One verdict per test, in order.

    A process that is late or dies is replaced for the next test; a program that does not load is not tried again. Where
    a process is killed from outside, as by a system short of memory, the program is judged anew, once.

    Raises:
        TaskError: for a CallTest that is not written in literals, and a check that fails by itself.
        EngineError: where a process cannot be confined.
        ServerLostError: where the server is gone.
    """
    cases = [_read(test) for test in program.tests]
    return _despite_a_kill(lambda last: _judged(program, cases, limits, server, last))


def _despite_a_kill(attempt: Callable[[bool], T]) -> T:
    """What an attempt comes to, or a second one where it raised KilledError; it is told whether it is the last."""
    try:
        return attempt(False)
    except KilledError:
        return attempt(True)


def _judged(
    program: Program, cases: Sequence[Call | CheckTest], limits: Limits, server: ForkServer, last: bool
) -> tuple[Verdict, ...]:
    end = time.monotonic() + limits.seconds * limits.patience
    spent = 0.0
    verdicts: list[Verdict] = []
    while len(verdicts) < len(cases):
        late = sum(verdict.outcome == "timeout" for verdict in verdicts)
        if late >= MOST_TIMEOUTS or spent >= limits.seconds or time.monotonic() >= end:
            return _filled(verdicts, _LATE, len(cases))
        with Processes(program, limits, server, last) as processes:
            problem = processes.load(processes.timer(limits.seconds - spent, end))
            if problem is not None:
                return _filled(verdicts, problem, len(cases))
            while not processes.lost and len(verdicts) < len(cases):
                timer = processes.timer(limits.seconds - spent - processes.seconds(), end)
                verdicts.append(processes.judge(cases[len(verdicts)], timer))
        spent += processes.seconds()
    return tuple(verdicts)


def call(program: Program, arguments: tuple[object, ...], limits: Limits, server: ForkServer) -> object:
    """The plain value that a program's entry point returns.

    Raises:
        ProgramError: if it does not load, raises, or gives no answer within the limits; in one harmless line.
        EngineError: where the process cannot be confined.
        ServerLostError: where the server is gone.
    """

    def attempt(last: bool) -> tuple[object] | Verdict:
        end = time.monotonic() + limits.seconds * limits.patience
        with Processes(program, limits, server, last) as processes:
            problem = processes.load(processes.timer(limits.seconds, end))
            return problem or processes.call(arguments, processes.timer(limits.seconds - processes.seconds(), end))

    answer = _despite_a_kill(attempt)
    if isinstance(answer, Verdict):
        raise ProgramError(answer.message)
    return answer[0]


class Allowance:
    """What one test has left: of the processor's time by its processes, and by the clock.

    A process cannot use more of the first than passes by the clock, so that waiting for what is left is never too long.
    """

    def __init__(self, used: Callable[[], float], seconds: float, end: float) -> None:
        self._used = used
        self._most = used() + seconds
        self._end = end

    def left(self) -> float:
        return min(self._most - self._used(), self._end - time.monotonic())


def _filled(verdicts: list[Verdict], rest: Verdict, total: int) -> tuple[Verdict, ...]:
    return (*verdicts, *[rest] * (total - len(verdicts)))


def _read(test: CallTest | CheckTest) -> Call | CheckTest:
    if isinstance(test, CheckTest):
        return test
    try:
        arguments, expected = parse(test.arguments), parse(test.expected)
    except ValueError as error:
        raise TaskError(f"Expected a test written in plain literals: {error}.") from error
    if not isinstance(arguments, tuple):
        raise TaskError(f"Expected the arguments as a tuple such as (1, 2), got {test.arguments[:80]!r}.")
    return Call(arguments, expected)


class Processes:
    """Owns the confined processes in which a program is judged: the candidate, and a checker once a check needs it.

    Attributes:
        lost: one of the two was late, died or talked nonsense; neither can be used any more.
        last: whether one that was killed counts as dead, instead of raising KilledError.
    """

    def __init__(self, program: Program, limits: Limits, server: ForkServer, last: bool) -> None:
        self.lost, self.last = False, last
        self._program = program
        self._limits = limits
        self._server = server
        self._most = 2 * limits.output_bytes + _OVERHEAD  # a value, and what became of the arguments
        self._number = 0
        self._stack = contextlib.ExitStack()
        self._candidate = self._fork()
        # Forked ahead, so that it starts while the candidate loads; without a check, nobody asks for it.
        checks = any(isinstance(test, CheckTest) for test in program.tests)
        self._checker = self._fork() if checks else self._candidate
        self._introduced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stack.close()

    def _fork(self) -> Process:
        process = self._server.fork()
        self._stack.callback(process.stop)
        return process

    def seconds(self) -> float:
        """The processor time that its processes have used."""
        seconds = self._candidate.seconds()
        return seconds if self._checker is self._candidate else seconds + self._checker.seconds()

    def timer(self, seconds: float, end: float) -> Allowance:
        """The time of one test, or of loading: at most `seconds` of the processor, and no later than `end`."""
        most = min(seconds, self._limits.test_seconds)
        return Allowance(self.seconds, most, min(end, time.monotonic() + most * self._limits.patience))

    def load(self, timer: Timer) -> Verdict | None:
        """Runs the prelude and the source; the verdict on every test where that fails."""
        program = self._program
        message = ("candidate", program.prelude, program.source, program.entry_point)
        try:
            return self._introduce(self._candidate, message, timer)
        except LostError as lost:
            return self._verdict_on_loss(lost, self._candidate)

    def judge(self, case: Call | CheckTest, timer: Timer) -> Verdict:
        """Puts one test to the program."""
        if isinstance(case, Call):
            return self._judge_call(case, timer)
        try:
            return self._judge_check(case, timer)
        except LostError as lost:
            return self._verdict_on_loss(lost, self._checker)

    def call(self, arguments: tuple[object, ...], timer: Timer) -> tuple[object] | Verdict:
        """The value that the program returns, or the verdict where it has none."""
        match self._call(arguments, {}, timer, watch=False):
            case Verdict() as verdict:
                return verdict
            case (_, "value", value, _):
                return (value,)
            case answer:
                return Verdict("error", _sentence(*map(str, answer[2:])))

    def _judge_call(self, case: Call, timer: Timer) -> Verdict:
        answer = self._call(case.arguments, {}, timer, watch=False)
        match answer:
            case Verdict():
                return answer
            case (_, "value", value, _) if value == case.expected:
                return Verdict("passed")
            case (_, "value", value, _):
                return Verdict("failed", f"AssertionError: expected {_show(case.expected)}, got {_show(value)}")
            case _:
                return Verdict("error", _sentence(*map(str, answer[2:])))

    def _judge_check(self, case: CheckTest, timer: Timer) -> Verdict:
        checker = self._checker
        if not self._introduced:
            self._introduced = True
            message = ("checker", self._program.prelude, self._program.entry_point)
            problem = self._introduce(checker, message, timer)
            if problem is not None:
                self.lost = True
                return problem
        checker.send((self._number, case.source), timer)
        while True:
            match checker.receive(_MOST_CHECK_BYTES, timer):
                case ("call", tuple(arguments), dict(keywords)):
                    answer = self._call(arguments, keywords, timer, watch=True)
                    if isinstance(answer, Verdict):
                        return answer
                    checker.send(answer, timer)
                case ("verdict", _, "passed", _):
                    return Verdict("passed")
                case ("verdict", _, "failed", str(text)):
                    return Verdict("failed", _sentence(text))
                case ("verdict", _, "error", str(text)):
                    return Verdict("error", _sentence(text))
                case ("verdict", _, "broken", str(text)):
                    raise TaskError(
                        f"expected a test that runs, but it fails before it asks for an answer ({_sentence(text)}): "
                        f"{case.source[-80:]!r}"
                    )
                case _:
                    raise LostError("nonsense")

    def _call(
        self, arguments: tuple[object, ...], keywords: dict[object, object], timer: Timer, *, watch: bool
    ) -> tuple[object, ...] | Verdict:
        """The candidate's answer to one call, or the verdict where it has none."""
        self._number += 1
        try:
            self._candidate.send((self._number, arguments, keywords, watch), timer)
            answer = self._candidate.receive(self._most, timer)
            match answer:
                case (
                    (self._number, "value", _, None | (tuple(), dict()))
                    | (self._number, "items", list(), None | (tuple(), dict()))
                    | (self._number, "foreign", str())
                    | (self._number, "raised", str(), str())
                ):
                    return answer
                case _:
                    raise LostError("nonsense")
        except LostError as lost:
            return self._verdict_on_loss(lost, self._candidate)

    def _introduce(self, process: Process, message: tuple[object, ...], timer: Timer) -> Verdict | None:
        process.send(message, timer)
        match process.receive(self._most, timer):
            case ("ready",):
                pass
            case ("unconfined", why):
                raise EngineError(f"Expected a process under seccomp, but {why}; allow_unconfined=True goes without.")
            case _:
                raise LostError("nonsense")
        match process.receive(self._most, timer):
            case ("loaded",):
                return None
            case ("raised", str(kind), str(text)):
                return Verdict("error", _sentence(kind, text))
            case _:
                raise LostError("nonsense")

    def _verdict_on_loss(self, lost: LostError, process: Process) -> Verdict:
        self.lost = True
        if lost.how == "late":
            return _LATE
        if lost.how == "nonsense":
            return _NONSENSE
        code = process.stop()
        if code == -signal.SIGKILL and not self.last:
            raise KilledError
        if code == -signal.SIGXCPU:
            return Verdict("timeout", "more processor time than the limit")
        if code < 0:
            return Verdict("crashed", f"its process died of signal {-code}: {signal.strsignal(-code)}")
        return Verdict("crashed", f"its process exited with code {code}")


def _sentence(*words: str) -> str:
    """Foreign words as one harmless line of at most CLIP characters that is never empty."""
    return _line(": ".join(word for word in words if word))[:CLIP].strip() or "an error that says nothing"


def _show(value: object) -> str:
    try:
        text = _line(repr(value)[:CLIP])
    except ValueError:  # an int beyond sys.set_int_max_str_digits
        return "a value too long to print"
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def _line(text: str) -> str:
    """A foreign text as one line of UTF-8 without control characters."""
    sound = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "" for letter in sound)
