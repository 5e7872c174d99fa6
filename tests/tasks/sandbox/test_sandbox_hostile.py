"""Every hostile program fails to pass, and fails to do what it came for."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_programs import EFFECTS, FORGERIES, HOGS, SILENCERS

from madrigal.tasks.coding.sandbox import CallTest, CheckTest, Limits, Program, Sandbox, confinement

pytestmark = pytest.mark.skipif(
    not (confinement()["landlock"] and confinement()["seccomp"]), reason="this machine cannot confine"
)
LIMITS = Limits(seconds=0.6, test_seconds=0.3, cpu_seconds=1, memory_mb=256)
STRAY = [Path(folder) / "owned_by_sandbox" for folder in (".", "/", "/tmp", "/dev/shm", Path.home())]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    os.environ["MADRIGAL_SECRET"] = "secret"
    with Sandbox(LIMITS, workers=2) as sandbox:
        yield sandbox
    del os.environ["MADRIGAL_SECRET"]


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def signals() -> Iterator[list[int]]:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    yield seen
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("name", EFFECTS)
def test_hostile_program_has_no_effect(
    name: str, sandbox: Sandbox, listener: socket.socket, signals: list[int], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    before = victim.stat()
    arguments = repr((str(tmp_path), os.getpid(), listener.getsockname()[1]))

    verdicts = sandbox.run(Program(EFFECTS[name], "f", (CallTest(arguments, "'owned'"),)))

    assert [verdict.outcome for verdict in verdicts] != ["passed"], verdicts
    assert "SyntaxError" not in verdicts[0].message
    assert "NameError" not in verdicts[0].message
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert victim.read_text() == "secret"
    after = victim.stat()
    assert (after.st_mode, after.st_mtime, after.st_uid, after.st_nlink) == (
        before.st_mode,
        before.st_mtime,
        before.st_uid,
        before.st_nlink,
    )
    assert not any(path.exists() for path in STRAY)
    assert not signals
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_answer_never_passes(name: str, sandbox: Sandbox) -> None:
    answer = secrets.randbelow(9 * 10**17) + 10**17
    tests = (
        CallTest("(1,)", str(answer)),
        CheckTest(f"assert candidate(1) == {answer}"),
        CheckTest(f"def check(f):\n    assert abs(f(1) - {answer}) < 1e-6\ncheck(candidate)"),
    )

    verdicts = sandbox.run(Program(FORGERIES[name], "f", tests))

    assert len(verdicts) == 3
    assert "passed" not in [verdict.outcome for verdict in verdicts], verdicts
    assert all(0 < len(verdict.message) <= 300 for verdict in verdicts)
    assert all(verdict.message.isprintable() for verdict in verdicts)  # neither a surrogate nor a second line
    assert str(answer) not in FORGERIES[name]


@pytest.mark.parametrize("name", SILENCERS)
def test_raised_exception_never_silences_a_check(name: str, sandbox: Sandbox) -> None:
    raised, check = SILENCERS[name]

    (verdict,) = sandbox.run(Program(f"def f(x): raise {raised}", "f", (CheckTest(check),)))

    assert verdict.outcome == "error", verdict
    assert verdict.message.startswith(raised.partition("(")[0])


@pytest.mark.parametrize("name", HOGS)
def test_hog_ends_within_its_limits(name: str, sandbox: Sandbox) -> None:
    started = time.monotonic()

    verdicts = sandbox.run(Program(HOGS[name], "f", (CallTest("(1,)", "0"), CheckTest("assert candidate(1) == 0"))))

    assert "passed" not in [verdict.outcome for verdict in verdicts], verdicts
    assert time.monotonic() - started < LIMITS.seconds + 30.0  # generous, for a machine that does other things
    assert threading.active_count() < 20
