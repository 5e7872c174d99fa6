"""What a main function does with aux: calls it, only wraps it, or ignores its result.

Only a call written in the main function itself counts, and only where that function binds no `aux` of its own
(a parameter, a nested function, an assignment): a shadowed name is not the teammate's.

References:
    Liu et al., 2025, arXiv:2508.04652: the cooperation bonus and its thin-wrapper and ignored-result checks.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.score import Usage
from madrigal.tasks.coding.syntax import assignments, blocks, stored


def usage_of(main: ast.FunctionDef) -> tuple[Usage, str]:
    """Says how a main function uses aux, with the reason where it misuses it."""
    if not calls_aux(main):
        return "not called", ""
    reason = ignored_result(main)
    return ("misused", reason) if reason else ("used", "")


def calls_aux(main: ast.FunctionDef) -> bool:
    """Whether the teammate's aux is called; passing it on uncalled, as in `map(aux, xs)`, is not a call."""
    return not shadows_aux(main) and _has_call(main)


def is_thin_wrapper(main: ast.FunctionDef) -> bool:
    """Whether a function, its docstring left out, adds nothing of its own to aux.

    That is: an empty body; a single `return` that contains a call of aux; or `x = aux(...)` and `return x`.
    """
    match [statement for statement in main.body if not _is_empty(statement)]:
        case []:
            return True
        case [ast.Return(value=ast.expr() as value)]:
            return _has_call(value)
        case [
            ast.Assign(targets=[ast.Name(id=target)], value=value)
            | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value),
            ast.Return(value=ast.Name(id=returned)),
        ]:
            return _is_call(value) and target == returned
    return False


def ignored_result(main: ast.FunctionDef) -> str:
    """Returns why the result of some call of aux goes unused, or "" where every result is used.

    A call goes unused that stands alone as a statement, that is assigned to a name never read, or whose name
    is assigned again before it is read. A branch that may read it counts as reading it.
    """
    reads, ends = _reading_order(main)
    for block in blocks(main):
        rebound = dict[str, int]()
        faults = list[str]()
        for statement in reversed(block):
            if isinstance(statement, ast.Expr) and _is_call(statement.value):
                faults.append("its result is thrown away")
            names = _assigned(statement)
            if names and reads.keys().isdisjoint(names):
                faults.append(f"{names[0]} is never read")
            elif names and all(_is_read_late(reads.get(n, ()), ends[statement], rebound.get(n)) for n in names):
                faults.append(f"{names[0]} is assigned again before it is read")
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                rebound |= dict.fromkeys(stored(statement), ends[statement])
        if faults:
            return faults[-1]
    return ""


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that take the result of aux in one assignment; none where it goes into a container."""
    pairs = list(assignments(statement))
    if not pairs or not _has_call(pairs[0][1]):
        return []
    flat = [part for target, _ in pairs for part in _unpacked(target)]
    names = [part.id for part in flat if isinstance(part, ast.Name)]
    return names if len(names) == len(flat) else []


def _unpacked(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _unpacked(part)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def _reading_order(main: ast.FunctionDef) -> tuple[dict[str, list[int]], dict[ast.AST, int]]:
    """Where each name is read (`x += 1` reads x) and each statement ends, as places in the order of the source."""
    reads, ends = defaultdict[str, list[int]](list), dict[ast.AST, int]()
    waiting: list[tuple[ast.AST, bool]] = [(main, False)]
    place = 0
    while waiting:
        place += 1
        node, is_over = waiting.pop()
        if is_over:
            ends[node] = place
            continue
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.AugAssign(target=ast.Name(id=name)):
                reads[name].append(place)
        if isinstance(node, ast.stmt):
            waiting.append((node, True))
        waiting += [(child, False) for child in reversed([*ast.iter_child_nodes(node)])]
    return dict(reads), ends


def _is_read_late(reads: Sequence[int], start: int, rebound: int | None) -> bool:
    """Whether a name is bound again, at `rebound`, before its first reading after `start`."""
    first = bisect_left(reads, start)
    return rebound is not None and (first == len(reads) or rebound < reads[first])


def shadows_aux(main: ast.FunctionDef) -> bool:
    """Whether the function binds an `aux` of its own, also as `globals()["aux"]`; the name is not the teammate's."""
    return any(_binds_aux(node) for node in ast.walk(main))


def _binds_aux(node: ast.AST) -> bool:
    match node:
        case (
            ast.Name(id=name, ctx=ast.Store())
            | ast.arg(arg=name)
            | ast.FunctionDef(name=name)
            | ast.AsyncFunctionDef(name=name)
            | ast.ClassDef(name=name)
            | ast.alias(asname=str(name))
            | ast.alias(name=name)
            | ast.Subscript(slice=ast.Constant(value=name), ctx=ast.Store())
            | ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value=name), *_])
        ):
            return name == AUX
    return False


def _has_call(tree: ast.AST) -> bool:
    return any(_is_call(node) for node in ast.walk(tree))


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == AUX


def _is_empty(statement: ast.stmt) -> bool:
    """A docstring, another constant standing alone, or `pass`."""
    alone = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return alone or isinstance(statement, ast.Pass)
