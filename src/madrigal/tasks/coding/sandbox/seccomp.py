"""seccomp: an allow-list of system calls, as a filter program in classic BPF.

What is not on the list answers EPERM: no new process or thread, no socket, no signal, no change to any file, no
memory shared with anybody, no ptrace. An allow-list, because a deny-list forgets (chmod and utime, in a trial).
`open` is allowed for reading only; Landlock says what may be read.

Tables for x86-64 and arm64; other machines count as unconfined.
Only the standard library: the confined processes import this file.

References:
    https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from dataclasses import dataclass

from .kernel import PR_SET_SECCOMP, prctl

_MODE_FILTER = 2
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; both tables are little-endian
_X32 = 0x40000000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # the last is __O_TMPFILE

_X86_64 = """
read 0 write 1 close 3 stat 4 fstat 5 lstat 6 lseek 8 mmap 9 mprotect 10 munmap 11 brk 12 rt_sigaction 13
rt_sigprocmask 14 rt_sigreturn 15 pread64 17 readv 19 writev 20 sched_yield 24 mremap 25 madvise 28
nanosleep 35 getpid 39 exit 60 uname 63 getcwd 79 gettimeofday 96 getrusage 98 sysinfo 99 times 100
getuid 102 getgid 104 geteuid 107 getegid 108 getppid 110 sigaltstack 131 gettid 186 time 201 futex 202
getdents64 217 restart_syscall 219 clock_gettime 228 clock_getres 229 clock_nanosleep 230 exit_group 231
newfstatat 262 getrandom 318 membarrier 324 statx 332 rseq 334
"""
_ARM64 = """
read 63 write 64 close 57 newfstatat 79 fstat 80 lseek 62 mmap 222 mprotect 226 munmap 215 brk 214 rt_sigaction 134
rt_sigprocmask 135 rt_sigreturn 139 pread64 67 readv 65 writev 66 sched_yield 124 mremap 216
madvise 233 nanosleep 101 getpid 172 exit 93 uname 160 getcwd 17 gettimeofday 169 getrusage 165
sysinfo 179 times 153 getuid 174 getgid 176 geteuid 175 getegid 177 getppid 173 sigaltstack 132 gettid 178 futex 98
getdents64 61 restart_syscall 128 clock_gettime 113 clock_getres 114 clock_nanosleep 115 exit_group 94
getrandom 278 membarrier 283 statx 291 rseq 293
"""


@dataclass(frozen=True, slots=True)
class Table:
    """One architecture: its audit number, the calls that are allowed, and those allowed for reading only.

    Attributes:
        readers: number of the call -> position of its flags argument.
    """

    arch: int
    allowed: tuple[int, ...]
    readers: dict[int, int]
    has_x32: bool = False


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split()[1::2])


TABLES = {
    "x86_64": Table(0xC000003E, _numbers(_X86_64), {257: 2, 2: 1}, has_x32=True),
    "aarch64": Table(0xC00000B7, _numbers(_ARM64), {56: 2}),
}


def assemble(table: Table) -> bytes:
    """The filter program of one architecture: a sequence of (code, jump if true, jump if false, constant)."""
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, table.arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if table.has_x32:
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number in table.allowed:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number, position in table.readers.items():
        code += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * position),
            (_ANY_BIT, 0, 1, _WRITING),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


@functools.cache
def program() -> bytes:
    """The filter program of this machine; assembled once in the fork server, for all of its children.

    Raises:
        OSError: where this machine has no table.
    """
    machine = os.uname().machine
    if machine not in TABLES:
        raise OSError(errno.ENOSYS, f"no table of system calls for {machine}")
    return assemble(TABLES[machine])


def install() -> None:
    """Puts the filter on this process, for good. PR_SET_NO_NEW_PRIVS must be set before.

    Raises:
        OSError: where the kernel has no seccomp filters, or the machine has no table.
    """
    code = program()
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header))
