"""Runs foreign code in a confined process: a module of its own, and what it raised in words.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

from .channel import CLIP


def fresh_module(name: str) -> types.ModuleType:
    """A new, registered module: dataclasses and typing look their module up; `__main__` blocks do not run."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def attempt(act: Callable[[], object]) -> tuple[str, str] | None:
    """Runs foreign code; None, or the type and the text of what it raised."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001 (whatever it raises, SystemExit included, is the result)
        return describe(error)
    return None


def describe(error: BaseException, source: str = "") -> tuple[str, str]:
    """The type and the text of an error; `source` is the check that raised it."""
    name = type(error).__name__
    try:
        text = str(error) or _failing_line(error, source)
    except BaseException:  # noqa: BLE001 (the error's own __str__ is foreign code too)
        text = "its message could not be read"
    return name[:CLIP], text[:CLIP]


def _failing_line(error: BaseException, source: str) -> str:
    """For a bare assert: the line of the check that says no."""
    line, trace = 0, error.__traceback__ if isinstance(error, AssertionError) else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<check>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return source.splitlines()[line - 1].strip() if line else ""
