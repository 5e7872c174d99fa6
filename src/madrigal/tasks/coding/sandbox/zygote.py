"""The fork server: an interpreter that has imported much of the standard library, and forks once per program.

It never sees a program, a test or an expected answer: the parent passes one end of a socket, and talks to the child
through the other. Nothing is in its memory that a child may not read.

Messages: b"fork" with a descriptor is answered by the child's process id; b"stop <id>" kills that child with its
process group and is answered by its exit code. The server ends when its control socket does, or when its parent died.

Only the standard library; started as a script of its own by `server`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys

from . import seccomp
from .guards import Settings, confine_server, holds
from .runner import serve

_COMMON = """
__future__ abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses
datetime decimal difflib enum fractions functools graphlib hashlib heapq inspect io itertools json keyword math
numbers operator pprint queue random re statistics string struct sys textwrap threading time timeit traceback types
typing unicodedata uuid warnings weakref zlib
"""


def main(settings_text: str) -> None:
    """Serves until the parent goes away."""
    settings: Settings = json.loads(settings_text)
    _forget_start()
    granted = confine_server()
    _forget_place()
    control = socket.socket(fileno=settings["control"])
    control.send(json.dumps(granted).encode())
    control.settimeout(1.0)
    _loop(control, settings, os.getppid())


def probe() -> None:
    """Prints which layers hold on this machine, by putting them on."""
    _forget_start()
    print(json.dumps({**confine_server(), "seccomp": holds(seccomp.install)}))


def _forget_start() -> None:
    """Loads what programs use, and clears what tells them how they were started."""
    for name in _COMMON.split():
        importlib.import_module(name)
    with contextlib.suppress(OSError):
        seccomp.program()
    os.environ.clear()
    sys.argv[:] = [""]
    os.chdir("/")
    gc.freeze()


def _forget_place() -> None:
    """Clears where the interpreter lies, after Landlock was told; `sys.path` is what imports need, and stays."""
    sys.orig_argv[:] = [""]
    places = ("executable", "_base_executable", "prefix", "base_prefix", "exec_prefix", "base_exec_prefix")
    vars(sys).update(dict.fromkeys(places, ""))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "sandbox":
            vars(module).update({"__file__": "", "__path__": [], "__spec__": None, "__cached__": None})


def _loop(control: socket.socket, settings: Settings, parent: int) -> None:
    children: set[int] = set()
    while os.getppid() == parent:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        except TimeoutError:
            continue
        if not message:
            break
        if descriptors:
            children.add(_fork(control, settings, descriptors[0]))
        else:
            child = int(message.split()[1])
            children.remove(child)
            control.send(str(_stop(child)).encode())
    for child in children:
        _stop(child)


def _fork(control: socket.socket, settings: Settings, result: int) -> int:
    server = os.getpid()
    child = os.fork()
    if child == 0:
        serve(settings, server, result)
    os.close(result)
    control.send(str(child).encode())
    return child


def _stop(child: int) -> int:
    """Kills a child and whatever is left of its process group, reaps it; its exit code, or minus its signal."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
