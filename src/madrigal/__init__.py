"""Madrigal trains teams of language models to collaborate.

The names of this module are stable; they are loaded when they are first used, so that `import madrigal` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from madrigal.algorithms.actor_critic import COLLM_CC as COLLM_CC
    from madrigal.algorithms.actor_critic import COLLM_DC as COLLM_DC
    from madrigal.algorithms.actor_critic import IPPO as IPPO
    from madrigal.algorithms.actor_critic import MAPPO as MAPPO
    from madrigal.algorithms.group import MAGRPO as MAGRPO
    from madrigal.algorithms.group import REINFORCE as REINFORCE
    from madrigal.algorithms.group import RLOO as RLOO
    from madrigal.algorithms.group_relative import GroupRelative as GroupRelative
    from madrigal.api import TrainingResult as TrainingResult
    from madrigal.api import evaluate as evaluate
    from madrigal.api import evaluate_rollouts as evaluate_rollouts
    from madrigal.api import train as train
    from madrigal.api import train_rollouts as train_rollouts
    from madrigal.config import Experiment as Experiment
    from madrigal.evaluation.evaluate import Evaluation as Evaluation
    from madrigal.policies.outside import scripted as scripted
    from madrigal.policies.team import Team as Team
    from madrigal.recipes import recipe as recipe
    from madrigal.rollouts.task import SingleRound as SingleRound
    from madrigal.rollouts.task import Task as Task
    from madrigal.rollouts.task import check_task as check_task
    from madrigal.rollouts.task import joint as joint
    from madrigal.rollouts.topology import Asynchronous as Asynchronous
    from madrigal.rollouts.topology import Coordinated as Coordinated
    from madrigal.rollouts.topology import Discussion as Discussion
    from madrigal.rollouts.topology import Parallel as Parallel
    from madrigal.rollouts.topology import Sequential as Sequential
    from madrigal.settings import EvaluationConfig as EvaluationConfig
    from madrigal.settings import Lora as Lora
    from madrigal.settings import OptimizerConfig as OptimizerConfig
    from madrigal.settings import PolicyConfig as PolicyConfig
    from madrigal.settings import RemoteConfig as RemoteConfig
    from madrigal.settings import Sampling as Sampling
    from madrigal.settings import TeamConfig as TeamConfig
    from madrigal.settings import WarmConfig as WarmConfig
    from madrigal.tasks.data import Source as Source
    from madrigal.tasks.data import load_examples as load_examples
    from madrigal.training.held_out import Callback as Callback
    from madrigal.training.trained_team import Answer as Answer
    from madrigal.training.trained_team import TrainedTeam as TrainedTeam
    from madrigal.training.trained_team import load_team as load_team
    from madrigal.types import ConfigError as ConfigError
    from madrigal.types import EngineError as EngineError
    from madrigal.types import Example as Example
    from madrigal.types import MadrigalError as MadrigalError
    from madrigal.types import Message as Message
    from madrigal.types import RewardError as RewardError
    from madrigal.types import Step as Step
    from madrigal.types import TaskError as TaskError
    from madrigal.types import TrainingError as TrainingError
    from madrigal.types import Turn as Turn

_PLACES = {
    "algorithms.actor_critic": ("COLLM_CC", "COLLM_DC", "IPPO", "MAPPO"),
    "algorithms.group": ("MAGRPO", "REINFORCE", "RLOO"),
    "algorithms.group_relative": ("GroupRelative",),
    "api": ("TrainingResult", "evaluate", "evaluate_rollouts", "train", "train_rollouts"),
    "config": ("Experiment",),
    "evaluation.evaluate": ("Evaluation",),
    "policies.outside": ("scripted",),
    "policies.team": ("Team",),
    "recipes": ("recipe",),
    "rollouts.task": ("SingleRound", "Task", "check_task", "joint"),
    "rollouts.topology": ("Asynchronous", "Coordinated", "Discussion", "Parallel", "Sequential"),
    "settings": (
        "EvaluationConfig",
        "Lora",
        "OptimizerConfig",
        "PolicyConfig",
        "RemoteConfig",
        "Sampling",
        "TeamConfig",
        "WarmConfig",
    ),
    "tasks.data": ("Source", "load_examples"),
    "training.held_out": ("Callback",),
    "training.trained_team": ("Answer", "TrainedTeam", "load_team"),
    "types": (
        "ConfigError",
        "EngineError",
        "Example",
        "MadrigalError",
        "Message",
        "RewardError",
        "Step",
        "TaskError",
        "TrainingError",
        "Turn",
    ),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [*sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = _version()
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(f"madrigal.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'madrigal' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # it takes as long as all else here

    try:
        return version("madrigal")
    except PackageNotFoundError:  # the sources without an installation
        return "0+unknown"


def __dir__() -> list[str]:
    return [*globals(), *__all__]
