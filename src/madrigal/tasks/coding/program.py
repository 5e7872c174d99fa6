"""Joins the answers of a team into one program, and says whether it parses; nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache

from madrigal.tasks.coding.cleaning import kept, reaches_out
from madrigal.tasks.coding.pieces import Piece, join
from madrigal.tasks.coding.score import Fault
from madrigal.tasks.coding.syntax import parse

AUX = "aux"


def combine(prompt: str, entry_point: str, main: str, helper: str | None = None) -> str:
    """Joins the prompt's imports and definitions, the helper's answer and main's into one program.

    The team's aux is the helper's: whatever main binds to that name at the top level is left out, and so is
    the entry point where the helper wrote it. Where main reaches into the names of the program (`globals()`), the
    helper's aux is defined once more at the end. With `helper` None a single agent wrote everything, and may
    call a function of its own aux.
    """
    own = frozenset[str]() if helper is None else frozenset({AUX})
    helpers = [piece for piece in kept(helper or "", AUX) if entry_point not in piece.names]
    mains = [piece for piece in kept(main, entry_point) if not piece.names & own]
    parts = [*_prompt_pieces(prompt, entry_point), *helpers, *mains]
    if any(piece.node and reaches_out(piece.node) for piece in mains):
        parts += [piece for piece in helpers if piece.names & own]
    return join(sorted(parts, key=_comes_later))


def preamble(prompt: str, entry_point: str) -> str:
    """The imports and definitions that a prompt brings (`poly` of HumanEval/32)."""
    return join(_prompt_pieces(prompt, entry_point))


def syntax_fault(program: str, answers: Mapping[str, str]) -> Fault | None:
    """Why a program does not parse, placed in its author's answer, which comes cleaned; None where it parses."""
    whole = parse(program)
    if isinstance(whole, ast.Module):
        return None
    for author, answer in answers.items():
        own = parse(answer)
        if isinstance(own, Fault):
            return Fault(own.message, own.line, own.column, author)
    return whole


@lru_cache(maxsize=1024)
def _prompt_pieces(prompt: str, entry_point: str) -> tuple[Piece, ...]:
    return tuple(piece for piece in kept(prompt) if piece.node is not None and entry_point not in piece.names)


def _comes_later(piece: Piece) -> bool:
    """Nothing but imports of the future may stand before an import of the future."""
    return not (isinstance(piece.node, ast.ImportFrom) and piece.node.module == "__future__")
