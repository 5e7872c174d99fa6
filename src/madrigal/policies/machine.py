"""What this machine can do: how fast its processor multiplies, which memory is free, and giving some back."""

from __future__ import annotations

import ctypes
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

LARGE = 50_000_000  # parameters from which on products take most of the time
MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
GAIN = 1.5  # of the product rate from which on bfloat16 is worth its rounding


def prefers_bfloat16(parameters: int) -> bool:
    """Whether a model of so many parameters is trained faster in bfloat16 on this processor; measured once."""
    return parameters >= LARGE and product_rate(torch.bfloat16) > GAIN * product_rate(torch.float32)


@cache
def product_rate(dtype: torch.dtype, rows: int = 256) -> float:
    """GFLOP/s of the products of a model of some 100 M parameters, with the threads that torch has; best of five."""
    width = 1024
    x, weight = torch.ones(rows, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
    seconds = []
    with torch.inference_mode():
        for _ in range(6):  # the first one also prepares
            began = time.perf_counter()
            functional.linear(x, weight)
            seconds.append(time.perf_counter() - began)
    return 2 * rows * width * width / min(seconds[1:]) / 1e9


def free_memory(device: torch.device, root: Path = Path("/")) -> float | None:
    """Bytes that this process may have on a device in all, what it holds now included; None where nothing tells.

    On a processor the least of what the system calls available and what is left below the limits of the process's
    control groups; files that were read are not counted as used.

    Args:
        root: where /proc and /sys are looked for.
    """
    if device.type == "cuda":
        try:
            free, _ = torch.cuda.mem_get_info(device)
            return float(free + torch.cuda.memory_reserved(device))
        except (AssertionError, RuntimeError):
            return None
    available = _number(root / "proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024)
    left = [one for one in (available, *_left_in_groups(root)) if one is not None]
    return min(left) + (_number(root / "proc/self/status", r"VmRSS:\s+(\d+) kB", 1024) or 0.0) if left else None


def _left_in_groups(root: Path) -> list[float | None]:
    """What is left below the limit of each control group above this process, of both versions of their files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left: list[float | None] = []
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / kinds
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        group = base / place.lstrip("/")
        for folder in (group, *group.parents):
            if base not in (folder, *folder.parents):
                break
            most, now = _number(folder / limit, r"(\d+)"), _number(folder / used, r"(\d+)")
            cached = _number(folder / "memory.stat", r"(?m)^(?:total_)?inactive_file (\d+)") or 0.0
            left.append(None if most is None or now is None else max(0.0, most - now + cached))
    return left


def _number(file: Path, pattern: str, unit: int = 1) -> float | None:
    """The number that a file of the system states; None where it is not there, or says "max"."""
    try:
        found = re.search(pattern, file.read_text())
    except OSError:
        return None
    return int(found[1]) * unit if found else None


def held_memory(device: torch.device, root: Path = Path("/")) -> float:
    """Bytes of a device that this process holds now; 0 where nothing tells."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    return _number(root / "proc/self/status", r"VmRSS:\s+(\d+) kB", 1024) or 0.0


def release() -> None:
    """Gives memory that was freed back to the system.

    The C library keeps blocks of up to 32 MB for later, in pieces that fit the next batch badly: after an update of a
    model of 135 M parameters it held 3.5 GB so.
    """
    if trim := _trim():
        trim(0)


def give_back(*, at_once: bool) -> None:
    """Sets from which size on the C library gives freed blocks back at once: 1 MB, or the 32 MB that it comes to.

    Updates of SmolLM2-135M take a fifth less memory so, and 5 to 27 % more of the processor's time.
    """
    if set_option := getattr(_c_library(), "mallopt", None):
        set_option(MMAP_THRESHOLD, (1 if at_once else 32) << 20)


@cache
def _trim() -> Any:
    """glibc's malloc_trim; None where there is another C library."""
    return getattr(_c_library(), "malloc_trim", None)


@cache
def _c_library() -> Any:
    return ctypes.CDLL(None)
