"""The checker, in a confined process: runs checks, which call the candidate through the parent.

It runs no line of the program: it sees copies of plain values only.

What the candidate raised is raised again in the checker, where the check may catch it. But Python itself catches some
types, and takes them for an end or an absence: StopIteration in zip, map, all and any loop, IndexError in a loop over
`__getitem__`, AttributeError in getattr and hasattr, KeyError in Mapping.get, TypeError in a length hint. Raising one
of them would end the check early, and pass. What was raised therefore comes as a CandidateError, unless the check or
the prelude names the built-in type or a base of it outside of a raise statement: then it keeps its type, and `except
ValueError` or `suppress(LookupError)` works. NEVER_KEPT come as a CandidateError even where they are named: an
AssertionError in a checker is the check's own, and the others do nothing but steer loops; so does whatever is no
Exception. Not covered: a check that names a type, and lets Python swallow the same one.

Only the standard library: the confined processes import this file.
"""

from __future__ import annotations

import ast
import builtins
from collections import deque
from collections.abc import Iterator
from typing import Any

from .attempt import attempt, describe, fresh_module
from .channel import receive_frame, send_frame
from .literals import NotPlainError

SETTLE = "__settle__"
NEVER_KEPT = (AssertionError, StopIteration, StopAsyncIteration, BaseExceptionGroup)


class CandidateError(Exception):
    """In a checker: what the candidate raised, where the check does not name its type; or a value that may not cross.

    Attributes:
        kind: the name of the type that the candidate raised; "" for a value that may not cross.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def serve_checker(descriptor: int, prelude: str, entry: str) -> None:
    """Loads the prelude, and runs checks until the parent goes away."""
    module = fresh_module("check")
    caught: set[str] = set()
    problem = attempt(lambda: _execute(ast.parse(prelude), "<prelude>", vars(module), caught))
    send_frame(descriptor, ("raised", *problem) if problem else ("loaded",))
    always = frozenset(caught)
    candidate = Proxy(descriptor, caught)
    vars(module).update({"candidate": candidate.call, entry: candidate.call, SETTLE: candidate.settle})
    while not problem:
        number, source = receive_frame(descriptor)
        caught.intersection_update(always)
        candidate.answers = 0
        outcome, text = _check(str(source), dict(vars(module)), caught)
        candidate.settle()
        if outcome != "passed" and not candidate.answers:
            outcome = "broken"
        send_frame(descriptor, ("verdict", number, outcome, text))


def _execute(tree: ast.Module, file: str, namespace: dict[str, Any], caught: set[str]) -> None:
    """Runs the data set's own code; before, adds to `caught` what it may catch."""
    caught.update(_named(tree))
    exec(compile(tree, file, "exec", dont_inherit=True), namespace)


def _settling(tree: ast.Module) -> ast.Module:
    """Calls SETTLE after each simple statement with a call in it; from then on changed arguments are seen."""
    for node in list(ast.walk(tree)):
        for _, block in ast.iter_fields(node):
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                block[:] = [part for statement in block for part in _settled(statement)]
    return ast.fix_missing_locations(tree)


def _settled(statement: ast.stmt) -> list[ast.stmt]:
    simple = isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Assert)
    if not simple or not any(isinstance(node, ast.Call) for node in ast.walk(statement)):
        return [statement]
    return [statement, ast.copy_location(ast.Expr(ast.Call(ast.Name(SETTLE, ast.Load()), [], [])), statement)]


def _named(tree: ast.AST) -> Iterator[str]:
    """The names in a tree but for its raise statements: an IndexError that a check raises is there to end a loop."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Raise):
            continue
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        waiting.extend(ast.iter_child_nodes(node))


class Proxy:
    """The candidate as a check sees it.

    Attributes:
        answers: how many it has given to this check.
    """

    def __init__(self, descriptor: int, caught: set[str]) -> None:
        self.answers = 0
        self._descriptor = descriptor
        self._caught = caught
        self._changes: list[tuple[object, object]] = []

    def call(self, *arguments: object, **keywords: object) -> object:
        """The candidate's value; raises what it raised."""
        try:
            send_frame(self._descriptor, ("call", arguments, keywords))
        except NotPlainError as error:
            raise TypeError(f"the check passes {error}") from None
        _, kind, *rest = receive_frame(self._descriptor)
        self.answers += 1
        if kind == "foreign":
            raise CandidateError("", str(rest[0]))
        if kind == "raised":
            name, text = map(str, rest)
            raise _exception(name, text, self._caught)
        value, changed = rest
        if isinstance(changed, tuple):
            self._changes += zip(arguments, changed[0], strict=False)
            self._changes += [(keywords[name], new) for name, new in changed[1].items() if name in keywords]
        return iter(value) if kind == "items" and isinstance(value, list) else value

    def settle(self) -> None:
        """Makes the arguments of past calls what the candidate made of them."""
        for old, new in self._changes:
            _renew(old, new)
        self._changes.clear()


def _renew(old: Any, new: Any) -> None:
    if type(old) is not type(new):
        return
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set):
        old.clear()
        old.update(new)
    elif isinstance(old, deque):
        old.clear()
        old.extend(new)


def _exception(name: str, text: str, caught: set[str]) -> Exception:
    """What a checker raises for what the candidate raised; see the module's text for which types are kept."""
    kind = vars(builtins).get(name)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, NEVER_KEPT):
        return CandidateError(name, text)
    bases = {base.__name__ for base in kind.__mro__[: kind.__mro__.index(Exception)]}
    if issubclass(kind, OSError):
        bases |= {"IOError", "EnvironmentError"}
    return kind.__new__(kind, text) if bases & caught else CandidateError(name, text)


def _check(source: str, namespace: dict[str, Any], caught: set[str]) -> tuple[str, str]:
    try:
        _execute(_settling(ast.parse(source, "<check>")), "<check>", namespace, caught)
    except CandidateError as error:
        return "error", _phrase(error.kind, str(error))
    except BaseException as error:  # noqa: BLE001 (SystemExit included: a check passes where it runs to its end)
        return "failed" if isinstance(error, AssertionError) else "error", _phrase(*describe(error, source))
    return "passed", ""


def _phrase(name: str, text: str) -> str:
    return ": ".join(word for word in (name, text) if word)
