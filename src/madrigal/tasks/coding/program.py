"""Cleans the answers of a team and joins them into one program; read off the syntax tree, nothing is executed.

A text that does not parse is read piece by piece: each top-level statement on its own, and only a function
that is itself broken is recognized by its `def` line. So a broken main function is found and then fails at
the syntax level, as in the published reward, where functions are extracted by pattern and parsed afterwards.

A model writes what is read here, in the trainer's own process: every text is parsed a bounded number of times, and
what is longer than LONGEST characters is cut.

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
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from madrigal.tasks.coding.score import Fault

AUX = "aux"
LONGEST = 100_000  # characters of an answer
MOST_CUTS = 30  # times that one broken block is cut shorter and parsed again
MOST_FENCES = 3  # further fences that a fenced block may hold inside of its strings

_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
# Code on the line of a fence: "```def f(x):", "```python import math", and "return x```" at the end.
_CODE_AFTER_FENCE = re.compile(r"^([ \t]*```(?:python3?|py)?)[ \t]*(?=(?:async\s+def|def|class|import|from|@)\s)", re.M)
_FENCE_AFTER_CODE = re.compile(r"(?<=[^\s`])[ \t]*(```)[ \t]*$", re.M)
_CODE = re.compile(r"^[ \t]*(?:async\s+def|def|class|import|from)\s", re.MULTILINE)
_START = re.compile(
    r"@|(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\b|[^\W\d]\w*\s*(?::[^=]*)?=(?!=)",
)
_MARK = re.compile("^\ufeff+", re.MULTILINE)  # a byte-order mark, which no parser takes
_UNREADABLE = re.compile("[\x00\ud800-\udfff]")
_DEF = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)
_RETURN = re.compile(r"\breturn[ \t]+\S")
# What a statement at the top level may not name: it would end the program, wait for someone, or reach past the team.
_EFFECTS = frozenset({"breakpoint", "compile", "eval", "exec", "exit", "help", "input", "open", "quit", "__import__"})
_REACHING = frozenset({"globals", "locals", "vars", "setattr", "delattr", "__dict__", "modules"})
_PURE = frozenset(vars(builtins)) - _EFFECTS - _REACHING - {"print"}
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
    """Parses a text, or says why it is no program; whatever a model writes, nothing is raised."""
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        return Fault(error.msg or "invalid syntax", error.lineno or 0, error.offset or 0)
    except ValueError as error:  # a null byte or a lone surrogate
        place = _UNREADABLE.search(source)
        return Fault(str(error) or "not a text", source.count("\n", 0, place.start()) + 1 if place else 0)
    except (RecursionError, MemoryError):
        return Fault("nested too deeply")


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


def join(parts: Iterable[Piece]) -> str:
    """One source of many pieces, with a blank line between them."""
    return "\n\n".join(piece.text for piece in parts)


@lru_cache(maxsize=64)
def pieces(source: str) -> tuple[Piece, ...]:
    """Cuts a text into top-level statements; broken ones are kept where they are functions."""
    tree = parse(source)
    if isinstance(tree, ast.Module):
        return _cut(source, tree)
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


def changed_names(tree: ast.AST) -> set[str]:
    """Every name in a statement that may have another value after it: bound, defined, or changed in place."""
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom():
                names |= bound_names(node)
            case (
                ast.Subscript(value=base, ctx=ast.Store() | ast.Del())
                | ast.Attribute(value=base, ctx=ast.Store() | ast.Del())
                | ast.Call(func=ast.Attribute(value=base))
            ):
                if isinstance(root := _root(base), ast.Name):
                    names.add(root.id)
    return names


def loaded(*trees: ast.AST) -> set[str]:
    """Every name that trees read."""
    return {node.id for node in _names(trees) if isinstance(node.ctx, ast.Load)}


def stored(*trees: ast.AST) -> set[str]:
    """Every name that trees bind, targets of loops included."""
    return {node.id for node in _names(trees) if isinstance(node.ctx, ast.Store)}


def _names(trees: Iterable[ast.AST]) -> Iterator[ast.Name]:
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name))


def preamble(prompt: str, entry_point: str) -> str:
    """The imports and definitions that a prompt brings (`poly` of HumanEval/32)."""
    return join(_prompt_pieces(prompt, entry_point))


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
    if any(piece.node and _read(piece.node) & (_REACHING | _EFFECTS) for piece in mains):
        parts += [piece for piece in helpers if piece.names & own]
    return join(sorted(parts, key=_comes_later))


def _comes_later(piece: Piece) -> bool:
    """Nothing but imports of the future may stand before an import of the future."""
    return not (isinstance(piece.node, ast.ImportFrom) and piece.node.module == "__future__")


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


def _unfenced(completion: str) -> str:
    """The code of an answer: what is fenced and holds code, else what stands around the fences.

    A text that is a program as it stands is taken whole, with the fences in its strings.
    """
    text = _level(_MARK.sub("", _plain_lines(completion[:LONGEST])))
    if "```" not in text or isinstance(parse(text), ast.Module):
        return text
    text = _FENCE_AFTER_CODE.sub(r"\n\1", _CODE_AFTER_FENCE.sub(r"\1\n", text))
    lines = text.split("\n")
    fences = [place for place, line in enumerate(lines) if _FENCE.match(line)]
    inside, outside = _sides(lines, fences)
    for chosen in (inside, outside):
        code = [part for part in map(_level, chosen) if _CODE.search(part)]
        if code:
            return "\n\n".join(code)
    return ""


def _sides(lines: Sequence[str], fences: Sequence[int]) -> tuple[list[str], list[str]]:
    """What stands between pairs of fences, and what stands outside of them.

    A block goes on to a later fence where it parses up to there, and not up to an earlier one.
    """
    inside, outside, start, place = list[str](), list[str](), 0, 0
    while place < len(fences):
        first = fences[place]
        outside.append("\n".join(lines[start:first]))
        ends = [*fences[place + 1 : place + 2 + MOST_FENCES], len(lines)][: 1 + MOST_FENCES]
        blocks = ["\n".join(lines[first + 1 : end]) for end in ends]
        whole = (i for i, block in enumerate(blocks) if isinstance(parse(_level(block)), ast.Module))
        taken = next(whole, 0)
        inside.append(blocks[taken])
        start, place = ends[taken] + 1, place + taken + 2
    outside.append("\n".join(lines[start:]))
    return inside, outside


def _plain_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _level(part: str) -> str:
    """Removes the indent that all lines share, or that the first line alone has, as after a sampled blank."""
    part = textwrap.dedent(part.strip("\n")).rstrip()
    bare = part.lstrip(" \t")
    return bare if _START.match(bare) else part


def _cut(source: str, tree: ast.Module) -> tuple[Piece, ...]:
    """Each statement with its text; the line and column of a node count from 1 and in bytes."""
    lines = _plain_lines(source).split("\n")
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
    """Runs of lines that begin where a top-level import, definition or assignment seems to begin."""
    starts = [i for i, line in enumerate(lines) if _START.match(line)]
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
    return not _read(node) & (_EFFECTS | _REACHING | {"__name__"})


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


def _root(node: ast.expr) -> ast.expr:
    """`a` of `a.b[0]`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node
