"""A team: which policy sits in which seat, and how a request of many agents becomes one call per policy.

Knows: seats and policies. Does not know: tasks, rewards, learning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from madrigal.engines.transformers import generate
from madrigal.policies.local import LocalPolicy
from madrigal.rollout import Speaker, Utterance
from madrigal.sampling import Sampling
from madrigal.types import AgentId, Completion, ConfigError, Turn


@dataclass(frozen=True, slots=True)
class Team:
    """Seats and the policies in them.

    Attributes:
        seats: one policy per agent.
        shared: whether several seats are meant to hold one trainable policy.
    """

    seats: Mapping[AgentId, LocalPolicy]
    shared: bool = False

    def __post_init__(self) -> None:
        names = {policy.name for policy in self.seats.values()}
        if len(names) != len({id(policy) for policy in self.seats.values()}):
            raise ConfigError(f"team: every policy needs a name of its own, got {', '.join(sorted(names))}")
        if self.shared:
            return
        taken: dict[tuple[int, str], AgentId] = {}
        for agent, policy in self.seats.items():
            held = (id(policy.model), policy.adapter)
            if held in taken and (policy.trainable or self.seats[taken[held]].trainable):
                raise ConfigError(
                    f"team: the seats {taken[held]} and {agent} hold the same trainable model; give each its own, or "
                    "say shared=True if they are meant to learn as one"
                )
            taken[held] = agent

    @property
    def policies(self) -> tuple[LocalPolicy, ...]:
        """The distinct policies, in seat order."""
        return tuple({policy.name: policy for policy in self.seats.values()}.values())

    @property
    def trainable(self) -> tuple[LocalPolicy, ...]:
        return tuple(policy for policy in self.policies if policy.trainable)

    def policy_of(self, agent: AgentId, round: int = 0) -> LocalPolicy:
        """Who speaks for an agent in a round."""
        return self.seats[agent]

    def spoke(self, policy: LocalPolicy, turn: Turn) -> bool:
        """Whether a turn is a policy's own, to learn from."""
        return self.policy_of(turn.agent, turn.round) is policy

    def speaker(self, sampling: Sampling, pool: ThreadPoolExecutor | None = None) -> Speaker:
        """Answers any mix of agents' requests with one batched call per policy, side by side in a pool if given."""

        def speak(wanted: Sequence[Utterance]) -> list[Completion]:
            rows: dict[tuple[str, bool], list[int]] = {}
            for i, utterance in enumerate(wanted):
                rows.setdefault((self.policy_of(utterance.agent, utterance.round).name, utterance.greedy), []).append(i)
            by_name = {policy.name: policy for policy in self.policies}

            def answer(asked: tuple[str, bool]) -> list[Completion]:
                name, greedy = asked
                mine = [wanted[i] for i in rows[asked]]
                how = replace(sampling, greedy=sampling.greedy or greedy)
                return generate(by_name[name], [u.prompt for u in mine], [u.seed for u in mine], how)

            said: list[Completion] = [Completion("")] * len(wanted)
            spoken = map(answer, rows) if pool is None else pool.map(answer, rows)
            for mine, completions in zip(rows.values(), spoken, strict=True):
                for i, completion in zip(mine, completions, strict=True):
                    said[i] = completion
            return said

        return speak

    def save(self, folder: Path) -> None:
        """Writes each agent's policy to its own folder, and who sits where to team.json."""
        for agent, policy in self.seats.items():
            policy.save(folder / agent)
        seats = {agent: {"policy": policy.name, "folder": agent} for agent, policy in self.seats.items()}
        (folder / "team.json").write_text(json.dumps({"seats": seats, "shared": self.shared}, indent=2) + "\n")
