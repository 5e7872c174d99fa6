"""What each role is shown: what it may do, the board, its own desk, and the brief; plain strings, nothing else.

Kept short, and with the brief at the end in the words of the single-agent tasks, so that small models can follow it.
The wording is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from madrigal.tasks.office.board import Board, Desk
from madrigal.tasks.office.roles import primitives_of
from madrigal.types import AgentId, Turn

RECENT = 4  # changes shown: what a maker, a checker and an integrator do in one round, and one more


def office_prompt(agent: AgentId, board: Board, desk: Desk, brief: str, heard: Sequence[Turn]) -> str:
    """One agent's observation."""
    # All that the role may ever do: teammates who speak earlier in the round may make it possible by then.
    lines = [f"You are the {agent}. Begin with what you do and a colon: {', '.join(primitives_of(agent))}."]
    lines += _section("Plan", board.plan.splitlines())
    lines += _section("Facts", board.facts)
    lines += _section("Changes", board.changes[-RECENT:])
    lines += _section("Findings", board.findings)
    lines += _section("Accepted" if board.draft == board.accepted else "Draft", board.draft.splitlines())
    lines += _section("To do", desk.todo)
    lines += _section("Your notes", desk.notes)
    lines += [f"{'You' if turn.agent == agent else f'The {turn.agent}'} said: {turn.completion.text}" for turn in heard]
    return "\n".join([*lines, "", brief])


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *lines] if lines else []
