"""The data flow of aux through one main function: where it is called, and which names hold its results.

A name holds a result if it is assigned one anywhere.

A model writes what is read here, in the trainer's own process. So that the time stays bounded, a rule is tried again
only when a name that it reads has become known (`_spread`), and origins are remembered.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.syntax import loaded, name_of, stored
from madrigal.tasks.coding.tree import CHOOSING, Tree, is_constant, read_tree
from madrigal.tasks.coding.usage import shadows_aux

APPLYING = frozenset({"map", "starmap", "reduce", "accumulate"})
# What finishes an answer, or tidies an argument, without computing either.
FUNCTIONS = frozenset({
    *("sorted", "reversed", "round", "floor", "ceil", "trunc", "abs"),
    *("str", "int", "float", "bool", "list", "tuple", "set", "frozenset", "dict", "repr", "format", "bin", "hex"),
})  # fmt: skip
METHODS = frozenset({
    *("strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "replace", "split", "join", "copy"),
    *("lower", "upper", "title", "capitalize", "casefold", "swapcase"),
    *("zfill", "ljust", "rjust", "center", "format", "encode", "decode"),
})  # fmt: skip

Rule = tuple[AbstractSet[str], AbstractSet[str], Callable[[], bool]]  # names to add, names read, whether it holds


@dataclass(frozen=True, slots=True)
class Flow:
    """One main function, read for its use of aux.

    Attributes:
        tree: the function.
        aliases: names that answer as aux does: itself, other names for it, local functions that return its result.
        calls: calls of an alias whose result is used.
        applied: calls that are given an alias, such as `map(aux, xs)` and `sorted(xs, key=aux)`.
        results: names that hold a result, as it came or finished.
        verdicts: further names, computed from a result.
        users: every node that holds one of `calls` and `applied`, these included.
    """

    tree: Tree
    aliases: AbstractSet[str]
    calls: frozenset[ast.Call] = frozenset()
    applied: frozenset[ast.Call] = frozenset()
    results: AbstractSet[str] = frozenset()
    verdicts: AbstractSet[str] = frozenset()
    users: frozenset[ast.AST] = frozenset()
    _origins: dict[ast.AST | str, frozenset[str]] = field(default_factory=dict)

    def uses(self, *trees: ast.AST) -> bool:
        """Whether aux is used anywhere in these trees."""
        return not self.users.isdisjoint(trees)

    def is_result(self, node: ast.expr) -> bool:
        """Whether an expression is a result of aux, as it came or finished."""
        match node:
            case ast.Name(id=name):
                return name in self.results
            case ast.NamedExpr(value=value) | ast.Starred(value=value):
                return self.is_result(value)
            case ast.IfExp(body=one, orelse=other):
                return self.is_result(one) or self.is_result(other)
            case ast.BoolOp(values=values):
                return any(map(self.is_result, values))
        return node in self.calls or self.is_finished(node)

    def is_finished(self, node: ast.expr) -> bool:
        """Whether a result is sorted, rounded, converted, formatted, clamped, or shifted by a constant here."""
        return any(map(self.is_result, finished(node)))

    def is_about(self, node: ast.AST) -> bool:
        """Whether a tree depends on aux: on a result, a verdict, or on aux being there."""
        return bool(loaded(node) & self._depending()) or any(
            isinstance(part, ast.Constant) and part.value == AUX for part in ast.walk(node)
        )

    def carries(self, node: ast.AST) -> bool:
        """Whether a result or verdict stands in a tree for more than a decision."""
        depending = self._depending()
        names = (part for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in depending)
        return any(not self.tree.decides(name) for name in names)

    def _depending(self) -> AbstractSet[str]:
        return self.results | self.verdicts | self.aliases

    def origins(self, value: ast.AST) -> frozenset[str]:
        """Up to two different calls whose results stand in an expression, by their text; a name stands for one."""
        if value not in self._origins:
            self._origins[value] = frozenset(sorted(self._all_origins(value))[:2])
        return self._origins[value]

    def _all_origins(self, value: ast.AST) -> AbstractSet[str]:
        match value:
            case ast.IfExp(body=one, orelse=other):
                return max(self.origins(one), self.origins(other), key=len)
            case ast.Name(id=name) if name in self.results:
                if name not in self._origins:
                    self._origins[name] = frozenset()  # while it is looked for, as in `a = a or b`
                    calls = {call for taken in self.tree.values[name] for call in self.origins(taken)}
                    self._origins[name] = frozenset(sorted(calls)[:1])
                return self._origins[name]
        if value in self.calls:
            return {ast.dump(value)}
        return {origin for child in ast.iter_child_nodes(value) for origin in self.origins(child)}

    def of(self, calls: Iterable[ast.Call]) -> Flow:
        """The same function, with the results of these calls alone."""
        chosen, results = frozenset(calls), set[str]()
        callers = self.tree.around(chosen)
        users = callers | self.tree.around(self.applied)
        flow = replace(self, calls=chosen, users=users, results=results, verdicts=frozenset(), _origins={})
        taken = [(name, value) for name, values in self.tree.values.items() for value in values]
        _spread(results, (({name}, loaded(value), partial(flow.is_result, value)) for name, value in taken))
        depending = set(results)
        _spread(depending, _verdict_rules(self.tree, callers, depending))
        return replace(flow, results=frozenset(results), verdicts=frozenset(depending - results))


def read_flow(main: ast.FunctionDef) -> Flow | None:
    """Reads one main function; None where it makes no use of aux, or has an aux of its own."""
    if shadows_aux(main):
        return None
    tree = read_tree(main)
    aliases = {AUX}
    _spread(aliases, _alias_rules(Flow(tree, aliases)))
    calls = [node for node in tree.nodes if isinstance(node, ast.Call)]
    applied = frozenset(call for call in calls if _is_applied(call, aliases))
    used = [call for call in calls if name_of(call.func) in aliases and not _is_ignored(tree, call)]
    return Flow(tree, frozenset(aliases), applied=applied).of(used) if used or applied else None


def _spread(names: set[str], rules: Iterable[Rule]) -> None:
    """Adds to `names` those of every rule that holds; rules may depend on `names`."""
    waiting = list(rules)
    readers = defaultdict[str, list[Rule]](list)
    for rule in waiting:
        for name in rule[1]:
            readers[name].append(rule)
    while waiting:
        adds, _, holds = waiting.pop()
        new = adds - names
        if new and holds():
            names |= new
            waiting += [rule for name in new for rule in readers[name]]


def _alias_rules(flow: Flow) -> Iterator[Rule]:
    """Other names for aux, and local functions that return its result; `flow.aliases` grows meanwhile."""
    for name, values in flow.tree.values.items():
        for value in values:
            yield {name}, loaded(value), partial(_is_alias, value, flow.aliases)
    for node in flow.tree.nodes:
        if isinstance(node, ast.FunctionDef) and node is not flow.tree.main:
            for part in ast.walk(node):
                if isinstance(part, ast.Return) and part.value:
                    yield {node.name}, loaded(part.value), partial(flow.carries, part.value)


def _verdict_rules(tree: Tree, callers: AbstractSet[ast.AST], depending: AbstractSet[str]) -> Iterator[Rule]:
    """A target depends on aux as soon as its value calls aux, or reads a name that does."""

    def depends(value: ast.expr, reads: AbstractSet[str]) -> bool:
        return value in callers or bool(reads & depending)

    for target, value in tree.bindings:
        reads = loaded(value)
        yield stored(target), reads, partial(depends, value, reads)


def _is_alias(node: ast.expr, aliases: AbstractSet[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in aliases
        case ast.Lambda(body=body):
            return any(isinstance(part, ast.Call) and name_of(part.func) in aliases for part in ast.walk(body))
        case ast.Call(func=function, args=[first, *_]) if name_of(function) == "partial":
            return _is_alias(first, aliases)
    return False


def _is_applied(call: ast.Call, aliases: AbstractSet[str]) -> bool:
    functions = [keyword.value for keyword in call.keywords if keyword.arg == "key"]
    if name_of(call.func) in CHOOSING | APPLYING:
        functions += call.args
    return any(_is_alias(value, aliases) for value in functions)


def _is_ignored(tree: Tree, call: ast.Call) -> bool:
    """Whether a result is thrown away, or kept under names that nobody reads."""
    match tree.parents.get(call):
        case ast.Expr():
            return True
        case ast.Assign() | ast.AnnAssign() as statement:
            names = stored(statement)
            return bool(names) and not names & tree.reads.keys()
    return False


def finished(node: ast.expr) -> list[ast.expr]:
    """The parts that an expression may finish: sort, round, convert, format, clamp, or shift by a constant."""
    match node:
        case (
            ast.Call(func=ast.Name(id="min" | "max"), args=[one, other])
            | ast.BinOp(left=one, right=other)
            | ast.Compare(left=one, comparators=[other])
        ):
            return [one, other] if is_constant(one) != is_constant(other) else []
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in METHODS:
            return [value, *args] if name in {"join", "format"} else [value]
        case ast.Call(func=function, args=[first, *_]) if name_of(function) in FUNCTIONS:
            return [first]
        case ast.Subscript(value=value, slice=ast.Slice()) | ast.UnaryOp(operand=value):
            return [value]
        case ast.JoinedStr(values=values):
            return [value.value for value in values if isinstance(value, ast.FormattedValue)]
    return []
