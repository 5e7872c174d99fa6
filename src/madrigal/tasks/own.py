"""A task of the user's own, named by file and object."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madrigal.task import Task
from madrigal.types import ConfigError, TaskError


@dataclass(frozen=True, slots=True)
class Own:
    """Where an own task lives: "file.py:name" or "package.module:name", a Task or a function that makes one."""

    path: str


def load_own(config: Own) -> Task[Any]:
    """Imports the user's module and returns the task in it.

    Raises:
        ConfigError: if there is no such file, module or object.
        TaskError: if the object is no task.
    """
    module_name, _, name = config.path.rpartition(":")
    if not module_name:
        raise ConfigError(f"own task: expected file.py:name or module:name, got {config.path!r}")
    found = vars(_module(module_name)).get(name)
    if found is None:
        raise ConfigError(f"own task: {module_name} defines no {name!r}")
    task = found() if callable(found) and not hasattr(found, "agents") else found
    needed = ("name", "agents", "horizon", "best_return", "examples", "reset", "acting", "observe", "step")
    missing = [part for part in needed if not hasattr(task, part)]
    if missing:
        raise TaskError(f"own task {config.path}: a task needs {', '.join(missing)}; see docs/own-task.md")
    result: Task[Any] = task
    return result


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"own task: there is no module {name!r}") from error
    path = Path(name).resolve()
    if not path.is_file():
        raise ConfigError(f"own task: there is no file {name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"own task: {name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
