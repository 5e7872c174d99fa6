"""One action of one agent: from the office before to the office after, and an entry of the trace.

Knows: who may do what, the board, the desks. Does not know: rounds, rewards, endings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from madrigal.tasks.office.board import Desk, OfficeState
from madrigal.tasks.office.primitives import Bench, perform
from madrigal.tasks.office.roles import NOTE, ROLES, WORKER, Action, primitives_of, usual
from madrigal.types import AgentId


@dataclass(frozen=True, slots=True)
class Act:
    """What came of an action.

    Attributes:
        state: the office after it.
        name: the primitive that was done; "" where none was.
        entry: of the trace: agent, action, whether the agent named it, outcome ("done", "refused", "failed", "idle"),
            the reason of a refusal by role, and what a tool found. Empty for a note, which is private.
    """

    state: OfficeState
    name: str
    entry: dict[str, Any]


def act(state: OfficeState, agent: AgentId, action: Action, bench: Bench) -> Act:
    """Lets an agent do one thing."""
    if action.name == NOTE:
        desk = state.desk(agent)
        return Act(_at_desk(state, agent, replace(desk, notes=(*desk.notes, action.text))), "", {})
    board = state.board
    name = action.name or usual(agent, board, bench)
    entry = {"agent": agent, "action": name or "nothing", "named": bool(action.name)}
    if not name:
        return Act(state, "", entry | {"outcome": "idle"})
    if name not in primitives_of(agent):
        return Act(state, "", entry | {"outcome": "refused", "why": f"not for the {agent}"})
    done = perform(name, action.text, board, bench)
    entry |= {"outcome": done.outcome}
    if done.outcome != "done":
        return Act(state, "", entry)
    if done.board.checks != board.checks and done.board.checks:
        entry |= {"findings": [one for one in done.board.findings if one not in board.findings]}
    change = f"round {state.round + 1}: {agent}, {name}"
    after = replace(state, board=replace(done.board, changes=(*board.changes, change)))
    return Act(_assigned(after) if name == "plan" else after, name, entry)


def _at_desk(state: OfficeState, agent: AgentId, desk: Desk) -> OfficeState:
    return replace(state, desks={**state.desks, agent: desk})


def _assigned(state: OfficeState) -> OfficeState:
    """Lines of the plan that begin with a role's name and a colon are that role's list of things to do."""
    lists: dict[AgentId, tuple[str, ...]] = {}
    for line in state.board.plan.splitlines():
        role, colon, item = line.partition(":")
        agent = role.strip().lower()
        if colon and agent in (*ROLES, WORKER):
            lists[agent] = (*lists.get(agent, ()), item.strip())
    for agent, todo in lists.items():
        state = _at_desk(state, agent, replace(state.desk(agent), todo=todo))
    return state
