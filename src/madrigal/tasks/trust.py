"""What a file may not ask for in silence: code of somebody's own, and no sandbox around code of models.

Knows: which settings of a task reach beyond training. Does not know: whether a person or a file said so.
"""

from __future__ import annotations

from pathlib import Path

from madrigal.tasks.catalog import TaskConfig
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.office.services import Office
from madrigal.tasks.own import Own
from madrigal.types import ConfigError

TRUST = "--trust"
FLAGS = ("--task.path", "--task.unconfined")  # whoever types one of these has asked for it


def reach(config: TaskConfig) -> str:
    """What a task of these settings does to the machine besides being played; "" for nothing.

    >>> reach(Own("divide.py:task"))
    'import and run the code of divide.py:task'
    """
    if isinstance(config, Own):
        return f"import and run the code of {config.path}"
    if isinstance(config, Coding | Office) and config.unconfined:
        return "switch off the sandbox around code that models write (task.unconfined)"
    return ""


def check_trust(config: TaskConfig, where: str | Path) -> None:
    """Refuses settings read from `where` that reach beyond training.

    Raises:
        ConfigError: saying what would be done, and how to allow it.
    """
    if wish := reach(config):
        raise ConfigError(f"{where} asks to {wish}; look at it first, and allow it with {TRUST}")


def trusting(command: str, config: TaskConfig) -> str:
    """A command to show a user, with the flag that settings like these will need when they come from a file."""
    return f"{command} {TRUST}" if reach(config) else command
