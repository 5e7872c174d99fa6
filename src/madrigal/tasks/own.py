"""A task of the user's own, named by file and object."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from madrigal.rollouts.task import Task, check_task, explain
from madrigal.tasks.guarded import Guarded
from madrigal.types import Completion, ConfigError, MadrigalError, TaskError, Turn

IN_MEMORY = "in-memory"  # the module of a task that was handed over in Python
SINGLE = "single"  # beside a task: the same for one agent that does everybody's part


@dataclass(frozen=True, slots=True)
class CustomTask:
    """Where an own task lives: "file.py:name" or "package.module:name", a Task or a function that makes one."""

    path: str


def load_own(config: CustomTask) -> Task[Any]:
    """Imports the user's module, once, and returns the task in it, checked and guarded.

    Raises:
        ConfigError: if there is no such file, module or object, or it fails to be made.
        TaskError, RewardError: if the object is no task or breaks the contract.
    """
    module_name, name = object_names(config)
    if module_name == IN_MEMORY:
        raise ConfigError(
            f"the task {name} was handed over in Python and lies in no file; hand it over again: "
            "madrigal.evaluate(run, task=...), madrigal.load_team(run, task=...)"
        )
    made = module_object(config, name)
    if made is None:
        raise ConfigError(
            f"own task: {module_name} defines no {name!r}; write {module_name}:NAME with the name of the task in it"
        )
    with _one_line(f"own task {config.path}"):
        # A class may have a default for `agents` and still be no task yet.
        task = made() if isinstance(made, type) or (callable(made) and not hasattr(made, "agents")) else made
    return guarded(task, f"own task {config.path}")


def single_of(config: CustomTask) -> CustomTask | None:
    """The same task for one agent that does everybody's part, which the file calls `single`; None if there is none."""
    module, name = object_names(config)
    if module == IN_MEMORY or name == SINGLE or module_object(config, SINGLE) is None:
        return None
    return CustomTask(f"{module}:{SINGLE}")


@cache
def hears(config: CustomTask) -> bool:
    """Whether who speaks first in an own task is then shown that answer, where it speaks again in the same round.

    Raises:
        MadrigalError: if there is no such task, or it breaks the contract.
    """
    task = load_own(config)
    state = task.reset(task.examples("train")[0])
    agent = task.acting(state)[0]
    answer = Turn(agent, task.observe(state, agent, ()), Completion("an answer"))
    return task.observe(state, agent, (answer,)) != answer.prompt


def guarded(task: Any, where: str) -> Task[Any]:
    """A user's own task, checked, and from now on with errors of one line.

    Args:
        where: how errors name the task.

    Raises:
        TaskError, RewardError: if the object is no task or breaks the contract.
    """
    if isinstance(task, Guarded):
        return task
    needed = ("name", "agents", "horizon", "best_return", "examples", "reset", "acting", "observe", "step")
    missing = [part for part in needed if not hasattr(task, part)]
    if missing:
        raise TaskError(f"{where}: a task needs {', '.join(missing)}; see docs/own-task.md")
    if not isinstance(task.agents, (tuple, list)):
        raise TaskError(f"{where}: agents must be a tuple of names, got {task.agents!r}")
    wrapped = Guarded(task)
    check_task(wrapped)
    return wrapped


def module_object(config: CustomTask, name: str, what: str = "own task") -> Any:
    """An object of the user's module by its name, None where there is none.

    Args:
        what: it is, for errors.

    Raises:
        ConfigError: if there is no such file or module, or it cannot be imported.
    """
    return vars(_module(object_names(config)[0], what)).get(name)


def object_names(config: CustomTask) -> tuple[str, str]:
    """The file or module that a path names, and the object in it.

    Raises:
        ConfigError: if it names no object.
    """
    module, _, name = config.path.rpartition(":")
    if not module:
        raise ConfigError(f"own task: expected file.py:name or module:name, got {config.path!r}")
    return module, name


def _module(name: str, what: str) -> Any:
    if not name.endswith(".py"):
        try:
            with _one_line(f"{what} {name}"):
                return importlib.import_module(name)
        except ConfigError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
                raise ConfigError(f"{what}: there is no module {name!r}; check its name") from error
            raise
    path = Path(name).resolve()
    if not path.is_file():
        raise ConfigError(f"{what}: there is no file {name}; check the path")
    with _one_line(f"{what} {name}"):
        return _load(path)


@cache
def _load(path: Path) -> Any:
    """The module in a file, under a name of its own: an own random.py must not become everybody's random.

    It may import what lies beside it, now or when it is played. Its folder therefore stays on the path, at the end: a
    neighbor that is called random.py does not become everybody's random either.
    """
    name = f"madrigal_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"own task: {path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module that they are defined in.
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Whatever the user's code raises while it is imported or made, as one line."""
    try:
        yield
    except MadrigalError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{where}: {explain(error)}") from error
