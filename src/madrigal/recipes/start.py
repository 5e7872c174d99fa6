"""From what a user names to an experiment, and what the settings in a file may ask for."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from madrigal.config import Experiment, absolute, read_experiment
from madrigal.policies.outside import scripted
from madrigal.recipes import RECIPES, recipe
from madrigal.recipes.embedded import own
from madrigal.recipes.environments import environment_experiment, slug_of
from madrigal.recipes.own_file import own_experiment, with_dotted
from madrigal.recipes.trust import TRUST, check_trust
from madrigal.runs.variants import flat
from madrigal.tasks.catalog import environment_name, environment_named
from madrigal.tasks.own import CustomTask
from madrigal.types import ConfigError


def base_experiment(name: str) -> Experiment:
    """A recipe or an environment by name, an experiment from a file or run folder, or an own task as file.py:name."""
    if name in RECIPES:
        return recipe(name)
    if (environment := environment_named(name)) is not None:
        return environment_experiment(environment)
    path = Path(name)
    if name.endswith(".py"):
        raise ConfigError(_unnamed(path))
    if path.exists():
        return read_experiment(path)
    if ":" in name:
        return own_experiment(name)
    if "/" in name or name.endswith(".json"):
        raise ConfigError(f"there is no file or folder {name}; name a run folder, an experiment.json or a recipe")
    return recipe(name)


def run_name(name: str) -> str:
    """What the run folders of a recipe, of an environment or of an own task as file.py:name, are called."""
    if (environment := environment_named(name)) is not None:
        return slug_of(environment)
    return own(name).recipe if ":" in name else name


def _unnamed(path: Path) -> str:
    """What to type where the file of an own task is named, but not the task in it."""
    if not path.is_file():
        return f"there is no file {path}; an own task is named as file.py:name"
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):  # told when it is imported
        body = []
    targets = [target for part in body if isinstance(part, ast.Assign) for target in part.targets]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    names += [part.name for part in body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
    name = "task" if "task" in names or not names else names[-1]
    return f"name the task in {path}, too: {path}:{name}"


def require_trust(run: Experiment, name: str, settings: Collection[str], where: str | Path) -> None:
    """Refuses what a file asks for beyond training; recipes are ours, and what was typed was not asked for by a file.

    Args:
        name, settings: what was typed; of settings, their flags.
        where: the experiment was read from.

    Raises:
        ConfigError: saying what would be done, and how to allow it.
    """
    typed = {word.partition("=")[0].replace("_", "-") for word in settings}
    if run.task in (CustomTask(name), CustomTask(absolute(name))):
        typed.add("--task.path")
    library, _, environment = name.partition(":")
    if name and environment_name(run.task) in (name, f"{library}:{absolute(environment)}"):
        typed.add("--task.environment")
    if str(where) != name or name not in RECIPES:
        if any(flag.endswith(".engine.url") for flag in typed):
            typed.add("--team.policy.engine.url")
        check_trust(run, where, "train", typed)
        if run.cluster.address not in ("", "local") and "--cluster.address" not in typed:
            raise ConfigError(
                f"{where} asks to send data, weights and code to the cluster at {run.cluster.address}; name it with "
                f"--cluster {run.cluster.address}, or allow all that the file asks for with {TRUST}"
            )


def with_changes(run: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """The experiment with settings as Python has them: dotted, nested, or a whole section as its record.

    >>> from madrigal.settings import Sampling
    >>> run = with_changes(recipe("tldr"), {"steps": 2, "evaluation": {"examples": 4}, "sampling": Sampling(top_k=5)})
    >>> run.steps, run.evaluation.examples, run.sampling.top_k
    (2, 4, 5)

    Raises:
        ConfigError: naming what is unknown or of the wrong type.
    """
    kinds = get_type_hints(Experiment)
    sections = {name: value for name, value in settings.items() if _is_record(value) and name in kinds}
    for name, value in sections.items():
        if not isinstance(value, kinds[name]):
            raise ConfigError(
                f"settings: {name}: {type(value).__name__} is none of its settings; see the API reference"
            )
    rest = flat({name: value for name, value in settings.items() if name not in sections})
    # A function of Python speaks for a seat by the name that it is known by.
    said = {name: scripted(value) if name.endswith(".script") and callable(value) else value for name, value in rest}
    return with_dotted(replace(run, **sections), said, "settings")


def _is_record(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)
