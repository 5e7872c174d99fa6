"""The experiment that an environment of another library starts from: what fits the rewards that it is seen to give."""

from __future__ import annotations

import re
from dataclasses import replace

from madrigal.algorithms.catalog import switch_algorithm
from madrigal.algorithms.self_play import SelfPlay
from madrigal.config import Experiment
from madrigal.recipes.embedded import OPTIMIZER, on_starter
from madrigal.recipes.games import BOTH_SEATS
from madrigal.settings import EvaluationConfig, Sampling
from madrigal.tasks.catalog import open_task
from madrigal.tasks.environments.opening import guessed
from madrigal.tasks.environments.pettingzoo import PettingZoo
from madrigal.tasks.environments.replay import Replayed
from madrigal.tasks.environments.textarena import TextArena
from madrigal.tasks.environments.verifiers import Verifiers
from madrigal.tasks.guarded import Guarded


def environment_experiment(config: PettingZoo | TextArena | Verifiers) -> Experiment:
    """The experiment of an environment on the starter models; opening it, it runs its code.

    Zero-sum games are played by one policy against itself, and evaluated against a random player; agents with rewards
    of their own are each trained on theirs; all others on what they earn together.

    Raises:
        ConfigError, TaskError: if it cannot be opened.
    """
    start = replace(
        on_starter(slug_of(config), config),
        sampling=Sampling(max_new_tokens=64),
        optimizer=replace(OPTIMIZER, lr=None),
        evaluation=EvaluationConfig(),
        steps=50,
    )
    if isinstance(config, Verifiers):
        return start
    with open_task(config) as task:
        assert isinstance(task, Guarded) and isinstance(task.task, Replayed)
        rules = guessed(task.task)
    start = replace(start, task=replace(config, rules=rules))
    if rules.rewards == "zero-sum":
        return replace(start, team=BOTH_SEATS, algorithm=SelfPlay(width=4, kl=0.1))
    if rules.rewards == "own":
        return replace(start, algorithm=switch_algorithm(start.algorithm, "independent_grpo"))
    return start


def slug_of(config: PettingZoo | TextArena | Verifiers) -> str:
    """What the run folders of an environment are called.

    >>> slug_of(PettingZoo("classic/tictactoe_v3")), slug_of(PettingZoo("envs/mine.py:make"))
    ('tictactoe_v3', 'mine-make')
    """
    return (
        re.sub(r"[^\w.-]+", "-", config.environment.rpartition("/")[2].replace(".py:", "-")).strip(".") or "environment"
    )
