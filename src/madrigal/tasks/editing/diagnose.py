"""What can be said of a program without running it, as an editor underlines it; read off the tree and symbol table.

    lint    a function that is asked for and missing; a name that nothing defines, that is defined twice, hides a
            builtin or is unused; an import from outside the standard library
    type    a function with other parameters than asked for; calls of the program's own functions with too few, too
            many or unknown arguments: types by signature alone

Names are looked up as Python does (`symtable`), not in the order of execution.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from madrigal.tasks.coding.score import Fault
from madrigal.tasks.coding.syntax import bound_names, foreign_packages, loaded, parse, stored

_ALWAYS = frozenset(dir(builtins)) | {"__name__", "__file__", "__annotations__"}


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One complaint about a program."""

    kind: Literal["lint", "type"]
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def diagnose(program: str, asked: Mapping[str, ast.arguments]) -> tuple[Diagnostic, ...]:
    """All complaints about a program of which functions with such parameters are asked.

    >>> f = signature("f(x)")
    >>> [str(each) for each in diagnose("import math\\ndef f(x):\\n    return g(x)", dict([f]))]
    ['lint: g is not defined', 'lint: math is not used']
    """
    tree = parse(program)
    if isinstance(tree, Fault):
        return (Diagnostic("lint", tree.message),)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    lint = [*(f"no def {name}" for name in asked if name not in functions), *_undefined(program, tree)]
    types = [*_unlike(functions, asked), *_calls(tree, functions)]
    style = [*_doubled(tree), *_unused(tree, asked), *_foreign(tree)]
    found = [("lint", text) for text in lint], [("type", text) for text in types], [("lint", text) for text in style]
    return tuple(dict.fromkeys(Diagnostic(kind, text) for part in found for kind, text in part))  # type: ignore[arg-type]


def signature(text: str) -> tuple[str, ast.arguments]:
    """The name and the parameters of a function that is asked for.

    >>> name, parameters = signature("f(xs, k=2)")
    >>> name, ast.unparse(parameters)
    ('f', 'xs, k=2')

    Raises:
        ValueError: if it is none.
    """
    tree = parse(f"def {text}: ...")
    match tree:
        case ast.Module(body=[ast.FunctionDef(name=name, args=parameters)]):
            return name, parameters
    raise ValueError(f"expected a function and its parameters, like f(xs, k), got {text!r:.80}")


def _undefined(program: str, tree: ast.Module) -> Iterator[str]:
    """Names that are read as the module's own, and are neither that nor builtins."""
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in tree.body):
        return
    top = symtable.symtable(program, "<program>", "exec")
    waiting, tables = [top], list[symtable.SymbolTable]()
    while waiting:
        tables.append(table := waiting.pop())
        waiting += reversed(table.get_children())
    own = {
        symbol.get_name()
        for table in tables
        for symbol in table.get_symbols()
        if (symbol.is_assigned() or symbol.is_imported()) and (table is top or symbol.is_declared_global())
    }
    for table in tables:
        for symbol in table.get_symbols():
            free = symbol.is_referenced() and (table is top or symbol.is_global())
            if free and symbol.get_name() not in own | _ALWAYS:
                yield f"{symbol.get_name()} is not defined"


def _unlike(functions: Mapping[str, ast.FunctionDef], asked: Mapping[str, ast.arguments]) -> Iterator[str]:
    for name, wanted in asked.items():
        if name in functions and _arity(functions[name].args) != _arity(wanted):
            yield f"{name} takes ({ast.unparse(wanted)}), not ({', '.join(_names(functions[name].args))})"


def _calls(tree: ast.Module, functions: Mapping[str, ast.FunctionDef]) -> Iterator[str]:
    """Calls by name of the program's own functions whose arguments do not fit; those with stars are left alone."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in functions:
                if any(isinstance(each, ast.Starred) for each in node.args) or not all(k.arg for k in node.keywords):
                    continue
                fewest, most = _arity(functions[name].args)
                given, keywords = len(node.args) + len(node.keywords), [k.arg for k in node.keywords]
                unknown = [k for k in keywords if k not in _names(functions[name].args)]
                if unknown and functions[name].args.kwarg is None:
                    yield f"{name} has no parameter {unknown[0]}"
                elif given < fewest or (given > most and functions[name].args.kwarg is None):
                    yield f"{name} takes {fewest if given < fewest else int(most)} arguments, {given} given"


def _arity(parameters: ast.arguments) -> tuple[int, float]:
    """The fewest and the most arguments; no bound where there is a `*args`."""
    most = len(parameters.posonlyargs) + len(parameters.args) + len(parameters.kwonlyargs)
    optional = len(parameters.defaults) + sum(default is not None for default in parameters.kw_defaults)
    return most - optional, float("inf") if parameters.vararg else most


def _names(parameters: ast.arguments) -> list[str]:
    return [each.arg for each in (*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs)]


def _doubled(tree: ast.Module) -> Iterator[str]:
    definitions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    for name, count in Counter(node.name for node in definitions).items():
        if count > 1:
            yield f"{name} is defined {count} times, the last one counts"
        if name in _ALWAYS:
            yield f"{name} hides a builtin"


def _unused(tree: ast.Module, asked: Mapping[str, ast.arguments]) -> Iterator[str]:
    """Names of the module that nothing else reads, and variables of its functions that are never read."""
    readers = Counter(name for node in tree.body for name in loaded(node))
    for node in tree.body:
        own = loaded(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else set()
        for name in sorted(bound_names(node) - asked.keys() - {"*"}):
            if not readers[name] - (name in own):
                yield f"{name} is not used"
        if isinstance(node, ast.FunctionDef):
            shared = {name for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names}
            for name in sorted(stored(node) - loaded(node) - shared - {"_"}):
                yield f"{name} in {node.name} is not used"


def _foreign(tree: ast.Module) -> Iterator[str]:
    return (f"{name} is not in the standard library" for name in sorted(foreign_packages(tree)))
