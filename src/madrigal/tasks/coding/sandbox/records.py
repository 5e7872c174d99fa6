"""The records of the sandbox: what is run, under which limits, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from madrigal.types import ConfigError

Outcome = Literal["passed", "failed", "error", "timeout", "crashed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: processor time of one program with all of its tests; the rest then counts as timeout.
        test_seconds: processor time of one test, and of loading the program; after three tests that ran out of it,
            the rest is not run and counts as timeout. The ten seconds and the three are the paper's recipe.
        patience: how many times longer, by the clock, a program or test may take: it ends what sleeps or waits, and
            is generous, so that a machine that does other things changes no verdict.
        cpu_seconds: processor time of one process that the kernel itself sees to, in whole seconds.
        memory_mb: address space of one process, in MiB; the interpreter itself takes about 60.
        output_bytes: the longest answer that one call may return, in bytes; what is printed is thrown away.
        file_bytes: the largest file that may be written, in bytes; no directory is writable in any case.
        open_files: open file descriptors, the four that the runner needs included.
        stack_mb: the stack, in MiB; 64 hold 3000 recursions through C code such as a sort key.
    """

    seconds: float = 60.0
    test_seconds: float = 10.0
    patience: float = 4.0
    cpu_seconds: int = 61
    memory_mb: int = 512
    output_bytes: int = 65536
    file_bytes: int = 0
    open_files: int = 16
    stack_mb: int = 64

    def __post_init__(self) -> None:
        positive = (self.seconds, self.test_seconds, self.patience, self.cpu_seconds, self.memory_mb, self.output_bytes)
        if min(positive) <= 0:
            raise ConfigError(f"Expected limits above 0, got {self}; only file_bytes may be 0.")


@dataclass(frozen=True, slots=True)
class CallTest:
    """One call of the entry point with plain arguments, and the plain value that it must return.

    Attributes:
        arguments: source text of a literal tuple of positional arguments, "([1, 2], 3)".
        expected: source text of the literal value expected, "[3]"; it never leaves the parent process.
    """

    arguments: str
    expected: str


@dataclass(frozen=True, slots=True)
class CheckTest:
    """Statements that use the name `candidate` and raise where the program is wrong: "assert candidate(1) == 2".

    They run in a process of their own, which the program cannot reach. Arguments and answers cross as plain
    copies. What the candidate changes in a list, dict, set, deque or bytearray that it was handed itself is changed
    in the check as well, once the statement with the call is done: `assert candidate(xs) == sorted(xs)` still sorts
    what was given. An iterator comes as an iterator over its items.

    A check that fails before it has had an answer has failed by itself: a TaskError, no verdict.

    What the candidate raises is an Exception that keeps its built-in type where the check or the prelude names that
    type or a base ("except ValueError"), and is otherwise of a type that only `except Exception` catches. An
    AssertionError of the candidate always is; see `checker`.
    """

    source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one test.

    Attributes:
        outcome: "passed"; "failed" where an assertion or a comparison says no; "error" where the program raised or
            returned something that is not plain data; "timeout"; "crashed" where its process died or sent nonsense.
        message: why, as one printable line of at most 300 characters; empty where the test passed.
    """

    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A program and its tests.

    Attributes:
        source: the code to judge, hostile by assumption.
        entry_point: the name of the function that the tests call.
        tests: judged in order.
        prelude: definitions that both the program and the checks may use, run before them.
    """

    source: str
    entry_point: str
    tests: tuple[CallTest | CheckTest, ...]
    prelude: str = ""
