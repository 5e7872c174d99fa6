"""From what two agents said to one program; all of it is read off the syntax tree, nothing is executed.

Knows: how to clean an answer, find a function in it, and join prompt, helper and main into one source.
Does not know: what main does with aux (usage), unit tests, rewards.

A text that does not parse is read piece by piece: each top-level statement on its own, and only a function
that is itself broken is recognised by its `def` line. So a broken main function is *found* and then fails at
the syntax level, as in the published reward, where functions are extracted by pattern and parsed afterwards.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
import textwrap
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from madrigal.tasks.coding.score import Fault

AUX = "aux"

_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
_CODE = re.compile(r"^[ \t]*(?:async\s+def|def|class|import|from)\s", re.MULTILINE)
_START = re.compile(
    r"@|(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\b|[^\W\d]\w*\s*(?::[^=]*)?=(?!=)",
)
_DEF = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)
_RETURN = re.compile(r"\breturn[ \t]+\S")
_PURE = frozenset(vars(builtins)) - frozenset(
    {"breakpoint", "compile", "eval", "exec", "exit", "help", "input", "open", "print", "quit", "__import__"}
)


_QUIET = threading.Lock()  # warning filters are global, and tasks step in many threads


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
    """A function found in an answer.

    Attributes:
        text: its source, decorators included.
        node: its tree; None where its text does not parse.
        returns: whether a `return` with a value stands in it, nested functions not counted.
    """

    text: str
    node: ast.FunctionDef | None
    returns: bool


def parse(source: str) -> ast.Module | Fault:
    """Parses a text, or says why it is no program; whatever a model writes, nothing is raised.

    Null bytes and lone surrogates are a ValueError of the parser, extreme nesting a RecursionError or a
    MemoryError; all of them are faults like any other.
    """
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        return Fault(error.msg or "invalid syntax", error.lineno or 0, error.offset or 0)
    except ValueError as error:
        return Fault(str(error) or "not a text")
    except (RecursionError, MemoryError):
        return Fault("nested too deeply")


def clean(completion: str, wanted: str = "") -> str:
    """Keeps the imports and definitions of an answer: no markdown, no prose, no calls at the top level.

    Kept are imports, functions, classes and assignments that call nothing but builtins and imports. A function at
    the end that does not parse is dropped where a complete one stands before it, for then the limit on tokens has
    cut an extra. The function `wanted` is dropped only where an earlier one of its name is complete: a sole broken
    function stays, so that the syntax level sees it.

    >>> print(clean("Sure!\\n```python\\ndef aux(x):\\n    return x + 1\\n```\\nIt adds one."))
    def aux(x):
        return x + 1
    """
    return join(kept(completion, wanted))


def kept(completion: str, wanted: str = "") -> tuple[Piece, ...]:
    """The pieces that `clean` joins."""
    found = pieces(_unfenced(completion))
    imported = {name for piece in found if _is_import(piece.node) for name in piece.names}
    found = tuple(piece for piece in found if _is_definition(piece, imported))
    complete = {name for piece in found if isinstance(piece.node, ast.FunctionDef) for name in piece.names}
    while complete and found[-1].node is None and not found[-1].names & ({wanted} - complete):
        found = found[:-1]
    return found


def join(parts: Iterable[Piece]) -> str:
    """One source of many pieces, with a blank line between them."""
    return "\n\n".join(piece.text for piece in parts)


def pieces(source: str) -> tuple[Piece, ...]:
    """Cuts a text into top-level statements; broken ones are kept where they are functions."""
    tree = parse(source)
    if isinstance(tree, ast.Module):
        return tuple(_piece(source, node) for node in tree.body)
    return tuple(piece for block in _blocks(source.split("\n")) for piece in _tolerant(block))


def find_function(source: str, name: str) -> Function | None:
    """Returns the top-level function that a name stands for at the end of a text, or None.

    The last binding counts, as when Python runs it. A lambda, a class, an `async def`, a method and a nested
    function are not a function in this sense.
    """
    for piece in reversed(pieces(source)):
        if name not in piece.names:
            continue
        if piece.node is None:
            return Function(piece.text, None, bool(_RETURN.search(piece.text)))
        if isinstance(piece.node, ast.FunctionDef):
            return Function(piece.text, piece.node, returns_value(piece.node))
        return None
    return None


def returns_value(function: ast.FunctionDef) -> bool:
    """Whether a `return` with a value stands in a function itself, not in one nested in it."""
    return any(isinstance(node, ast.Return) and node.value is not None for node in own_nodes(function))


def own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Every node of a function's body, without the bodies of functions and classes nested in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def bound_names(node: ast.stmt) -> set[str]:
    """The names that one import, definition or assignment binds."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).split(".")[0] for alias in aliases}
        case ast.Assign(targets=targets):
            return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def preamble(prompt: str, entry_point: str) -> str:
    """The imports and definitions that a prompt brings (`poly` of HumanEval/32)."""
    return join(_given(prompt, entry_point))


