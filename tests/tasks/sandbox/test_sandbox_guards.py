"""The filter program and the Landlock struct, for machines and kernels other than this one."""

from __future__ import annotations

import os
import struct

import pytest

from madrigal.tasks.coding.sandbox.landlock import ruleset_attr
from madrigal.tasks.coding.sandbox.seccomp import TABLES, assemble

ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x00050001
CALLS = {
    "x86_64": {"read": 0, "write": 1, "openat": 257, "clone": 56, "execve": 59, "socket": 41, "kill": 62, "chmod": 90},
    "aarch64": {"read": 63, "write": 64, "openat": 56, "clone": 220, "execve": 221, "socket": 198, "kill": 129,
                "chmod": 53},
}  # fmt: skip


def verdict(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel's interpreter would answer."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    at = accumulator = 0
    while True:
        kind, true, false, constant = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        match kind:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x06:
                return int(constant)
            case _:
                tests = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: accumulator & constant}
                at += true if tests[kind] else false


@pytest.mark.parametrize("machine", TABLES)
def test_filter_allows_what_is_listed_and_refuses_the_rest(machine: str) -> None:
    table, calls = TABLES[machine], CALLS[machine]
    code = assemble(table)
    answers = {number: verdict(code, table.arch, number) for number in range(600)}
    assert {number for number, answer in answers.items() if answer == ALLOW} == {*table.allowed, *table.readers}
    assert set(answers.values()) == {ALLOW, EPERM}
    assert [answers[calls[name]] for name in ("read", "write", "openat")] == [ALLOW] * 3
    assert [answers[calls[name]] for name in ("clone", "execve", "socket", "kill", "chmod")] == [EPERM] * 5
    assert len(set(table.allowed)) == len(table.allowed)


@pytest.mark.parametrize("machine", TABLES)
@pytest.mark.parametrize("flag", ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"])
def test_filter_lets_files_be_opened_for_reading_only(machine: str, flag: str) -> None:
    table, openat = TABLES[machine], CALLS[machine]["openat"]
    assert verdict(assemble(table), table.arch, openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOW
    assert verdict(assemble(table), table.arch, openat, 0, 0, vars(os)[flag]) == EPERM


def test_filter_kills_foreign_calls() -> None:
    table = TABLES["x86_64"]
    assert verdict(assemble(table), 0x40000003, 0) == KILL  # i386
    assert verdict(assemble(table), table.arch, 0x40000000) == KILL  # x32


@pytest.mark.parametrize(
    ("version", "size", "rights"),
    [(1, 8, 13), (2, 8, 14), (3, 8, 15), (4, 16, 15), (5, 16, 16), (6, 24, 16), (9, 24, 16)],
)  # fmt: skip
def test_landlock_asks_for_no_more_than_the_kernel_knows(version: int, size: int, rights: int) -> None:
    attr = ruleset_attr(version)
    assert len(attr) == size
    assert int.from_bytes(attr[:8], "little") == 2**rights - 1
