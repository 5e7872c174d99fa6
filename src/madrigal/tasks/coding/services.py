"""The coding task with what it needs from outside: a sandbox, and an expert where one is asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.expert import open_expert
from madrigal.tasks.coding.sandbox import Limits, Sandbox
from madrigal.tasks.coding.task import CodingTask, coding_task


@contextmanager
def open_coding(config: Coding) -> Iterator[CodingTask]:
    """Opens the services, yields the task that they serve, and closes them.

    Raises:
        ConfigError, TaskError, EngineError: if a service cannot be had or the data cannot be read.
    """
    expert = open_expert(config.expert) if config.feedback == "expert_edits" else None
    with Sandbox(_limits(config), workers=os.cpu_count() or 1, allow_unconfined=config.unconfined) as sandbox:
        yield coding_task(config, sandbox, expert)


def _limits(config: Coding) -> Limits:
    return Limits(
        seconds=config.program_seconds,
        test_seconds=config.test_seconds,
        cpu_seconds=math.ceil(config.program_seconds) + 1,
        memory_mb=config.memory_mb,
    )
