"""Python source that a model wrote, read as a syntax tree; nothing is executed.

It is read in the trainer's own process: `parse` raises nothing, whatever the text, and every function here takes time
linear in the tree. Who parses again and again, or reads texts of any length, bounds that where it happens.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from madrigal.tasks.coding.score import Fault

_UNREADABLE = re.compile("[\x00\ud800-\udfff]")
_QUIET = threading.Lock()  # warning filters are global, and tasks step in many threads


def parse(source: str) -> ast.Module | Fault:
    """Parses a text, or says why it is no program; whatever a model writes, nothing is raised."""
    tree: ast.Module | Fault = _compiled(source, ast.PyCF_ONLY_AST)
    return tree


def compile_fault(source: str) -> Fault | None:
    """Why Python would not load a text, a `return` outside of functions included; it is compiled, and never run."""
    code = _compiled(source, 0)
    return code if isinstance(code, Fault) else None


def _compiled(source: str, flags: int) -> Any:
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(source, "<unknown>", "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        return Fault(error.msg or "invalid syntax", error.lineno or 0, error.offset or 0)
    except ValueError as error:  # a null byte or a lone surrogate
        place = _UNREADABLE.search(source)
        return Fault(str(error) or "not a text", source.count("\n", 0, place.start()) + 1 if place else 0)
    except (RecursionError, MemoryError):
        return Fault("nested too deeply")


def mentioned(*trees: ast.AST) -> set[str]:
    """Every name in trees, read or bound."""
    return {node.id for node in _names(*trees)}


def loaded(*trees: ast.AST) -> set[str]:
    """Every name that trees read."""
    return {node.id for node in _names(*trees) if isinstance(node.ctx, ast.Load)}


def stored(*trees: ast.AST) -> set[str]:
    """Every name that trees bind, targets of loops included."""
    return {node.id for node in _names(*trees) if isinstance(node.ctx, ast.Store)}


def _names(*trees: ast.AST) -> Iterator[ast.Name]:
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name))


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that one import, definition or assignment binds."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).split(".")[0] for alias in aliases}
        case ast.Assign(targets=targets):
            return mentioned(*targets)
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def changed_names(tree: ast.AST) -> set[str]:
    """Every name in a statement that may have another value after it: bound, defined, or changed in place."""
    changed = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
                changed.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom():
                changed |= bound_names(node)
            case (
                ast.Subscript(value=base, ctx=ast.Store() | ast.Del())
                | ast.Attribute(value=base, ctx=ast.Store() | ast.Del())
                | ast.Call(func=ast.Attribute(value=base))
            ):
                if isinstance(owner := root(base), ast.Name):
                    changed.add(owner.id)
    return changed


def assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target of an assignment, with the value that it takes; none where a node is no assignment."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
            yield target, value


def root(node: ast.expr) -> ast.expr:
    """`a` of `a.b[0]`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def name_of(function: ast.expr) -> str:
    """The last name of what is called: `sqrt` of `math.sqrt`."""
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def returns_value(function: ast.FunctionDef) -> bool:
    """Whether a `return` with a value stands in a function itself, not in a function or class nested in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))
    return False


def blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements in a tree."""
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value


def foreign_packages(tree: ast.AST) -> set[str]:
    """The packages that code imports beside the standard library; an import that a `try` guards does not count."""
    packages, waiting = set[str](), [tree]
    while waiting:
        match node := waiting.pop():
            case ast.Import(names=aliases):
                packages |= {alias.name.partition(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str(module), level=0):
                packages.add(module.partition(".")[0])
        if not isinstance(node, ast.Try):
            waiting += ast.iter_child_nodes(node)
    return packages - sys.stdlib_module_names
