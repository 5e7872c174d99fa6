"""The tools that there are by name: a calculator and programs in the sandbox, and a search of a task's documents."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from madrigal.tasks.coding.task import sandbox_for
from madrigal.tasks.tools.tool import Tool

MOST = 10**15  # no result of the calculator is larger
MEMORY_MB = 512  # of a program
_BINARY: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type, Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculator() -> Tool:
    """Plain arithmetic on numbers."""
    return Tool("calculator", "works out + - * / // % and brackets", {"expression": "string"}, calculated)


def calculated(expression: str) -> str:
    """The value of an expression; whole numbers without a point.

    >>> calculated("12 * (7 + 1)"), calculated("7 / 2")
    ('96', '3.5')

    Raises:
        ValueError: if it is no arithmetic, or its value too large.
    """
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"expected numbers with + - * / // % and brackets, got {expression!r:.60}") from error
    return str(int(value)) if value == int(value) else f"{value:.10g}"


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            value: float = number
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            value = _BINARY[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op, operand) if type(op) in _UNARY:
            value = _UNARY[type(op)](_value(operand))
        case _:
            raise ValueError(f"expected numbers with + - * / // % and brackets, got {ast.unparse(node)!r:.60}")
    if not (math.isfinite(value) and abs(value) <= MOST):
        raise ValueError(f"a value beyond {MOST:.0e}")
    return value


def search(documents: Sequence[str]) -> Tool:
    """The document that fits words best.

    A document scores, for each word of the query that it holds, log(1 + N / n) of a word that n of N documents hold;
    of equals the first wins.
    """
    words = [Counter(_words(text)) for text in documents]
    holding = Counter(word for each in words for word in each)

    def find(query: str) -> str:
        wanted = set(_words(query))
        scores = [sum(math.log1p(len(words) / holding[word]) for word in wanted & each.keys()) for each in words]
        best = max(range(len(scores)), key=scores.__getitem__, default=None)
        return "nothing found" if best is None or not scores[best] else documents[best]

    return Tool("search", "finds the note that fits some words best", {"query": "string"}, find)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


PYTHON = """
def run(source):
    import contextlib, io
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "program", "exec"), {"__name__": "program"})
    return printed.getvalue()
"""


def python(stack: ExitStack, seconds: float) -> Tool:
    """Programs in the sandbox, which is closed with `stack`.

    Raises:
        EngineError: if the machine cannot confine what models write.
    """
    sandbox = stack.enter_context(sandbox_for(seconds, seconds, MEMORY_MB, unconfined=False))

    def run(source: str) -> str:
        return str(sandbox.call(PYTHON, "run", (source,))).rstrip("\n") or "nothing was printed"

    return Tool("python", "runs a Python program and says what it printed", {"source": "string"}, run)
