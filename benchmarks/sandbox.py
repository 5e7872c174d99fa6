"""Measures how many small programs the sandbox judges per second.

    python benchmarks/sandbox.py --workers 2 --programs 1000

Prints one line per kind of test. Programs with checks take two processes each, programs with calls one.
"""

from __future__ import annotations

import argparse
import time

from madrigal.tasks.coding.sandbox import CallTest, CheckTest, Program, Sandbox

SOURCE = "def double(items):\n    return [2 * item for item in items]\n"
TESTS: dict[str, tuple[CallTest | CheckTest, ...]] = {
    "calls": tuple(CallTest(f"([{n}, 2],)", f"[{2 * n}, 4]") for n in range(5)),
    "checks": tuple(CheckTest(f"assert candidate([{n}, 2]) == [{2 * n}, 4]") for n in range(5)),
}


def programs_per_second(sandbox: Sandbox, tests: tuple[CallTest | CheckTest, ...], count: int) -> float:
    """Programs per second of wall time, once the fork servers are warm."""
    program = Program(SOURCE, "double", tests)
    sandbox.run_many([program] * 20)
    started = time.perf_counter()
    verdicts = sandbox.run_many([program] * count)
    seconds = time.perf_counter() - started
    assert all(verdict.outcome == "passed" for each in verdicts for verdict in each)
    return count / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="fork servers")
    parser.add_argument("--programs", type=int, default=1000, help="programs of each kind")
    options = parser.parse_args()
    with Sandbox(workers=options.workers) as sandbox:
        for kind, tests in TESTS.items():
            rate = programs_per_second(sandbox, tests, options.programs)
            print(f"{kind:8}{rate:8.0f} programs/s  ({len(tests)} tests each, {options.workers} workers)")


if __name__ == "__main__":
    main()
