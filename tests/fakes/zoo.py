"""Tiny environments of PettingZoo, made by hand with the package's own classes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

TEAM = ["left", "right"]


class Sum(ParallelEnv[str, Any, int]):
    """Two agents see a number of 0 to 4 and earn 1 each where their actions add up to it; three rounds.

    `right` is gone after the second round; the last round ends by truncation.
    """

    metadata: Any = {"name": "sum_v0"}  # noqa: RUF012
    possible_agents = TEAM

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(0, 4, (1,), dtype=np.int64)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.round, self.draws = list(TEAM), 0, random.Random(seed)
        self.goal = self.draws.randrange(5)
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: Any) -> Any:
        met = float(sum(actions.values()) == self.goal)
        rewards = dict.fromkeys(self.agents, met)
        self.round += 1
        self.goal = self.draws.randrange(5)
        gone = {agent: agent == "right" and self.round == 2 for agent in self.agents}
        cut = dict.fromkeys(self.agents, self.round == 3)
        seen, infos = self._seen(), {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (gone[agent] or cut[agent])]
        return seen, rewards, gone, cut, infos

    def _seen(self) -> dict[str, Any]:
        return {agent: np.array([self.goal]) for agent in self.agents}


class Nim(AECEnv[str, Any, int]):
    """Two take 1 or 2 of so many sticks in turn; who takes the last one wins, and each stick costs its taker 0.1.

    The number is drawn from numpy's common generator, as careless environments do.
    """

    metadata: Any = {"name": "nim_v0", "is_parallelizable": False}  # noqa: RUF012
    possible_agents = ["first", "second"]  # noqa: RUF012

    def __init__(self, sticks: int = 0) -> None:
        self.given = sticks

    def observation_space(self, agent: str) -> Any:
        return spaces.Dict({"observation": spaces.Discrete(9), "action_mask": spaces.MultiBinary(3)})

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents, self.sticks = list(self.possible_agents), self.given or int(np.random.randint(4, 8))
        self.agent_selection = "first"
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}

    def observe(self, agent: str) -> Any:
        return {"observation": np.array(self.sticks), "action_mask": np.array([0, 1, self.sticks > 1])}

    def step(self, action: Any) -> None:
        mover = self.agent_selection
        if self.terminations[mover]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[mover] = 0.0
        self._clear_rewards()
        self.sticks -= action
        other = "second" if mover == "first" else "first"
        self.rewards[mover], self.rewards[other] = -0.1 * action, 0.1 * action
        if self.sticks == 0:
            self.rewards[mover] += 1
            self.rewards[other] -= 1
            self.terminations = dict.fromkeys(self.agents, True)
        self.agent_selection = other
        self._accumulate_rewards()


class Restless(Sum):
    """Draws its numbers from the clock of the process instead of a seed."""

    calls = 0

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        Restless.calls += 1
        return super().reset(Restless.calls)


class Endless(Sum):
    """Nobody ever goes."""

    def step(self, actions: Any) -> Any:
        _, rewards, _, _, infos = super().step(actions)
        self.agents = list(TEAM)
        return self._seen(), rewards, dict.fromkeys(TEAM, False), dict.fromkeys(TEAM, False), infos


class Camera(Sum):
    """Shows pictures."""

    def _seen(self) -> dict[str, Any]:
        return {agent: np.zeros((40, 40, 3)) for agent in self.agents}


class Steering(Sum):
    """Actions are two numbers of -1 to 1."""

    def action_space(self, agent: str) -> Any:
        return spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)

    def step(self, actions: Any) -> Any:
        return super().step({agent: int(action[0] > 0) for agent, action in actions.items()})


class Windowed(Sum):
    """Opens a window."""

    def __init__(self) -> None:
        raise RuntimeError("No available video device")
