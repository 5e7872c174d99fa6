"""The experiment that the file of an own task starts from: the usual one, or what stands beside the task."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.config import Experiment, from_json, to_json
from madrigal.recipes.embedded import own
from madrigal.rollouts.topology import TOPOLOGIES, Parallel
from madrigal.tasks.own import CustomTask, module_object
from madrigal.types import ConfigError, unknown

NAME = "experiment"
SEATS = "team.seats."


def own_experiment(path: str) -> Experiment:
    """The experiment of a user's own task, "file.py:name"; importing the file, it runs the user's code.

    The file may say more than its task: an object `experiment` in it, an `Experiment` (whose task is replaced by this
    one) or a mapping of dotted settings like {"topology": "sequential", "optimizer.lr": 5e-6} on top of `own`.

    Raises:
        ConfigError: if the file cannot be imported, or a setting is unknown or of the wrong type.
    """
    start, given, file = own(path), module_object(CustomTask(path), NAME), path.rpartition(":")[0]
    if given is None:
        return start
    if isinstance(given, Experiment):
        return replace(given, recipe=start.recipe, task=start.task)
    if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
        return with_dotted(start, given, f"{file}, {NAME}")
    raise ConfigError(f"{file}: expected {NAME} to be an Experiment or a dict of dotted settings, got {given!r:.80}")


def with_topology(start: Experiment, name: str) -> Experiment:
    """The experiment with another topology.

    Answers are crossed only where agents speak at once: elsewhere a recipe that crosses them does without, and says so.
    The methods that are crossed by name stay what they are.
    """
    topology, algorithm = TOPOLOGIES[name][0], start.algorithm
    by_name = ALGORITHMS[algorithm.name][0].branching.crossed
    if isinstance(algorithm, GroupRelative) and algorithm.crossed and not (by_name or isinstance(topology, Parallel)):
        print(f"madrigal: note: in topology {name} agents hear each other: answers are not crossed", file=sys.stderr)
        algorithm = replace(algorithm, crossed=False)
    return replace(start, topology=topology, algorithm=algorithm)


def with_dotted(start: Experiment, settings: Mapping[str, Any], where: str) -> Experiment:
    """An experiment with settings changed by their dotted names, those of the command line.

    `topology` and `algorithm` may be given by name; single seats as "team.seats.AGENT.model".

    Raises:
        ConfigError: naming what is unknown or of the wrong type.
    """
    named = dict(settings)
    if isinstance(named.get("topology"), str):
        _check_name("topology", named["topology"], TOPOLOGIES, where)
    if isinstance(algorithm := named.get("algorithm"), str):
        _check_name("algorithm", named.pop("algorithm"), ALGORITHMS, where)
        start = replace(start, algorithm=switch_algorithm(start.algorithm, algorithm))
    if isinstance(named.get("topology"), str):
        start = with_topology(start, named.pop("topology"))
    data = json.loads(to_json(start))
    # Seats come last: what is not said of one is as in team.policy, on the command line too.
    for name, value in sorted(named.items(), key=lambda item: item[0].startswith(SEATS)):
        *path, last = name.replace("-", "_").split(".")
        if name.startswith(SEATS) and len(path) > 2:
            data["team"]["seats"].setdefault(path[2], deepcopy(data["team"]["policy"]))
        part = data
        for key in path:
            part = part.setdefault(key, {})
            if not isinstance(part, dict):
                raise ConfigError(f"{where}: {name!r} is no setting, for {key} holds no settings")
        part[last] = value
    try:
        return from_json(json.dumps(data), where)
    except TypeError as error:
        raise ConfigError(f"{where}: expected numbers, texts, lists or dicts as settings ({error})") from error


def _check_name(what: str, name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        raise ConfigError(f"{where}: {unknown(what, name, known)}")
