"""Environments under way: what they show, the chance that is their own, and those that wait for what comes next."""

from __future__ import annotations

import random
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from madrigal.types import AgentId, Ending, Example, Messages

POOL = 256  # environments that are kept as they stand, the last ones used
LOCK = threading.RLock()  # of the generators that a whole process shares
Answers = tuple[tuple[AgentId, str], ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """What an environment shows and pays after the last joint action.

    Attributes:
        shown: the prompt of each agent that acts next; nobody's once the episode is over.
        moves: for each of these, answers that may do: what random players and trials choose from.
        rewards: what each agent earned; agents without one earned nothing.
        ending: "" while it goes on.
        metrics: as in a step.
    """

    shown: Mapping[AgentId, Messages]
    moves: Mapping[AgentId, Sequence[str]] = field(default_factory=dict)
    rewards: Mapping[AgentId, float] = field(default_factory=dict)
    ending: Ending = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


class Live(Protocol):
    """An environment under way, which remembers."""

    def reset(self, example: Example, seed: int) -> Scene:
        """Begins the one episode that it is for."""
        ...

    def step(self, answers: Mapping[AgentId, str]) -> Scene:
        """Goes on by what the agents that act have answered."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


@dataclass(slots=True, eq=False)
class Held:
    """A live environment and its own state of the generators that a process shares (`random`, `numpy.random`)."""

    live: Live
    chance: tuple[Any, Any]

    @classmethod
    def begin(cls, live: Live, example: Example, seed: int) -> tuple[Held, Scene]:
        import numpy as np

        with shared_chance():
            random.seed(seed)
            np.random.seed(seed % 2**32)
            scene = live.reset(example, seed)
            return cls(live, (random.getstate(), np.random.get_state())), scene

    def step(self, answers: Mapping[AgentId, str]) -> Scene:
        import numpy as np

        with shared_chance():
            random.setstate(self.chance[0])
            np.random.set_state(self.chance[1])
            scene = self.live.step(answers)
            self.chance = (random.getstate(), np.random.get_state())
            return scene

    def close(self) -> None:
        with shared_chance():
            self.live.close()


@contextmanager
def shared_chance() -> Iterator[None]:
    """Whoever is inside has the process's generators for itself; after it they are as they were.

    Games draw from `random` as if they were alone, so that two of them would mix up each other's draws.
    """
    import numpy as np

    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an environment's, of its own affairs
        before = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


class Pool:
    """Environments as they stand, by what was played: whoever takes one out has it alone."""

    def __init__(self, size: int = POOL) -> None:
        self.size, self._lock = size, threading.Lock()
        self._held = OrderedDict[tuple[int, tuple[Answers, ...]], Held]()

    def take(self, seed: int, actions: tuple[Answers, ...]) -> Held | None:
        """The environment that stands there, if there is one."""
        with self._lock:
            return self._held.pop((seed, actions), None)

    def put(self, seed: int, actions: tuple[Answers, ...], held: Held) -> None:
        """Keeps an environment; the one that waited longest goes where there are too many."""
        with self._lock:
            gone = [self._held.pop((seed, actions), None)]
            self._held[seed, actions] = held
            while len(self._held) > self.size:
                gone.append(self._held.popitem(last=False)[1])
        for old in gone:
            if old is not None:
                old.close()

    def close(self) -> None:
        """Closes all."""
        with self._lock:
            held, self._held = list(self._held.values()), OrderedDict()
        for each in held:
            each.close()
