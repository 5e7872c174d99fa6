"""Partners: older selves of a team that sit opposite it in a share of the games.

In pure self-play everybody forgets together: a team that only meets its present self may lose to what it has beaten
before. Here some groups are played with a snapshot of the weights in one seat. Its turns come without tokens, as those
of any policy that shows none, so that nobody learns from them; credit and learner need not know of partners at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from madrigal.evaluation.ablations import by_agent
from madrigal.policies.generate import SAMPLING_TOKENS
from madrigal.policies.local import SWITCHING, LocalPolicy, put_weights, twin_of
from madrigal.policies.team import Seat, Team
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.seeds import derive
from madrigal.settings import PartnerConfig, Sampling
from madrigal.types import AgentId, Completion, Point

POOL = "partner-pool"  # what a checkpoint calls it, beside its learners
Weights = dict[str, Tensor]
Snapshot = dict[str, Weights]  # by policy


@dataclass(frozen=True, slots=True)
class Matchup:
    """Groups that are played by the same speakers.

    Attributes:
        origins: where the groups begin.
        speak: who answers.
        key: what the seeds of their play derive from.
    """

    origins: tuple[Point[Any], ...]
    speak: Generate
    key: tuple[object, ...]


class Partners:
    """Owns the snapshots of a team's trainable weights, and for each policy a twin that speaks with them."""

    def __init__(
        self,
        config: PartnerConfig,
        seats: Mapping[AgentId, Seat],
        sampling: Sampling,
        token_budget: int = SAMPLING_TOKENS,
    ) -> None:
        """Holds no snapshot yet; `token_budget` is of one batch of answers of a partner."""
        self.config, self.seats, self.sampling, self.token_budget = config, seats, sampling, token_budget
        self.learning = {a: one for a, one in seats.items() if isinstance(one, LocalPolicy) and one.trainable}
        self.snapshots: list[Snapshot] = []
        self._twins: dict[str, tuple[LocalPolicy, Weights]] = {}  # by policy: its twin, and whose weights that has now

    def remember(self, step: int) -> None:
        """Takes a snapshot before every so many steps, if partners are wanted at all."""
        if self.config.share and step % self.config.every == 0:
            learning = {policy.name: policy for policy in self.learning.values()}
            copies = {name: copy_of(policy.parameters()) for name, policy in learning.items()}
            self.snapshots = [*self.snapshots, copies][-self.config.keep :]

    def matchups(self, origins: Sequence[Point[Any]], speak: Generate, key: tuple[object, ...]) -> list[Matchup]:
        """Divides origins between self-play and games with a partner in one of the seats.

        Which group meets whom derives from the key and its place; only seats whose policy learns are given away.

        Args:
            speak: the team as it is.
        """
        shares: dict[tuple[int, AgentId], list[Point[Any]]] = {}
        for place, origin in enumerate(origins):
            shares.setdefault(self._partner((*key, "partner", place)), []).append(origin)
        return [
            Matchup(
                tuple(share),
                self._with_partner(speak, number, seat) if seat else speak,
                (*key, "partner", number, seat) if seat else key,
            )
            for (number, seat), share in shares.items()
        ]

    def _partner(self, key: tuple[object, ...]) -> tuple[int, AgentId]:
        """Which snapshot takes which seat; (0, "") where none does."""
        free = list(self.learning)
        if not self.snapshots or derive(*key, "share") / 2**63 >= self.config.share:
            return 0, ""
        return derive(*key, "which") % len(self.snapshots), free[derive(*key, "seat") % len(free)]

    def _with_partner(self, speak: Generate, number: int, seat: AgentId) -> Generate:
        """The team as it is, but for a snapshot in one seat, which shows no tokens."""
        policy = self.learning[seat]
        weights = self.snapshots[number][policy.name]

        def answer(requests: Sequence[GenerationRequest]) -> list[Completion]:
            with SWITCHING:  # of several lanes of play
                team = Team(dict.fromkeys(self.seats, self._twin(policy, weights)), shared=True)
                completions = team.speaker(self.sampling, self.token_budget)(requests)
            return [replace(one, prompt_ids=(), token_ids=(), logprobs=(), pieces=()) for one in completions]

        return by_agent({agent: answer if agent == seat else speak for agent in self.seats})

    def _twin(self, policy: LocalPolicy, weights: Weights) -> LocalPolicy:
        """A policy with older weights, made where there is none yet; they are loaded once, not at every request."""
        twin, present = self._twins.get(policy.name) or (twin_of(policy), {})
        if present is not weights:
            put_weights(twin, weights)
        self._twins[policy.name] = twin, weights
        return twin

    def state(self) -> dict[str, Any]:
        """All snapshots, to be saved in a checkpoint as POOL."""
        return {"snapshots": self.snapshots}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state` wrote."""
        self.snapshots = list(state["snapshots"])


def copy_of(parameters: Mapping[str, Tensor]) -> Weights:
    """The present numbers, on the processor."""
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}
