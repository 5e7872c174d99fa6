"""What can be done to the board: for each primitive what must hold before, what it does, and what must hold after.

Knows: boards and the tools of one piece of work. Does not know: roles, rounds, rewards.

| primitive | before | effect | after |
|---|---|---|---|
| plan | nothing is accepted | the plan stands on the board, with what was looked up | there is a plan |
| draft | there is no draft | its text is the draft | there is a draft |
| lint | the draft was not linted | findings about its form | it was linted |
| unit-test | the draft was not tested | findings from running it | it was tested |
| repair | there are findings | its text is the draft, unchecked | the draft is another one |
| integrate | a draft that is not accepted and has the right form | the draft is accepted | it is accepted |
| finalize | something is accepted | the episode ends | - |
| hand-off | - | the episode ends, for a person to go on | - |

An action whose condition before does not hold is refused, one whose condition after would not hold has failed; both
leave the board as it was and stand in the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from madrigal.tasks.office.board import Board
from madrigal.tasks.office.work import Work
from madrigal.types import Example


@dataclass(frozen=True, slots=True)
class Bench:
    """The tools, on the example at hand."""

    work: Work
    example: Example

    def facts(self) -> tuple[str, ...]:
        return self.work.facts(self.example)

    def lint(self, draft: str) -> tuple[str, ...]:
        return self.work.lint(self.example, draft)

    def test(self, draft: str) -> tuple[str, ...]:
        return self.work.test(self.example, draft)


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

    before: Callable[[Board, Bench], bool]
    effect: Callable[[Board, str, Bench], Board]
    after: Callable[[Board, Board], bool]
    due: Callable[[Board], bool]
    ends: bool = False


def _plan(board: Board, text: str, bench: Bench) -> Board:
    return replace(board, plan=text, facts=bench.facts())


def _draft(board: Board, text: str, bench: Bench) -> Board:
    return replace(board, draft=text, checks=(), findings=())


def _lint(board: Board, text: str, bench: Bench) -> Board:
    found = bench.lint(board.draft)
    return replace(board, checks=(*board.checks, "lint"), findings=_joined(board, found))


def _unit_test(board: Board, text: str, bench: Bench) -> Board:
    found = bench.test(board.draft)
    return replace(board, checks=(*board.checks, "unit-test"), findings=_joined(board, found))


def _joined(board: Board, found: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*board.findings, *found)))


def _integrate(board: Board, text: str, bench: Bench) -> Board:
    return replace(board, accepted=board.draft)


def _leave(board: Board, text: str, bench: Bench) -> Board:
    return board


PRIMITIVES: dict[str, Primitive] = {
    "plan": Primitive(
        before=lambda board, bench: not board.accepted,
        effect=_plan,
        after=lambda was, board: bool(board.plan),
        due=lambda board: not board.plan,
    ),
    "draft": Primitive(
        before=lambda board, bench: not board.draft,
        effect=_draft,
        after=lambda was, board: bool(board.draft),
        due=lambda board: True,
    ),
    "lint": Primitive(
        before=lambda board, bench: bool(board.draft) and "lint" not in board.checks,
        effect=_lint,
        after=lambda was, board: "lint" in board.checks,
        due=lambda board: True,
    ),
    "unit-test": Primitive(
        before=lambda board, bench: bool(board.draft) and "unit-test" not in board.checks,
        effect=_unit_test,
        after=lambda was, board: "unit-test" in board.checks,
        due=lambda board: True,
    ),
    "repair": Primitive(
        before=lambda board, bench: bool(board.findings),
        effect=_draft,
        after=lambda was, board: board.draft not in ("", was.draft),
        due=lambda board: True,
    ),
    "integrate": Primitive(
        before=lambda board, bench: board.draft not in ("", board.accepted) and not bench.lint(board.draft),
        effect=_integrate,
        after=lambda was, board: board.accepted == board.draft,
        due=lambda board: True,
    ),
    "finalize": Primitive(
        before=lambda board, bench: bool(board.accepted),
        effect=_leave,
        after=lambda was, board: True,
        due=lambda board: board.accepted == board.draft and not board.findings,
        ends=True,
    ),
    "hand-off": Primitive(
        before=lambda board, bench: True,
        effect=_leave,
        after=lambda was, board: True,
        due=lambda board: False,
        ends=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one action.

    Attributes:
        board: after it.
        outcome: "done", "refused" (its condition before did not hold) or "failed" (the one after did not).
    """

    board: Board
    outcome: str


def perform(name: str, text: str, board: Board, bench: Bench) -> Done:
    """Does one thing to the board, if it can be done."""
    primitive = PRIMITIVES[name]
    if not primitive.before(board, bench):
        return Done(board, "refused")
    after = primitive.effect(board, text, bench)
    return Done(after, "done") if primitive.after(board, after) else Done(board, "failed")
