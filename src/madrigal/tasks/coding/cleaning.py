"""Takes the code out of an answer: no markdown, no prose, no trials; read off the syntax tree, nothing is executed.

A model writes what is read here, in the trainer's own process: every text is parsed a bounded number of times, and
what is longer than LONGEST characters is cut.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Sequence
from functools import lru_cache

from madrigal.tasks.coding.pieces import START, Piece, join, pieces, plain_lines
from madrigal.tasks.coding.syntax import changed_names, loaded, parse, stored

LONGEST = 100_000  # characters of an answer
MOST_FENCES = 3  # further fences that a fenced block may hold inside of its strings

_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
# Code on the line of a fence: "```def f(x):", "```python import math", and "return x```" at the end.
_CODE_AFTER_FENCE = re.compile(r"^([ \t]*```(?:python3?|py)?)[ \t]*(?=(?:async\s+def|def|class|import|from|@)\s)", re.M)
_FENCE_AFTER_CODE = re.compile(r"(?<=[^\s`])[ \t]*(```)[ \t]*$", re.M)
_CODE = re.compile(r"^[ \t]*(?:async\s+def|def|class|import|from)\s", re.MULTILINE)
_MARK = re.compile("^\ufeff+", re.MULTILINE)  # a byte-order mark, which no parser takes
# What a statement at the top level may not name: it would end the program, wait for someone, or reach past the team.
_EFFECTS = frozenset({"breakpoint", "compile", "eval", "exec", "exit", "help", "input", "open", "quit", "__import__"})
_REACHING = frozenset({"globals", "locals", "vars", "setattr", "delattr", "__dict__", "modules"})
_PURE = frozenset(vars(builtins)) - _EFFECTS - _REACHING - {"print"}


def clean(completion: str, wanted: str = "") -> str:
    """Keeps the imports and definitions of an answer, with what they need; no markdown, no prose, no trials.

    Kept are imports, functions, classes, assignments that call nothing but builtins and imports, and whatever else
    sets up a name that a function reads: a loop that fills a table, a guarded import, an instance. Calls, prints and
    asserts at the top level go, and so does what needs input or reaches into the names of the program.

    A function that does not parse is dropped: the limit on tokens has cut an extra. The function `wanted` is
    dropped only where another one of its name is complete: a sole broken function stays, so that the syntax level
    sees it.

    >>> print(clean("Sure!\\n```python\\ndef aux(x):\\n    return x + 1\\n```\\nIt adds one."))
    def aux(x):
        return x + 1
    """
    return join(kept(completion, wanted))


@lru_cache(maxsize=64)  # one answer is cleaned, joined and shown
def kept(completion: str, wanted: str = "") -> tuple[Piece, ...]:
    """The pieces that `clean` joins."""
    parts = pieces(_unfenced(completion))
    complete = {name for piece in parts if isinstance(piece.node, ast.FunctionDef) for name in piece.names}
    if wanted:
        parts = tuple(piece for piece in parts if piece.node or piece.names & ({wanted} - complete))
    elif complete:
        parts = tuple(piece for piece in parts if piece.node)
    return _needed(parts)


def reaches_out(node: ast.stmt) -> bool:
    """Whether a statement names what ends the program, waits for someone, or reaches into the names of the program."""
    return bool(_read(node) & (_EFFECTS | _REACHING))


def _unfenced(completion: str) -> str:
    """The code of an answer: what is fenced and holds code, else what stands around the fences.

    A text that is a program as it stands is taken whole, with the fences in its strings.
    """
    text = _level(_MARK.sub("", plain_lines(completion[:LONGEST])))
    if "```" not in text or isinstance(parse(text), ast.Module):
        return text
    text = _FENCE_AFTER_CODE.sub(r"\n\1", _CODE_AFTER_FENCE.sub(r"\1\n", text))
    for blocks in _sides(text.split("\n")):
        code = [block for block in map(_level, blocks) if _CODE.search(block)]
        if code:
            return "\n\n".join(code)
    return ""


def _sides(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands between pairs of fences, and what stands outside of them.

    A block goes on to a later fence where it parses up to there, and not up to an earlier one.
    """
    fences = [place for place, line in enumerate(lines) if _FENCE.match(line)]
    inside, outside, start, place = list[str](), list[str](), 0, 0
    while place < len(fences):
        first = fences[place]
        outside.append("\n".join(lines[start:first]))
        ends = [*fences[place + 1 : place + 2 + MOST_FENCES], len(lines)][: 1 + MOST_FENCES]
        blocks = ["\n".join(lines[first + 1 : end]) for end in ends]
        whole = (i for i, block in enumerate(blocks) if isinstance(parse(_level(block)), ast.Module))
        chosen = next(whole, 0)
        inside.append(blocks[chosen])
        start, place = ends[chosen] + 1, place + chosen + 2
    outside.append("\n".join(lines[start:]))
    return inside, outside


def _level(part: str) -> str:
    """Removes the indent that all lines share, or that the first line alone has, as after a sampled blank."""
    part = textwrap.dedent(part.strip("\n")).rstrip()
    bare = part.lstrip(" \t")
    return bare if START.match(bare) else part


def _needed(parts: Sequence[Piece]) -> tuple[Piece, ...]:
    """The definitions among some pieces, and every other statement that sets up a name that one of them reads."""
    imports = (piece for piece in parts if isinstance(piece.node, ast.Import | ast.ImportFrom))
    imported = {name for piece in imports for name in piece.names}
    chosen = {place for place, piece in enumerate(parts) if _is_definition(piece, imported)}
    if len(chosen) == len(parts):
        return tuple(parts)
    names = {name for place in chosen for name in _free_names(parts[place].node)}
    for place in reversed(range(len(parts))):
        node = parts[place].node
        if place not in chosen and node is not None and _sets_up(node) and changed_names(node) & names:
            chosen.add(place)
            names |= loaded(node)
    return tuple(parts[place] for place in sorted(chosen))


def _free_names(node: ast.stmt | None) -> set[str]:
    """The names that a definition takes from outside: those that it reads and does not bind."""
    match node:
        case None | ast.Import() | ast.ImportFrom():
            return set()
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            parameters = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
            declared = {name for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names}
            return (loaded(node) - parameters - stored(node)) | declared
    return loaded(node)


def _sets_up(node: ast.stmt) -> bool:
    """Whether a statement may run when the program is loaded: no assert, no `__main__` block, nothing with effects."""
    if isinstance(node, ast.Assert | ast.Return | ast.Raise | ast.Delete):
        return False
    return not reaches_out(node) and "__name__" not in _read(node)


def _is_definition(piece: Piece, imported: set[str]) -> bool:
    match piece.node:
        case None | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign() | ast.AnnAssign():
            calls = (node.func for node in ast.walk(piece.node) if isinstance(node, ast.Call))
            return all(_is_harmless(call, imported) for call in calls)
    return False


def _is_harmless(function: ast.expr, imported: set[str]) -> bool:
    while isinstance(function, ast.Attribute):
        function = function.value
    if not isinstance(function, ast.Name):
        return isinstance(function, ast.Constant)
    return function.id in imported or function.id in _PURE


def _read(tree: ast.AST) -> set[str]:
    """Every name and attribute that a tree reads."""
    return loaded(tree) | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
