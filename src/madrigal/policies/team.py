"""A team: which policy sits in which seat and round, and how a request of many agents becomes one call per policy.

Knows: seats and policies. Does not know: tasks, rewards, learning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from madrigal.maths.sampling import Sampling
from madrigal.policies.generate import generate
from madrigal.policies.local import LocalPolicy
from madrigal.rollouts.play import Speaker, Utterance
from madrigal.types import AgentId, Completion, ConfigError, Turn


@dataclass(frozen=True, slots=True)
class Team:
    """Seats and the policies in them.

    Attributes:
        seats: one policy per agent.
        shared: whether several seats are meant to hold one trainable policy.
        later: who sits there in the second round, in the third, and so on; the last also in all rounds after it. Empty
            where everybody keeps its seat.
    """

    seats: Mapping[AgentId, LocalPolicy]
    shared: bool = False
    later: tuple[Mapping[AgentId, LocalPolicy], ...] = ()

    def __post_init__(self) -> None:
        seated = [(agent, policy) for seats in (self.seats, *self.later) for agent, policy in seats.items()]
        names = {policy.name for _, policy in seated}
        if len(names) != len({id(policy) for _, policy in seated}):
            raise ConfigError(f"team: every policy needs a name of its own, got {', '.join(sorted(names))}")
        if any(seats.keys() != self.seats.keys() for seats in self.later):
            raise ConfigError(f"team: expected a policy for each of {', '.join(self.seats)} in every round")
        if not self.shared:
            _check_apart(seated)

    @property
    def policies(self) -> tuple[LocalPolicy, ...]:
        """The distinct policies, in seat order, those of earlier rounds first."""
        seated = [policy for seats in (self.seats, *self.later) for policy in seats.values()]
        return tuple({policy.name: policy for policy in seated}.values())

    @property
    def trainable(self) -> tuple[LocalPolicy, ...]:
        return tuple(policy for policy in self.policies if policy.trainable)

    def policy_of(self, agent: AgentId, round: int = 0) -> LocalPolicy:
        """Who speaks for an agent in a round."""
        return (self.seats, *self.later)[min(round, len(self.later))][agent]

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
        """Writes each agent's policies to folders of their own, and who sits where to team.json."""
        places: dict[tuple[AgentId, str], str] = {}
        written = []
        for index, seats in enumerate((self.seats, *self.later)):
            for agent, policy in seats.items():
                if (agent, policy.name) not in places:
                    places[agent, policy.name] = folder_of(agent, index)
                    policy.save(folder / folder_of(agent, index))
            written.append({a: {"policy": p.name, "folder": places[a, p.name]} for a, p in seats.items()})
        said = {"seats": written[0], "shared": self.shared, **({"later": written[1:]} if self.later else {})}
        (folder / "team.json").write_text(json.dumps(said, indent=2) + "\n")


def folder_of(agent: AgentId, round: int) -> str:
    """Where a saved team has the policy that speaks for an agent from a round on; the name of such a policy, too.

    >>> folder_of("ann", 0), folder_of("ann", 1)
    ('ann', 'ann_round2')
    """
    return f"{agent}_round{round + 1}" if round else agent


def _check_apart(seated: Sequence[tuple[AgentId, LocalPolicy]]) -> None:
    """Refuses weights that would learn as two agents at once, or as two policies."""
    taken: dict[tuple[int, str], tuple[AgentId, LocalPolicy]] = {}
    for agent, policy in seated:
        before, other = taken.setdefault((id(policy.model), policy.adapter), (agent, policy))
        if (before, other) != (agent, policy) and (policy.trainable or other.trainable):
            raise ConfigError(
                f"team: the seats {before} and {agent} hold the same trainable model; give each its own, or "
                "say shared=True if they are meant to learn as one"
            )
