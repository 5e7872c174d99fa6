"""The state of an office: one board that all see, and a desk for each that nobody else does.

Knows: records. Does not know: who may change what (primitives, roles), what anything is worth (work).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from madrigal.types import AgentId, Example


@dataclass(frozen=True, slots=True)
class Board:
    """The shared state.

    Attributes:
        plan: what was planned; "" before.
        facts: what was looked up with the plan.
        draft: the piece as it is being made.
        checks: the tools that the present draft has been through, by their primitives' names.
        findings: what these found wrong with it.
        accepted: the piece that was integrated last; what the episode is worth.
        changes: the changelog: what was done, by whom, in which round.
    """

    plan: str = ""
    facts: tuple[str, ...] = ()
    draft: str = ""
    checks: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    accepted: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Desk:
    """The private state of one agent: its scratchpad, and what the plan asks of it."""

    notes: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Worth:
    """What an accepted piece is worth.

    Attributes:
        quality: from 0 to 1.
        metrics, details: how that came about, as steps report it.
    """

    quality: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OfficeState:
    """The state of an episode: an example, the board, the desks, what the accepted piece is worth, and the round."""

    example: Example
    board: Board = Board()
    desks: Mapping[AgentId, Desk] = field(default_factory=dict)
    worth: Worth = Worth()
    round: int = 0

    def desk(self, agent: AgentId) -> Desk:
        return self.desks.get(agent, Desk())