def combine(prompt: str, entry_point: str, main: str, helper: str | None = None) -> str:
    """Joins the prompt's imports and definitions, the helper's answer and main's into one program.

    The team's aux is the helper's: whatever main binds to that name at the top level is left out, and so is
    the entry point where the helper wrote it. With `helper` None a single agent wrote everything, and may
    call a function of its own aux.
    """
    own = frozenset[str]() if helper is None else frozenset({AUX})
    parts = _given(prompt, entry_point)
    parts += [piece for piece in kept(helper or "", AUX) if entry_point not in piece.names]
    parts += [piece for piece in kept(main, entry_point) if not piece.names & own]
    return join(sorted(parts, key=lambda piece: not _is_future(piece.node)))


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


def _given(prompt: str, entry_point: str) -> list[Piece]:
    return [piece for piece in kept(prompt) if piece.node is not None and entry_point not in piece.names]


def _unfenced(completion: str) -> str:
    text = completion.replace("\r\n", "\n").replace("\r", "\n")
    parts = [_level(part) for part in _FENCE.split(text)]
    if len(parts) == 1:
        return parts[0]
    for chosen in (parts[1::2], parts[::2]):
        code = [part for part in chosen if _CODE.search(part)]
        if code:
            return "\n\n".join(code)
    return ""


def _level(part: str) -> str:
    """Removes the indent that all lines share, or that the first line alone has, as after a sampled blank."""
    part = textwrap.dedent(part.strip("\n")).rstrip()
    bare = part.lstrip(" \t")
    return bare if _START.match(bare) else part


def _piece(source: str, node: ast.stmt) -> Piece:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        return Piece("\n".join(source.split("\n")[first - 1 : node.end_lineno]), node)
    return Piece(ast.get_source_segment(source, node) or "", node)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that begin where a top-level import, definition or assignment seems to begin."""
    starts = [i for i, line in enumerate(lines) if _START.match(line)]
    starts = [i for i in starts if i == 0 or not lines[i - 1].startswith("@")]
    for first, after in itertools.pairwise([*starts, len(lines)]):
        yield lines[first:after]


def _tolerant(block: list[str]) -> tuple[Piece, ...]:
    """Reads a block up to the last line where it parses; without one it is a broken function, or nothing."""
    header = next((i for i, line in enumerate(block) if not line.startswith("@")), 0)
    cuts = [i for i, line in enumerate(block) if i > header and line[:1].strip()]
    for end in (len(block), *reversed(cuts)):
        text = "\n".join(block[:end]).rstrip()
        tree = parse(text)
        if isinstance(tree, ast.Module):
            return tuple(_piece(text, node) for node in tree.body)
    prose = [i for i in cuts if block[i][0] not in ")]}"]
    text = "\n".join(block[: prose[0] if prose else len(block)]).rstrip()
    return (Piece(text, None),) if _DEF.search(text) else ()


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
    return function.id in imported or (function.id in _PURE)


def _is_import(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _is_future(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
