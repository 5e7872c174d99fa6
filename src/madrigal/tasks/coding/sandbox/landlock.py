"""Landlock: the process may read the standard library, and no other file.

The right to read is given entry by entry, because site-packages may lie inside the standard library's directory and
Landlock rules cannot take anything back. Listing names there stays possible; reading does not.
Not covered by Landlock: stat(2), so that a program can learn whether a path exists; chmod, utime and their kin, which
the system call filter refuses.

Only the standard library: the confined processes import this file.

References:
    https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator

from .kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FOREIGN = frozenset({"site-packages", "dist-packages"})


def abi() -> int:
    """The version of Landlock that the kernel speaks; 0 without it."""
    try:
        return syscall(_CREATE_RULESET, 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def ruleset_attr(version: int) -> bytes:
    """The struct landlock_ruleset_attr that forbids everything this version can, as long as this version knows it.

    Version 1 has 13 rights on files; 2 adds refer, 3 truncate, 4 TCP, 5 device ioctl, 6 the scopes of abstract
    sockets and signals.
    """
    rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    words = [(1 << rights) - 1]
    if version >= 4:
        words.append(0b11)
    if version >= 6:
        words.append(0b11)
    return struct.pack(f"={len(words)}Q", *words)


def restrict() -> None:
    """Forbids this process and its children everything but reading the standard library.

    PR_SET_NO_NEW_PRIVS must be set before.

    Raises:
        OSError: where the kernel has no Landlock.
    """
    attr = ctypes.create_string_buffer(ruleset_attr(abi()))
    ruleset = syscall(_CREATE_RULESET, ctypes.addressof(attr), len(attr) - 1, 0)
    try:
        for path, rights in _readable():
            _allow(ruleset, path, rights)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _readable() -> Iterator[tuple[str, int]]:
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_dynload()}:
        if not os.path.isdir(folder):  # noqa: PTH112 (pathlib would slow the start of the process)
            continue
        yield folder, _READ_DIR
        for entry in os.scandir(folder):
            if entry.name not in _FOREIGN:
                yield entry.path, _READ_FILE | (_READ_DIR if entry.is_dir() else 0)


def _dynload() -> list[str]:
    return [path for path in sys.path if path.endswith("lib-dynload")]


def _allow(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        attr = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle))
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(attr), 0)
    finally:
        os.close(handle)
