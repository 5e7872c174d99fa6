"""Partners: older selves of a team that sit opposite it in a share of the games.

Knows: weights of policies, who sits where. Does not know: games, credit, the training loop.

In pure self-play everybody forgets together: a team that only meets its present self may lose to what it has beaten
before. Here some groups are played with an older self in one seat. Its turns come without tokens, as those of any
policy that shows none, so that nobody learns from them; credit and learner need not know of partners at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from madrigal.evaluation.ablations import seated
from madrigal.policies.local import LocalPolicy
from madrigal.rollouts.play import Speaker, Utterance
from madrigal.rollouts.seeds import derive
from madrigal.types import AgentId, Completion, ConfigError, Point

POOL = "partner-pool"  # what a checkpoint calls it, beside its learners
Weights = dict[str, Tensor]
Snapshot = dict[str, Weights]  # by policy


@dataclass(frozen=True, slots=True)
class PartnerConfig:
    """How often an older self is met, and which there are. From no paper: SPIRAL plays its present self alone.

    Attributes:
        share: of the groups that are played against an older self, 0 to 1; 0 is pure self-play.
        every: steps between two snapshots.
        keep: snapshots kept; the oldest is dropped. Each is a copy of all trainable weights, in the processor's memory.
    """

    share: float = 0.0
    every: int = 20
    keep: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"partners.share: expected 0 (none) to 1, got {self.share}")
        if self.every < 1 or self.keep < 1:
            raise ConfigError("partners.every and partners.keep: expected at least 1")


@dataclass(frozen=True, slots=True)
class Seating:
    """Groups that are played in the same company.

    Attributes:
        origins: where they begin.
        speak: who answers.
        key: what the seeds of their play derive from.
    """

    origins: tuple[Point[Any], ...]
    speak: Speaker
    key: tuple[object, ...]


class Partners:
    """Owns the snapshots of a team's trainable weights."""

    def __init__(self, config: PartnerConfig, seats: Mapping[AgentId, LocalPolicy]) -> None:
        self.config, self.seats = config, seats
        self.snapshots: list[Snapshot] = []

    def remember(self, step: int) -> None:
        """Takes a snapshot before every so many steps, if partners are wanted at all."""
        if self.config.share and step % self.config.every == 0:
            learning = {policy.name: policy for policy in self.seats.values() if policy.trainable}
            copies = {name: copy_of(policy.parameters()) for name, policy in learning.items()}
            self.snapshots = [*self.snapshots, copies][-self.config.keep :]

    def seatings(self, origins: Sequence[Point[Any]], speak: Speaker, key: tuple[object, ...]) -> list[Seating]:
        """Divides origins between self-play and games against an older self in one of the seats.

        Which group meets whom derives from the key and its place; only seats whose policy learns are given away.

        Args:
            speak: the team as it is.
        """
        tables: dict[tuple[int, AgentId], list[Point[Any]]] = {}
        for place, origin in enumerate(origins):
            tables.setdefault(self._opposite((*key, "partner", place)), []).append(origin)
        return [
            Seating(
                tuple(met),
                self._with_partner(speak, number, seat) if seat else speak,
                (*key, "partner", number, seat) if seat else key,
            )
            for (number, seat), met in tables.items()
        ]

    def _opposite(self, key: tuple[object, ...]) -> tuple[int, AgentId]:
        """Which snapshot takes which seat; (0, "") where none does."""
        free = [agent for agent, policy in self.seats.items() if policy.trainable]
        if not self.snapshots or derive(*key, "share") / 2**63 >= self.config.share:
            return 0, ""
        return derive(*key, "which") % len(self.snapshots), free[derive(*key, "seat") % len(free)]

    def _with_partner(self, speak: Speaker, number: int, seat: AgentId) -> Speaker:
        policy = self.seats[seat]
        older = wearing(speak, policy, self.snapshots[number][policy.name])
        return seated({agent: older if agent == seat else speak for agent in self.seats})

    def state(self) -> dict[str, Any]:
        """All snapshots, to be saved in a checkpoint as POOL."""
        return {"snapshots": self.snapshots}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state` wrote."""
        self.snapshots = list(state["snapshots"])


def copy_of(parameters: Mapping[str, Tensor]) -> Weights:
    """The present numbers, on the processor."""
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}


def wearing(speak: Speaker, policy: LocalPolicy, weights: Weights) -> Speaker:
    """A speaker that answers with other weights in a policy, and shows no tokens."""

    def answer(wanted: Sequence[Utterance]) -> list[Completion]:
        with changed(policy, weights):
            said = speak(wanted)
        return [replace(one, prompt_ids=(), token_ids=(), logprobs=(), pieces=()) for one in said]

    return answer


@contextmanager
def changed(policy: LocalPolicy, weights: Weights) -> Iterator[None]:
    """Other weights in a policy for a while; then the very same ones again, bit by bit."""
    own = {name: parameter.detach().clone() for name, parameter in policy.parameters().items()}
    _put(policy, weights)
    try:
        yield
    finally:
        _put(policy, own)


@torch.no_grad()
def _put(policy: LocalPolicy, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in policy.parameters().items():
        parameter.copy_(weights[name])
