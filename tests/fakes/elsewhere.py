"""Teams that a program plays."""

from __future__ import annotations

from typing import Any

from madrigal.rollouts.task import SingleRound
from madrigal.tasks.data import Source
from madrigal.tasks.elsewhere import Elsewhere, ElsewhereTask, Rollout
from madrigal.types import Example

AGENTS = ("left", "right")
ROWS: dict[str, list[dict[str, Any]]] = {
    "train": [{"id": "a", "n": "3"}, {"id": "b", "n": "5"}],
    "test": [{"id": "c", "n": "4"}],
}
TRAIN, TEST = (tuple(Example(row["id"], row) for row in ROWS[split]) for split in ("train", "test"))


def prompt(example: Example, agent: str) -> str:
    return f"{agent}: say {example.data['n']}"


def reward(example: Example, said: Any) -> float:
    return float(len(said["left"]) * 7 % 5) / 5


def play(example: Example, client: Any) -> float:
    """What the task `digits` does, as a program."""
    return reward(example, {agent: client.chat(agent, prompt(example, agent)) for agent in AGENTS})


def digits() -> SingleRound:
    return SingleRound("digits", AGENTS, train=TRAIN, test=TEST, prompt=prompt, reward=reward)


def elsewhere(rollout: Rollout | None = play, **settings: Any) -> ElsewhereTask:
    """A task that is open; what is lost is kept in a list, `task.on_lost.args`."""
    lost: list[tuple[str, str]] = []
    config = Elsewhere(agents=AGENTS, source=Source.of(ROWS), **{"seconds": 20.0, **settings})
    task = ElsewhereTask(config, rollout, open=True, on_lost=lambda session, why: lost.append((session.id, why)))
    LOST[id(task)] = lost
    return task


LOST: dict[int, list[tuple[str, str]]] = {}


def lost_of(task: ElsewhereTask) -> list[str]:
    """Why sessions were lost, in order."""
    return [why for _, why in LOST[id(task)]]
