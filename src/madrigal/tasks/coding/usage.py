"""What a main function does with aux: calls it, only wraps it, or ignores its result.

Knows: one function's tree.
Does not know: whether aux exists, what the call is worth.

Only a call written in the main function itself counts, and only where that function binds no `aux` of its own
(a parameter, a nested function, an assignment): a shadowed name is not the teammate's.

References:
    Liu et al., 2025, arXiv:2508.04652: the cooperation bonus and its thin-wrapper and ignored-result checks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.score import Usage


def usage_of(main: ast.FunctionDef) -> tuple[Usage, str]:
    """Says how a main function uses aux, with the reason where it misuses it."""
    if not calls_aux(main):
        return "not called", ""
    reason = ignored_result(main)
    return ("misused", reason) if reason else ("used", "")


def calls_aux(main: ast.FunctionDef) -> bool:
    """Whether the teammate's aux is called; handing it on uncalled, as in `map(aux, xs)`, is not a call."""
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
    for block in _statement_lists(main):
        for index, statement in enumerate(block):
            if isinstance(statement, ast.Expr) and _is_call(statement.value):
                return "its result is thrown away"
            names = _assigned(statement)
            if names and not any(_reads(main, name) for name in names):
                return f"{names[0]} is never read"
            if names and all(_overwritten(block[index + 1 :], name) for name in names):
                return f"{names[0]} is assigned again before it is read"
    return ""


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that take the result of aux in one assignment; none where it goes into a container."""
    match statement:
        case ast.Assign(targets=targets, value=value) if _has_call(value):
            pass
        case ast.AnnAssign(target=target, value=ast.expr() as value) if _has_call(value):
            targets = [target]
        case _:
            return []
    flat = [part for target in targets for part in _unpacked(target)]
    return [part.id for part in flat if isinstance(part, ast.Name)] if all(map(_is_name, flat)) else []


def _unpacked(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _unpacked(part)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def _overwritten(rest: Sequence[ast.stmt], name: str) -> bool:
    for statement in rest:
        if _reads(statement, name):
            return False
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _binds(statement, name):
            return True
    return False


def _reads(tree: ast.AST, name: str) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == name)
        for node in ast.walk(tree)
    )


def _binds(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store) for node in ast.walk(tree)
    )


def shadows_aux(main: ast.FunctionDef) -> bool:
    """Whether the function binds an `aux` of its own, so that the name is not the teammate's."""
    return _binds(main, AUX) or any(
        (isinstance(node, ast.arg) and node.arg == AUX)
        or (isinstance(node, ast.alias) and (node.asname or node.name) == AUX)
        or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == AUX)
        for node in ast.walk(main)
    )


def _statement_lists(main: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(main):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value


def _has_call(tree: ast.AST) -> bool:
    return any(_is_call(node) for node in ast.walk(tree))


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == AUX


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name)


def _is_empty(statement: ast.stmt) -> bool:
    """A docstring, another constant standing alone, or `pass`."""
    alone = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return alone or isinstance(statement, ast.Pass)
