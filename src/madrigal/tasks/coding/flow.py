"""The data flow of aux through one main function: where it is called, and which names hold its results.

Names are read without order or scope: a name holds a result if it is assigned one anywhere. That is right for the
short functions that models write, and can err for long ones.

A model writes what is read here, in the trainer's own process. So that the time stays bounded, a rule is asked again
only when a name that it reads has become known (`_spread`), and origins are remembered.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.syntax import loaded, name_of, stored
from madrigal.tasks.coding.usage import shadows_aux

CHOOSING = frozenset({"filter", "filterfalse", "takewhile", "dropwhile"})
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
EMPTY = frozenset({"list", "dict", "set", "tuple", "str", "float", "int"})

Loop = ast.For | ast.AsyncFor | ast.While
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Rule = tuple[AbstractSet[str], AbstractSet[str], Callable[[], bool]]  # names to add, names read, whether it holds


@dataclass(frozen=True, slots=True)
class Names:
    """Where the names of one function are bound and read.

    Attributes:
        bindings: each target of an assignment, with the value that it takes.
        values: for each name, the values that it takes by itself.
        reads: for each name, the places where it is read.
        stored: every name that is bound, targets of loops included.
        constants: names that take one constant and nothing else.
        tables: names of dictionaries, lists and tuples that are written out.
    """

    bindings: tuple[tuple[ast.expr, ast.expr], ...]
    values: Mapping[str, list[ast.expr]]
    reads: Mapping[str, list[ast.Name]]
    stored: AbstractSet[str]
    constants: frozenset[str]
    tables: frozenset[str]


@dataclass(frozen=True, slots=True)
class Flow:
    """One main function, read for its use of aux.

    Attributes:
        main: the function.
        nodes: the function and all that stands in it.
        parents: the parent of every node.
        names: where its names are bound and read.
        aliases: names that answer as aux does: itself, other names for it, local functions that return its result.
        calls: calls of an alias whose result is used.
        applied: calls that are given an alias, such as `map(aux, xs)` and `sorted(xs, key=aux)`.
        results: names that hold a result, as it came or finished.
        verdicts: further names, computed from a result.
        callers: every node that holds a call of `calls`, the calls themselves included.
        users: the same for `calls` and `applied`.
    """

    main: ast.FunctionDef
    nodes: tuple[ast.AST, ...]
    parents: dict[ast.AST, ast.AST]
    names: Names
    aliases: AbstractSet[str]
    calls: frozenset[ast.Call] = frozenset()
    applied: frozenset[ast.Call] = frozenset()
    results: AbstractSet[str] = frozenset()
    verdicts: AbstractSet[str] = frozenset()
    callers: frozenset[ast.AST] = frozenset()
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
        return any(not self.decides(name) for name in names)

    def _depending(self) -> AbstractSet[str]:
        return self.results | self.verdicts | self.aliases

    def way_up(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """A node and its parent, then the parent and its own, up to the function."""
        while (parent := self.parents.get(node)) is not None:
            yield node, parent
            node = parent

    def decides(self, node: ast.AST) -> bool:
        """Whether a node only chooses: it stands in a condition, or picks from a table, or filters."""
        for child, parent in self.way_up(node):
            if isinstance(child, ast.stmt):
                return False
            if child in self.deciding(parent):
                return True
        return False

    def deciding(self, parent: ast.AST) -> list[ast.expr]:
        """The children of a node that choose what becomes of the others."""
        match parent:
            case (
                ast.If(test=test)
                | ast.While(test=test)
                | ast.IfExp(test=test)
                | ast.Assert(test=test)
                | ast.Match(subject=test)
                | ast.match_case(guard=ast.expr() as test)
            ):
                return [test]
            case ast.comprehension(ifs=tests):
                return tests
            case (
                ast.Subscript(value=table, slice=test)
                | ast.Call(func=ast.Attribute(value=table, attr="get"), args=[test, *_])
            ) if _is_table(table, self.names.tables):
                return [test]
            case ast.Call(func=function, args=[test, *_]) if name_of(function) in CHOOSING:
                return [test]
        return []

    def repeats(self, node: ast.AST) -> Iterator[Loop | Comprehension]:
        """The loops and comprehensions that evaluate a node again and again, innermost first."""
        for child, parent in self.way_up(node):
            if isinstance(parent, Loop) and child in parent.body:
                yield parent
            if isinstance(parent, Comprehension) and node not in ast.walk(parent.generators[0].iter):  # evaluated once
                yield parent

    def statement(self, node: ast.AST) -> ast.AST:
        """The innermost statement around a node."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def rest(self, statement: ast.AST) -> list[ast.AST]:
        """What comes after a statement, in its own block and in the blocks around it."""
        after: list[ast.AST] = []
        for node, parent in self.way_up(statement):
            if isinstance(node, ast.FunctionDef):
                break
            for _, block in ast.iter_fields(parent):
                if isinstance(block, list) and node in block and isinstance(node, ast.stmt):
                    after += block[block.index(node) + 1 :]
        return after

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
                    calls = {call for taken in self.names.values[name] for call in self.origins(taken)}
                    self._origins[name] = frozenset(sorted(calls)[:1])
                return self._origins[name]
        if value in self.calls:
            return {ast.dump(value)}
        return {origin for child in ast.iter_child_nodes(value) for origin in self.origins(child)}

    def recursive_calls(self) -> list[ast.Call]:
        """Calls of a function, main or one inside it, in its own body."""
        return [
            node
            for function in self.nodes
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name
        ]

    def of(self, calls: Iterable[ast.Call]) -> Flow:
        """The same function, with the results of these calls alone."""
        chosen, results = frozenset(calls), set[str]()
        callers = self._around(chosen)
        flow = replace(
            self,
            calls=chosen,
            callers=callers,
            users=callers | self._around(self.applied),
            results=results,
            verdicts=frozenset(),
            _origins={},
        )
        taken = [(name, value) for name, values in self.names.values.items() for value in values]
        _spread(results, (({name}, loaded(value), partial(flow.is_result, value)) for name, value in taken))
        depending = set(results)
        _spread(depending, _verdict_rules(flow, depending))
        return replace(flow, results=frozenset(results), verdicts=frozenset(depending - results))

    def _around(self, nodes: Iterable[ast.AST]) -> frozenset[ast.AST]:
        """Nodes, and all that they stand in."""
        around = set[ast.AST]()
        for node in nodes:
            inner: ast.AST | None = node
            while inner is not None and inner not in around:
                around.add(inner)
                inner = self.parents.get(inner)
        return frozenset(around)


