"""How an environment is opened: its rules and seeds, and trials that find out whether and how it can be played."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from madrigal.rollouts.task import Rewards
from madrigal.tasks.environments.replay import Replayed, Rules
from madrigal.types import AgentId, ConfigError, Example, Split

FIRST_SEED: Mapping[Split, int] = {"train": 0, "test": 1_000_000, "validation": 2_000_000}


def seeded(name: str, agents: Sequence[AgentId], rules: Rules) -> dict[Split, Sequence[Example]]:
    """Examples that are nothing but seeds; no two splits share one."""
    seats = agents if rules.test_against == "random" else [""]
    sizes: Mapping[Split, int] = {"train": rules.examples, "test": rules.tests, "validation": rules.tests}
    return {
        split: [
            Example(
                f"{name}-{split}-{n}{f'-{seat}' if seat else ''}",
                {"seed": first + n} | ({"seat": seat} if seat else {}),
            )
            for n in range(sizes[split])
            for seat in (seats if split != "train" else [""])
        ]
        for split, first in FIRST_SEED.items()
    }


def checked(task: Replayed, trials: int = 2) -> Replayed:
    """The task, once drawn answers have led to the same thing twice.

    Raises:
        TaskError: if they have not.
    """
    for n, example in enumerate(task.examples("train")[:trials]):
        task.trial(example, random.Random(n))
    return task


def guessed(task: Replayed, trials: int = 8) -> Rules:
    """The rules with what drawn answers earn: the kind of the rewards, and the best return where it is above 1.

    Rewards that are the same for all are joint, rewards that always sum up to zero are zero-sum, all others own.
    """
    played = [task.trial(example, random.Random(n)) for n, example in enumerate(task.examples("train")[:trials])]
    paid = [[float(scene.rewards.get(agent, 0.0)) for agent in task.agents] for scenes in played for scene in scenes]
    kind: Rewards = "own"
    if all(len(set(each)) == 1 for each in paid):
        kind = "joint"
    elif all(abs(sum(each)) < 1e-6 for each in paid):
        kind = "zero-sum"
    best = 1.0
    for scenes in played:
        returns = [sum(float(scene.rewards.get(agent, 0.0)) for scene in scenes) for agent in task.agents]
        best = max(best, {"joint": sum(returns), "zero-sum": max(returns)}.get(kind, sum(returns) / len(returns)))
    against: Literal["self", "random"] = "random" if kind == "zero-sum" else "self"
    return replace(task.rules, rewards=kind, best_return=best, test_against=against)


def arguments_of(text: str) -> dict[str, Any]:
    """The keyword arguments that a setting gives as JSON.

    >>> arguments_of('{"board_size": 4}')
    {'board_size': 4}

    Raises:
        ConfigError: if it is no JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        found = error
    if not isinstance(found, dict):
        raise ConfigError(f'task.arguments: expected a JSON object like {{"size": 4}}, got {text!r:.80}')
    if found.get("render_mode") == "human":
        raise ConfigError(
            'task.arguments: render_mode "human" needs a display, and training shows nothing; leave it out'
        )
    return found
