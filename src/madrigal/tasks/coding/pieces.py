"""A text that a model wrote, cut into top-level statements; nothing is executed.

A text that does not parse is read piece by piece: each top-level statement on its own, and only a function
that is itself broken is recognized by its `def` line. So a broken main function is found and then fails at
the syntax level, as in the published reward, where functions are extracted by pattern and parsed afterwards.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

import ast
import itertools
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from madrigal.tasks.coding.syntax import bound_names, parse, returns_value

MOST_CUTS = 30  # times that one broken block is cut shorter and parsed again

# Where a top-level import, definition or assignment seems to begin.
START = re.compile(r"@|(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\b|[^\W\d]\w*\s*(?::[^=]*)?=(?!=)")
_DEF = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)
_RETURN = re.compile(r"\breturn[ \t]+\S")


@dataclass(frozen=True, slots=True)
class Piece:
    """One top-level statement: its text, and its tree, or None for a function that does not parse."""

    text: str
    node: ast.stmt | None

    @property
    def names(self) -> frozenset[str]:
        """The names that it binds."""
        if self.node is None:
            return frozenset(_DEF.findall(self.text)[:1])
        return frozenset(bound_names(self.node))


@dataclass(frozen=True, slots=True)
class Function:
    """A function found in an answer: its text, decorators included, and its tree, or None where it does not parse."""

    text: str
    node: ast.FunctionDef | None

    @property
    def returns(self) -> bool:
        """Whether a `return` with a value stands in it; where it parses, nested functions are not counted."""
        return bool(_RETURN.search(self.text)) if self.node is None else returns_value(self.node)


@lru_cache(maxsize=64)
def pieces(source: str) -> tuple[Piece, ...]:
    """Cuts a text into top-level statements; broken ones are kept where they are functions."""
    tree = parse(source)
    if isinstance(tree, ast.Module):
        return _cut(source, tree)
    return tuple(piece for block in _blocks(source.split("\n")) for piece in _tolerant(block))


def join(parts: Iterable[Piece]) -> str:
    """One source of many pieces, with a blank line between them."""
    return "\n\n".join(piece.text for piece in parts)


def find_function(source: str, name: str) -> Function | None:
    """Returns the top-level function that a name stands for at the end of a text, or None.

    The last binding counts, as when Python runs it. A lambda, a class, an `async def`, a method and a nested
    function are not a function in this sense.
    """
    last = next((piece for piece in reversed(pieces(source)) if name in piece.names), None)
    if last is None or not isinstance(last.node, ast.FunctionDef | None):
        return None
    return Function(last.text, last.node)


def plain_lines(text: str) -> str:
    """The text with line feeds alone at the ends of its lines."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cut(source: str, tree: ast.Module) -> tuple[Piece, ...]:
    """Each statement with its text; the line and column of a node count from 1 and in bytes."""
    lines = plain_lines(source).split("\n")
    return tuple(Piece(_text(lines, node), node) for node in tree.body)


def _text(lines: Sequence[str], node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        # Whole lines: decorators, and a comment after the last line, stay.
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        return "\n".join(lines[first - 1 : node.end_lineno])
    text = [line.encode() for line in lines[node.lineno - 1 : node.end_lineno]]
    text[-1] = text[-1][: node.end_col_offset]
    text[0] = text[0][node.col_offset :]
    return b"\n".join(text).decode()


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that begin at START, decorators before their function."""
    starts = [i for i, line in enumerate(lines) if START.match(line)]
    starts = [i for i in starts if i == 0 or not lines[i - 1].startswith("@")]
    for first, after in itertools.pairwise([*starts, len(lines)]):
        yield lines[first:after]


def _tolerant(block: list[str]) -> tuple[Piece, ...]:
    """Reads a block up to the last line where it parses; without one it is a broken function, or nothing."""
    header = next((i for i, line in enumerate(block) if not line.startswith("@")), 0)
    cuts = [i for i, line in enumerate(block) if i > header and line[:1].strip()]
    ends = [*cuts, len(block)]
    for _ in range(MOST_CUTS):
        if not ends:
            break
        text = "\n".join(block[: ends.pop()]).rstrip()
        tree = parse(text)
        if isinstance(tree, ast.Module):
            return _cut(text, tree)
        # No text that holds the line of the fault parses.
        del ends[bisect_left(ends, tree.line) if tree.line else len(ends) :]
    prose = [i for i in cuts if block[i][0] not in ")]}"]
    text = "\n".join(block[: prose[0] if prose else len(block)]).rstrip()
    return (Piece(text, None),) if _DEF.search(text) else ()
