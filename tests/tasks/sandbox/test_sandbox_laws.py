"""Laws of the sandbox: counts, repetition, limits, survival, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from madrigal.tasks.coding import sandbox as package
from madrigal.tasks.coding.sandbox import CallTest, CheckTest, Limits, Program, Sandbox, Verdict, confinement, pool
from madrigal.tasks.coding.sandbox.channel import Timer
from madrigal.tasks.coding.sandbox.judge import Processes
from madrigal.types import ConfigError, EngineError, TaskError

confined = pytest.mark.skipif(
    not (confinement()["landlock"] and confinement()["seccomp"]), reason="this machine cannot confine"
)
DOUBLE = Program("def f(x): return 2 * x", "f", (CallTest("(4,)", "8"), CheckTest("assert candidate(1) == 2")))
LOOP = "def f(x):\n    while True: pass"


def children() -> list[int]:
    """Every process below this one, zombies included, but for a browser's, which come and go."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if "(chrom" not in name:
            parents[int(stat.parent.name)] = int(rest.split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@confined
def test_same_program_gets_the_same_verdicts_from_every_worker() -> None:
    source = "import random\ndef f(x): return [*{'a', 'b', 'c', 'd', 'e'}, random.random(), hash('x')]"
    with Sandbox(workers=3) as sandbox:
        verdicts = set(sandbox.run_many([Program(source, "f", (CallTest("(1,)", "0"),))] * 12))
    assert len(verdicts) == 1


@confined
@pytest.mark.parametrize("count", [0, 1, 7])
def test_there_is_one_verdict_per_test(count: int) -> None:
    sources = ("def f(x): return x", "raise ValueError", "import os; os._exit(1)", "def f(")
    tests = tuple(CallTest(f"({n},)", str(n)) for n in range(count))
    with Sandbox(workers=1) as sandbox:
        assert [len(sandbox.run(Program(source, "f", tests))) for source in sources] == [count] * 4


@confined
def test_rest_is_not_run_after_three_timeouts() -> None:
    started = time.monotonic()
    with Sandbox(Limits(seconds=30.0, test_seconds=0.1), workers=1) as sandbox:
        verdicts = sandbox.run(Program(LOOP, "f", (CallTest("(1,)", "1"),) * 200))
    assert [verdict.outcome for verdict in verdicts] == ["timeout"] * 200
    assert time.monotonic() - started < 10.0


@confined
def test_program_ends_with_its_own_time() -> None:
    source = "from time import process_time as t\ndef f(x):\n  end = t() + 0.15\n  while t() < end: x\n  return x"
    with Sandbox(Limits(seconds=0.4, test_seconds=0.3, patience=100.0), workers=1) as sandbox:
        verdicts = sandbox.run(Program(source, "f", (CallTest("(1,)", "1"),) * 20))
    assert {verdict.outcome for verdict in verdicts[4:]} == {"timeout"}
    assert {verdict.outcome for verdict in verdicts[:1]} == {"passed"}


@confined
def test_a_test_may_take_its_time_of_the_processor_however_long_that_is_by_the_clock() -> None:
    source = "import time\ndef f(x):\n    time.sleep(x)\n    return x"
    with Sandbox(Limits(seconds=10.0, test_seconds=0.1, patience=15.0), workers=1) as sandbox:
        verdicts = sandbox.run(Program(source, "f", (CallTest("(0.2,)", "0.2"), CallTest("(30.0,)", "30.0"))))
    assert [verdict.outcome for verdict in verdicts] == ["passed", "timeout"]


@confined
def test_two_loops_do_not_cost_the_tests_after_them() -> None:
    source = "def f(x):\n    while x < 2: pass\n    return x"
    with Sandbox(Limits(test_seconds=0.1, patience=100.0), workers=1) as sandbox:
        verdicts = sandbox.run(Program(source, "f", tuple(CallTest(f"({n},)", str(n)) for n in range(4))))
    assert [verdict.outcome for verdict in verdicts] == ["timeout", "timeout", "passed", "passed"]


@confined
def test_processor_time_is_limited() -> None:
    with Sandbox(Limits(seconds=20.0, test_seconds=20.0, cpu_seconds=1), workers=1) as sandbox:
        (verdict,) = sandbox.run(Program(LOOP, "f", (CallTest("(1,)", "1"),)))
    assert verdict == Verdict("timeout", "more processor time than the limit")


@confined
def test_longest_answer_is_limited() -> None:
    program = Program(
        "def f(n): return 'a' * n", "f", (CallTest("(1000,)", repr("a" * 1000)), CallTest("(1200,)", "0"))
    )
    with Sandbox(Limits(output_bytes=1000 + 50), workers=1) as sandbox:
        verdicts = sandbox.run(program)
    assert verdicts == (Verdict("passed"), Verdict("error", "returned a value that is too large"))


@confined
def test_pool_survives_programs_that_crash() -> None:
    crash = Program("import ctypes\ndef f(x): ctypes.string_at(0)", "f", (CallTest("(1,)", "1"),))
    with Sandbox(workers=2) as sandbox:
        assert {verdicts[0].outcome for verdicts in sandbox.run_many([crash] * 20)} == {"crashed"}
        assert sandbox.run(DOUBLE) == (Verdict("passed"), Verdict("passed"))


@confined
def test_dead_server_is_replaced() -> None:
    before = set(children())
    with Sandbox(workers=1) as sandbox:
        sandbox.run(DOUBLE)
        (server,) = set(children()) - before
        os.kill(server, signal.SIGKILL)
        assert sandbox.run(DOUBLE) == (Verdict("passed"), Verdict("passed"))
    assert set(children()) <= before


@confined
@pytest.mark.parametrize(("kills", "outcomes"), [(1, ["passed", "passed"]), (2, ["crashed", "failed"])])
def test_a_program_whose_process_is_killed_from_outside_is_judged_anew_once(
    kills: int, outcomes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first test on, for it may count its calls. Killed again, it is dead, as if its memory were why."""
    load, left = Processes.load, [signal.SIGKILL] * kills

    def loaded_and_killed(processes: Processes, timer: Timer) -> Verdict | None:
        problem = load(processes, timer)
        if left:
            os.kill(processes._candidate._pid, left.pop())
        return problem

    monkeypatch.setattr(Processes, "load", loaded_and_killed)
    source = "calls = []\ndef f(x):\n    calls.append(x)\n    return len(calls)"
    with Sandbox(workers=1) as sandbox:
        verdicts = sandbox.run(Program(source, "f", (CallTest("(7,)", "1"), CallTest("(7,)", "2"))))
    assert [verdict.outcome for verdict in verdicts] == outcomes


@confined
def test_nothing_is_left_after_close() -> None:
    before = descriptors(), children(), threading.active_count()
    for _ in range(2):
        with Sandbox(Limits(seconds=0.2, test_seconds=0.2), workers=2) as sandbox:
            sandbox.run_many([DOUBLE, Program(LOOP, "f", DOUBLE.tests)] * 3)
            assert len(children()) == len(before[1]) + 2  # the servers; no program outlives its verdict
        sandbox.close()
    assert (descriptors(), children(), threading.active_count()) == before


@confined
def test_nothing_outlives_a_parent_that_is_killed() -> None:
    script = (
        "import threading, time\n"
        "from madrigal.tasks.coding.sandbox import *\n"
        "s = Sandbox(Limits(seconds=60.0, test_seconds=60.0, cpu_seconds=60), workers=1)\n"
        "p = Program('import time\\ntime.sleep(50)', 'f', (CallTest('()', '1'),))\n"
        "threading.Thread(target=s.run, args=(p,), daemon=True).start()\n"
        "print('ready', flush=True)\ntime.sleep(50)\n"
    )
    before = set(children())
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        end, family = time.monotonic() + 60.0, set[int]()
        while time.monotonic() < end and len(family) < 2:  # the server, and the program that it forks
            time.sleep(0.02)
            family = set(children()) - before - {parent.pid}
        assert len(family) == 2
        parent.kill()
    end = time.monotonic() + 60.0
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in family):
        time.sleep(0.02)
    assert not [pid for pid in family if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@confined
def test_many_threads_may_call_at_once() -> None:
    programs = [Program(f"def f(x): return x + {n}", "f", (CallTest("(1,)", str(1 + n)),)) for n in range(40)]
    with Sandbox(workers=2) as sandbox, ThreadPoolExecutor(8) as threads:
        assert set(threads.map(sandbox.run, programs)) == {(Verdict("passed"),)}


@confined
def test_closed_sandbox_says_so() -> None:
    sandbox = Sandbox(workers=1)
    sandbox.close()
    sandbox.close()
    for _ in range(2):
        with pytest.raises(EngineError, match="closed"):
            sandbox.run(DOUBLE)


@confined
@pytest.mark.parametrize("test", [CallTest("1", "1"), CallTest("(f(),)", "1"), CallTest("(1,)", "g(x)")])
def test_test_that_is_no_literal_is_refused(test: CallTest) -> None:
    with Sandbox(workers=1) as sandbox, pytest.raises(TaskError, match="Expected"):
        sandbox.run(Program("def f(x): return x", "f", (test,)))


@pytest.mark.parametrize("missing", ["landlock", "seccomp"])
def test_refuses_to_run_without_confinement(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    granted = {"landlock": True, "seccomp": True, "namespaces": False, missing: False}
    monkeypatch.setattr(pool, "confinement", lambda: granted)
    with pytest.raises(EngineError, match=missing) as caught:
        Sandbox()
    assert "\n" not in str(caught.value)


def test_runs_without_confinement_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "confinement", lambda: {"landlock": False, "seccomp": False})
    with Sandbox(workers=1, allow_unconfined=True) as sandbox:
        assert sandbox.run(DOUBLE) == (Verdict("passed"), Verdict("passed"))


def test_limits_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Limits(seconds=0.0)


def test_public_names_are_sorted() -> None:
    assert package.__all__ == sorted(package.__all__)
