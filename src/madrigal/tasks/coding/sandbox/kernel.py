"""System calls that the standard library does not wrap: prctl, unshare and the raw syscall.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def prctl(option: int, value: int, pointer: int = 0) -> None:
    """Calls prctl(2).

    Raises:
        OSError: where the kernel refuses.
    """
    words = (ctypes.c_ulong(value), ctypes.c_ulong(pointer), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if _libc.prctl(ctypes.c_int(option), *words) != 0:
        raise _last_error()


def syscall(number: int, *arguments: int) -> int:
    """Calls a system call by its number; a pointer is passed as its address.

    Raises:
        OSError: where the kernel refuses.
    """
    result = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments)))
    if result < 0:
        raise _last_error()
    return result


def unshare(flags: int) -> None:
    """Calls unshare(2).

    Raises:
        OSError: where the kernel refuses.
    """
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise _last_error()


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
