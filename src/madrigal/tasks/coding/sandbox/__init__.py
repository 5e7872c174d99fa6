"""A sandbox for programs that a model wrote, hostile by assumption.

A program is forked from an interpreter that holds nothing but the standard library, into a process that may compute
and answer: no file but the standard library's can be read and none written, no process, thread, socket or signal can
be made, no environment, no expected answer is there to be found. Three layers say so: resource limits, Landlock, and
an allow-list of system calls; namespaces are a fourth where the machine grants them.

Verdicts are made where the program cannot reach. Calls are compared in the parent; checks run in a second confined
process, which calls the candidate through a pipe. What crosses is plain data (see `literals`), so that an object with
its own `__eq__` never meets an assertion, and a forged message is worth no more than a return value.

Covered: reading and writing files, the network, other processes and their memory, forged results, endless loops in
Python or in C, memory, recursion, floods of output.
Not covered: bugs of the kernel or the interpreter; timing and other side channels of the processor; use of one core and
the allowed memory until the limit; whether a path exists, and its size (stat(2) is not refused, reading is); a program
that recognizes the tests by their arguments and has their answers by heart.

Inside: the standard library (no numpy), Python's hash seed and `random` fixed, recursion to 5000, standard input empty,
standard output thrown away, `__name__` not "__main__". Linux on x86-64 and arm64.
"""

from __future__ import annotations

from .judge import ProgramError
from .pool import Sandbox
from .records import CallTest, CheckTest, Limits, Program, Verdict
from .server import confinement

__all__ = ["CallTest", "CheckTest", "Limits", "Program", "ProgramError", "Sandbox", "Verdict", "confinement"]
