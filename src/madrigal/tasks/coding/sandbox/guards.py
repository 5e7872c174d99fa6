"""What confines a process: the layers for the fork server, and those for each program that it forks.

The fork server takes on everything that children inherit (namespaces, no new privileges, Landlock); each child adds
limits, its own session and the system call filter, which would keep the server from forking.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from typing import TypedDict

from . import landlock, seccomp
from .kernel import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl, unshare

# User, network, System V IPC and host name; a new PID namespace would end with its first child.
_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
_MIB = 1 << 20


class Settings(TypedDict):
    """What the parent tells a fork server at its start; units as in Limits."""

    control: int
    cpu_seconds: int
    memory_mb: int
    stack_mb: int
    output_bytes: int
    file_bytes: int
    open_files: int
    allow_unconfined: bool


def confine_server() -> dict[str, bool]:
    """Confines the fork server, as far as the machine grants it; says which layers hold."""
    _offer_to_oom_killer()
    granted = {"namespaces": holds(lambda: unshare(_NAMESPACES))}
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    granted["landlock"] = landlock.abi() > 0 and holds(landlock.restrict)
    return granted


def confine_child(settings: Settings, server: int, result: int) -> None:
    """Confines a forked child, whose only way out is then the descriptor `result`.

    Raises:
        OSError: where a layer is refused and the settings do not allow to go without.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    os.setsid()
    os.closerange(3, result)
    os.closerange(result + 1, os.sysconf("SC_OPEN_MAX"))
    _limit(settings)
    if not holds(seccomp.install) and not settings["allow_unconfined"]:
        raise OSError("the system call filter was refused")


def _limit(settings: Settings) -> None:
    limits = {
        resource.RLIMIT_CPU: settings["cpu_seconds"],
        resource.RLIMIT_AS: settings["memory_mb"] * _MIB,
        resource.RLIMIT_STACK: settings["stack_mb"] * _MIB,
        resource.RLIMIT_FSIZE: settings["file_bytes"],
        resource.RLIMIT_NOFILE: settings["open_files"],
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        # One second between the two CPU limits, so that the signal tells what happened.
        resource.setrlimit(kind, (most, most + 1 if kind == resource.RLIMIT_CPU and most != hard else most))


def holds(layer: Callable[[], None]) -> bool:
    """Puts a layer on this process; whether the machine grants it."""
    try:
        layer()
    except OSError:
        return False
    return True


def _offer_to_oom_killer() -> None:
    """When the machine runs out of memory, a program that is judged must die before the training run."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 (no pathlib here)
            file.write("1000")
    except OSError:
        return
