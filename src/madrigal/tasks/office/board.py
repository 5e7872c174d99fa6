"""The board of an office: what can be done to it, who may do what, and how words become actions.

| primitive | before | effect | after |
|---|---|---|---|
| plan | nothing is accepted | the plan stands on the board, with what was looked up | there is a plan |
| draft | there is no draft | its text is the draft | there is a draft |
| lint | the draft was not linted | findings about its form | - |
| unit-test | the draft was not tested | findings from running it | - |
| repair | there are findings | its text is the draft, unchecked | the draft is another one |
| integrate | a draft that is not accepted and has the right form | the draft is accepted | - |
| finalize | something is accepted | the episode ends | - |
| hand-off | - | the episode ends, for a person to go on | - |

An action whose condition before does not hold is refused, one whose condition after would not hold has failed; both
leave the board as it was and stand in the trace.

Actions are lines that begin with a primitive's name and a colon, or consist of the name; what follows, down to the next
such line, is the action's text. `note:` is for the agent's own scratchpad. Words that name nothing are the role's usual
action: the first of its primitives that is due. So models that were never told of primitives can be seated too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from madrigal.tasks.office.work import Work, Worth
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
class OfficeState:
    """The state of an episode: an example, the board, the desks, what the accepted piece is worth, and the round."""

    example: Example
    board: Board = Board()
    desks: Mapping[AgentId, Desk] = field(default_factory=dict)
    worth: Worth = field(default_factory=Worth)
    round: int = 0

    def desk(self, agent: AgentId) -> Desk:
        return self.desks.get(agent, Desk())

    def with_desk(self, agent: AgentId, desk: Desk) -> OfficeState:
        return replace(self, desks={**self.desks, agent: desk})


@dataclass(frozen=True, slots=True)
class Primitive:
    """One thing that can be done.

    Attributes:
        before: whether it can be done to a board.
        effect: the board after it, given the text that came with it.
        after: whether it was done, given the boards before and after.
        due: whether an agent that names nothing does it; asked only where `before` holds.
        ends: the episode.
    """

    before: Callable[[Board, Work], bool]
    effect: Callable[[Board, str, Work], Board] = lambda board, text, work: board
    after: Callable[[Board, Board], bool] = lambda was, board: True
    due: Callable[[Board], bool] = lambda board: True
    ends: bool = False


def _draft(board: Board, text: str, work: Work) -> Board:
    return replace(board, draft=text, checks=(), findings=())


def _checked(board: Board, name: str, found: tuple[str, ...]) -> Board:
    return replace(board, checks=(*board.checks, name), findings=tuple(dict.fromkeys((*board.findings, *found))))


PRIMITIVES: dict[str, Primitive] = {
    "plan": Primitive(
        before=lambda board, work: not board.accepted,
        effect=lambda board, text, work: replace(board, plan=text, facts=work.facts()),
        after=lambda was, board: bool(board.plan),
        due=lambda board: not board.plan,
    ),
    "draft": Primitive(
        before=lambda board, work: not board.draft,
        effect=_draft,
        after=lambda was, board: bool(board.draft),
    ),
    "lint": Primitive(
        before=lambda board, work: bool(board.draft) and "lint" not in board.checks,
        effect=lambda board, text, work: _checked(board, "lint", work.lint(board.draft)),
    ),
    "unit-test": Primitive(
        before=lambda board, work: bool(board.draft) and "unit-test" not in board.checks,
        effect=lambda board, text, work: _checked(board, "unit-test", work.test(board.draft)),
    ),
    "repair": Primitive(
        before=lambda board, work: bool(board.findings),
        effect=_draft,
        after=lambda was, board: board.draft not in ("", was.draft),
    ),
    "integrate": Primitive(
        before=lambda board, work: board.draft not in ("", board.accepted) and not work.lint(board.draft),
        effect=lambda board, text, work: replace(board, accepted=board.draft),
    ),
    "finalize": Primitive(
        before=lambda board, work: bool(board.accepted),
        due=lambda board: board.accepted == board.draft and not board.findings,
        ends=True,
    ),
    "hand-off": Primitive(before=lambda board, work: True, due=lambda board: False, ends=True),
}

WORKER = "worker"  # does everybody's part: the single-agent baseline
# In the order in which a round's actions take effect; of each role's primitives the first that is due is its usual one.
ROLES: dict[AgentId, tuple[str, ...]] = {
    "planner": ("finalize", "plan", "hand-off"),
    "writer": ("draft", "repair"),
    "coder": ("draft", "repair"),
    "tester": ("unit-test", "lint"),
    "reviewer": ("integrate", "lint", "finalize", "hand-off"),
    WORKER: ("draft", "integrate", "finalize", "repair", "unit-test", "lint", "plan", "hand-off"),
}
NOTE = "note"
_LINE = re.compile(rf"^\s*({'|'.join((*PRIMITIVES, NOTE))})\s*(?::|$)[ \t]*", re.IGNORECASE | re.MULTILINE)


def perform(name: str, text: str, board: Board, work: Work) -> tuple[Board, str]:
    """The board after one action, and its outcome: "done", "refused" (before) or "failed" (after)."""
    primitive = PRIMITIVES[name]
    if not primitive.before(board, work):
        return board, "refused"
    changed = primitive.effect(board, text, work)
    return (changed, "done") if primitive.after(board, changed) else (board, "failed")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that an agent says it does; `name` is a primitive, `NOTE`, or "" for its usual one."""

    name: str
    text: str