def read_flow(main: ast.FunctionDef) -> Flow | None:
    """Reads one main function; None where it makes no use of aux, or has an aux of its own."""
    if shadows_aux(main):
        return None
    nodes = tuple(ast.walk(main))
    parents = {child: parent for parent in nodes for child in ast.iter_child_nodes(parent)}
    aliases = {AUX}
    bare = Flow(main, nodes, parents, _names(nodes), aliases)
    _spread(aliases, _alias_rules(bare))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    applied = frozenset(call for call in calls if _is_applied(call, aliases))
    used = [call for call in calls if name_of(call.func) in aliases and not _is_ignored(bare, call)]
    if not used and not applied:
        return None
    return replace(bare, aliases=frozenset(aliases), applied=applied).of(used)


def _names(nodes: Sequence[ast.AST]) -> Names:
    values, reads = defaultdict[str, list[ast.expr]](list), defaultdict[str, list[ast.Name]](list)
    stores = Counter[str]()
    bindings = tuple(_bindings(nodes))
    for target, value in bindings:
        if isinstance(target, ast.Name):
            values[target.id].append(value)
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            reads[node.id].append(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stores[node.id] += 1
    constants = (name for name, taken in values.items() if stores[name] == len(taken) == 1 and is_constant(taken[0]))
    tables = (name for name, taken in values.items() if any(_is_table(value, frozenset()) for value in taken))
    return Names(bindings, values, reads, frozenset(stores), frozenset(constants), frozenset(tables))


def _bindings(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((target, value) for target in targets)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                yield target, value


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
    for name, taken in flow.names.values.items():
        for value in taken:
            yield {name}, loaded(value), partial(_is_alias, value, flow.aliases)
    for node in flow.nodes:
        if isinstance(node, ast.FunctionDef) and node is not flow.main:
            for part in ast.walk(node):
                if isinstance(part, ast.Return) and part.value:
                    yield {node.name}, loaded(part.value), partial(flow.carries, part.value)


def _verdict_rules(flow: Flow, depending: AbstractSet[str]) -> Iterator[Rule]:
    """A target depends on aux as soon as its value calls aux, or reads a name that does."""

    def depends(value: ast.expr, reads: AbstractSet[str]) -> bool:
        return value in flow.callers or bool(reads & depending)

    for target, value in flow.names.bindings:
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


def _is_ignored(flow: Flow, call: ast.Call) -> bool:
    """Whether a result is thrown away, or kept under names that nobody reads."""
    match flow.parents.get(call):
        case ast.Expr():
            return True
        case ast.Assign() | ast.AnnAssign() as statement:
            names = stored(statement)
            return bool(names) and not names & flow.names.reads.keys()
    return False


def _is_table(node: ast.expr, tables: frozenset[str]) -> bool:
    return isinstance(node, ast.Dict | ast.List | ast.Tuple) or (isinstance(node, ast.Name) and node.id in tables)


def is_constant(node: ast.expr) -> bool:
    """Whether an expression is a constant; signed ones and containers of them too, `[]`, `set()`, `float("inf")`."""
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=operand):
            return is_constant(operand)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts) | ast.Dict(values=parts):
            return all(map(is_constant, parts))
        case ast.Call(func=ast.Name(id=name), args=parts):
            return name in EMPTY and all(map(is_constant, parts))
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
