"""What this machine can do: how fast its processor multiplies, and giving back memory that is no longer used."""

from __future__ import annotations

import ctypes
import time
from functools import cache
from typing import Any

import torch
from torch.nn import functional

LARGE = 50_000_000  # parameters from which on products take most of the time
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


def release() -> None:
    """Gives memory that was freed back to the system.

    The C library keeps blocks of up to 32 MB for later, in pieces that fit the next batch badly: after an update of a
    model of 135 M parameters it held 3.5 GB so.
    """
    if trim := _trim():
        trim(0)


@cache
def _trim() -> Any:
    """glibc's malloc_trim; None where there is another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