def actions_of(words: str) -> tuple[Action, ...]:
    r"""Reads an agent's words.

    >>> actions_of("Here it is.\nDraft: A cat.\nIt sat.\nlint")
    (Action(name='draft', text='A cat.\nIt sat.'), Action(name='lint', text=''))
    >>> actions_of("A cat. It sat.")
    (Action(name='', text='A cat. It sat.'),)
    """
    lines = list(_LINE.finditer(words))
    ends = [*(line.start() for line in lines), len(words)][1:]
    named = [Action(line[1].lower(), words[line.end() : end].strip()) for line, end in zip(lines, ends, strict=True)]
    if all(action.name == NOTE for action in named):
        rest = words[: lines[0].start()] if lines else words
        named += [Action("", rest.strip())] if rest.strip() else []
    return tuple(named)


def usual(agent: AgentId, board: Board, work: Work) -> str:
    """What a role does if it names nothing; "" where nothing is due."""
    for name in ROLES[agent]:
        if PRIMITIVES[name].before(board, work) and PRIMITIVES[name].due(board):
            return name
    return ""


def act(state: OfficeState, agent: AgentId, action: Action, work: Work) -> tuple[OfficeState, dict[str, Any]]:
    """Lets an agent do one thing.

    Returns:
        The office after it; the entry of the trace: agent, action, whether the agent named it, outcome ("done",
        "refused", "failed", "idle"), why a role was refused, and what a tool found. The entry is empty for a note,
        which is private.
    """
    if action.name == NOTE:
        desk = state.desk(agent)
        return state.with_desk(agent, replace(desk, notes=(*desk.notes, action.text))), {}
    board = state.board
    name = action.name or usual(agent, board, work)
    entry = {"agent": agent, "action": name or "nothing", "named": bool(action.name)}
    if not name:
        return state, entry | {"outcome": "idle"}
    if name not in ROLES[agent]:
        return state, entry | {"outcome": "refused", "why": f"not for the {agent}"}
    changed, outcome = perform(name, action.text, board, work)
    entry |= {"outcome": outcome}
    if outcome != "done":
        return state, entry
    if changed.checks != board.checks and changed.checks:
        entry |= {"findings": [finding for finding in changed.findings if finding not in board.findings]}
    change = f"round {state.round + 1}: {agent}, {name}"
    after = replace(state, board=replace(changed, changes=(*board.changes, change)))
    return _assigned(after) if name == "plan" else after, entry


def _assigned(state: OfficeState) -> OfficeState:
    """Lines of the plan that begin with a role's name and a colon are that role's list of things to do."""
    lists: dict[AgentId, tuple[str, ...]] = {}
    for line in state.board.plan.splitlines():
        role, colon, item = line.partition(":")
        agent = role.strip().lower()
        if colon and agent in ROLES:
            lists[agent] = (*lists.get(agent, ()), item.strip())
    for agent, todo in lists.items():
        state = state.with_desk(agent, replace(state.desk(agent), todo=todo))
    return state
