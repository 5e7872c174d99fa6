"""Who may do what, and how an agent's words become actions.

Knows: roles and primitives. Does not know: prompts, rounds, rewards.

Actions are lines that begin with a primitive's name and a colon, or consist of the name; what follows, down to the next
such line, is the action's text. `note:` is for the agent's own scratchpad. Words that name nothing are the role's usual
action: the first of its primitives that is due. So models that were never told of primitives can be seated too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from madrigal.tasks.office.board import Board
from madrigal.tasks.office.primitives import PRIMITIVES, Bench
from madrigal.types import AgentId

# In the order in which a round's actions take effect; of each role's primitives the first that is due is its usual one.
ROLES: dict[AgentId, tuple[str, ...]] = {
    "planner": ("finalize", "plan", "hand-off"),
    "writer": ("draft", "repair"),
    "coder": ("draft", "repair"),
    "tester": ("unit-test", "lint"),
    "reviewer": ("integrate", "lint", "finalize", "hand-off"),
}
WORKER = "worker"  # does everybody's part: the single-agent baseline
ALONE = ("draft", "integrate", "finalize", "repair", "unit-test", "lint", "plan", "hand-off")
NOTE = "note"
_LINE = re.compile(rf"^\s*({'|'.join((*PRIMITIVES, NOTE))})\s*(?::|$)[ \t]*", re.IGNORECASE | re.MULTILINE)


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
    found = list(_LINE.finditer(words))
    ends = [*(match.start() for match in found), len(words)][1:]
    named = [Action(m[1].lower(), words[m.end() : end].strip()) for m, end in zip(found, ends, strict=True)]
    if all(action.name == NOTE for action in named):
        rest = words[: found[0].start()] if found else words
        named += [Action("", rest.strip())] if rest.strip() else []
    return tuple(named)


def primitives_of(agent: AgentId) -> tuple[str, ...]:
    """What a role may do."""
    return ALONE if agent == WORKER else ROLES[agent]


def usual(agent: AgentId, board: Board, bench: Bench) -> str:
    """What a role does if it names nothing; "" where nothing is due."""
    for name in primitives_of(agent):
        if PRIMITIVES[name].before(board, bench) and PRIMITIVES[name].due(board):
            return name
    return ""
