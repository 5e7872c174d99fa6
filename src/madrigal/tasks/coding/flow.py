"""Where a main function uses aux, and where the results go: a small data flow over one syntax tree.

The reading is one of names, without order or scope: a name holds a result if it is assigned one anywhere. That is
right for the short functions that models write, and can err for long ones.

A model writes what is read here, in the trainer's own process: everything is looked up once (`Names`), every rule is
asked again only when a name that it reads has become known (`_spread`), and the origins of a node are remembered.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

from madrigal.tasks.coding.expressions import bindings, finished, is_constant, loaded, name_of, stored
from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.usage import shadows_aux

CHOOSING = frozenset({"filter", "filterfalse", "takewhile", "dropwhile"})
APPLYING = frozenset({"map", "starmap", "reduce", "accumulate"})

Loop = ast.For | ast.AsyncFor | ast.While
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Rule = tuple[AbstractSet[str], AbstractSet[str], Callable[[], bool]]


@dataclass(frozen=True, slots=True)
class Names:
    """Where the names of one function are bound and read.

    Attributes:
        bindings: each target of an assignment, with the value that it takes.
        values: for each name, the values that it takes by itself.
        reads: for each name, the places where it is read.
        stored: every name that is bound, targets of loops included.
        constants: names that take one constant and nothing else.
    """

    bindings: tuple[tuple[ast.expr, ast.expr], ...]
    values: Mapping[str, list[ast.expr]]
    reads: Mapping[str, list[ast.Name]]
    stored: frozenset[str]
    constants: frozenset[str]


@dataclass(frozen=True, slots=True)
class Flow:
    """One main function, read for its use of aux.

    Attributes:
        main: the function.
        nodes: the function and all that stands in it.
        above: the parent of every node.
        names: where its names are bound and read.
        voices: names that answer as aux does: itself, other names for it, local functions that return its result.
        calls: calls of a voice whose result is used.
        handed: calls that are handed a voice, such as `map(aux, xs)` and `sorted(xs, key=aux)`.
        results: names that hold a result, as it came or finished.
        verdicts: further names, computed from a result.
        tables: names of dictionaries, lists and tuples that are written out.
        callers: every node that holds a call of `calls`, the calls themselves included.
        users: the same for `calls` and `handed`.
    """

    main: ast.FunctionDef
    nodes: tuple[ast.AST, ...]
    above: dict[ast.AST, ast.AST]
    names: Names
    voices: AbstractSet[str]
    calls: frozenset[ast.Call] = frozenset()
    handed: frozenset[ast.Call] = frozenset()
    results: AbstractSet[str] = frozenset()
    verdicts: AbstractSet[str] = frozenset()
    tables: frozenset[str] = frozenset()
    callers: frozenset[ast.AST] = frozenset()
    users: frozenset[ast.AST] = frozenset()
    _origins: dict[ast.AST | str, frozenset[str]] = field(default_factory=dict)

    def uses(self, *trees: ast.AST) -> bool:
        """Whether aux is used anywhere in these trees."""
        return any(tree in self.users for tree in trees)

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
        known = self.results | self.verdicts | self.voices
        there = (part for part in ast.walk(node) if isinstance(part, ast.Constant) and part.value == AUX)
        return bool(loaded(node) & known) or any(there)

    def carries(self, node: ast.AST) -> bool:
        """Whether a result or verdict stands in a tree for more than a decision."""
        known = self.results | self.verdicts | self.voices
        names = (part for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in known)
        return any(not self.decides(name) for name in names)

    def decides(self, node: ast.AST) -> bool:
        """Whether a node only chooses: it stands in a condition, or picks from a table, or filters."""
        child = node
        while not isinstance(child, ast.stmt) and (parent := self.above.get(child)) is not None:
            if child in self.deciding(parent):
                return True
            child = parent
        return False

    def deciding(self, parent: ast.AST) -> list[ast.expr]:
        """The children of a node that choose what becomes of the others."""
        match parent:
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
                return [test]
            case ast.comprehension(ifs=tests):
                return tests
            case ast.Match(subject=test) | ast.match_case(guard=ast.expr() as test):
                return [test]
            case ast.Subscript(value=table, slice=test) if _is_table(table, self.tables):
                return [test]
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[test, *_]) if _is_table(
                table, self.tables
            ):
                return [test]
            case ast.Call(func=function, args=[test, *_]) if name_of(function) in CHOOSING:
                return [test]
        return []

    def repeats(self, node: ast.AST) -> Iterator[Loop | Comprehension]:
        """The loops and comprehensions that evaluate a node again and again, innermost first."""
        child = node
        while (parent := self.above.get(child)) is not None:
            if isinstance(parent, Loop) and child in parent.body:
                yield parent
            if isinstance(parent, Comprehension) and not self._feeds(node, parent):
                yield parent
            child = parent

    def statement(self, node: ast.AST) -> ast.AST:
        """The innermost statement around a node."""
        while not isinstance(node, ast.stmt):
            node = self.above[node]
        return node

    def rest(self, statement: ast.AST) -> list[ast.AST]:
        """What comes after a statement, in its own block and in the blocks around it."""
        after: list[ast.AST] = []
        node = statement
        while (parent := self.above.get(node)) is not None and not isinstance(node, ast.FunctionDef):
            for _, block in ast.iter_fields(parent):
                if isinstance(block, list) and node in block and isinstance(node, ast.stmt):
                    after += block[block.index(node) + 1 :]
            node = parent
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
                return self._origin_of(name)
        if value in self.calls:
            return {ast.dump(value)}
        return {origin for child in ast.iter_child_nodes(value) for origin in self.origins(child)}

    def _origin_of(self, name: str) -> frozenset[str]:
        """The call that a name stands for; none where that is being asked already, as in `a = a or b`."""
        if name not in self._origins:
            self._origins[name] = frozenset()
            found = {origin for value in self.names.values[name] for origin in self.origins(value)}
            self._origins[name] = frozenset(sorted(found)[:1])
        return self._origins[name]

    def recursive_calls(self) -> list[ast.Call]:
        """Calls of a function, main or one inside it, in its own body."""
        functions = [node for node in self.nodes if isinstance(node, ast.FunctionDef)]
        return [
            node
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name
        ]

    def of(self, calls: Iterable[ast.Call]) -> Flow:
        """The same function, with the results of these calls alone."""
        chosen, known = frozenset(calls), set[str]()
        callers = _around(self.above, chosen)
        flow = replace(
            self,
            calls=chosen,
            callers=callers,
            users=callers | _around(self.above, self.handed),
            results=known,
            verdicts=frozenset(),
            _origins={},
        )
        _spread(known, _result_rules(flow))
        about = set(known)
        _spread(about, _verdict_rules(flow, about))
        return replace(flow, results=frozenset(known), verdicts=frozenset(about - known))

    def _feeds(self, node: ast.AST, loop: Comprehension) -> bool:
        """Whether a node stands in the first iterable of a comprehension, which is evaluated once."""
        return any(part is node for part in ast.walk(loop.generators[0].iter))


def read_flow(main: ast.FunctionDef) -> Flow | None:
    """Reads one main function; None where it makes no use of aux, or has an aux of its own."""
    if shadows_aux(main):
        return None
    nodes = tuple(ast.walk(main))
    above = {child: parent for parent in nodes for child in ast.iter_child_nodes(parent)}
    names, voices = _names(nodes), {AUX}
    bare = Flow(main, nodes, above, names, voices, tables=_tables(names))
    _spread(voices, _voice_rules(bare))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    handed = frozenset(call for call in calls if _is_handed(call, voices))
    used = [call for call in calls if name_of(call.func) in voices and not _is_ignored(bare, call)]
    if not used and not handed:
        return None
    return replace(bare, voices=frozenset(voices), handed=handed).of(used)


def _names(nodes: Sequence[ast.AST]) -> Names:
    values, reads, stores = defaultdict[str, list[ast.expr]](list), defaultdict[str, list[ast.Name]](list), list[str]()
    pairs = tuple(bindings(nodes))
    for target, value in pairs:
        if isinstance(target, ast.Name):
            values[target.id].append(value)
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            reads[node.id].append(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stores.append(node.id)
    count = Counter(stores)
    constants = (name for name, taken in values.items() if count[name] == len(taken) == 1 and is_constant(taken[0]))
    return Names(pairs, values, reads, frozenset(stores), frozenset(constants))


def _around(above: Mapping[ast.AST, ast.AST], nodes: Iterable[ast.AST]) -> frozenset[ast.AST]:
    """Nodes, and all that they stand in."""
    found = set[ast.AST]()
    for node in nodes:
        inner: ast.AST | None = node
        while inner is not None and inner not in found:
            found.add(inner)
            inner = above.get(inner)
    return frozenset(found)


def _spread(known: set[str], rules: Iterable[Rule]) -> None:
    """Adds to `known` the names of every rule that holds; a rule may read `known`, and names what it reads."""
    waiting = list(rules)
    readers = defaultdict[str, list[Rule]](list)
    for rule in waiting:
        for name in rule[1]:
            readers[name].append(rule)
    while waiting:
        names, _, holds = waiting.pop()
        new = names - known
        if new and holds():
            known |= new
            waiting += [rule for name in new for rule in readers[name]]


def _tables(names: Names) -> frozenset[str]:
    return frozenset(name for name, taken in names.values.items() if any(_is_table(v, frozenset()) for v in taken))


def _voice_rules(flow: Flow) -> Iterator[Rule]:
    """Other names for aux, and local functions that return its result; `flow.voices` is what is known so far."""
    for name, taken in flow.names.values.items():
        for value in taken:
            yield {name}, loaded(value), partial(_is_voice, value, flow.voices)
    for node in flow.nodes:
        if isinstance(node, ast.FunctionDef) and node is not flow.main:
            for part in ast.walk(node):
                if isinstance(part, ast.Return) and part.value:
                    yield {node.name}, loaded(part.value), partial(flow.carries, part.value)


def _result_rules(flow: Flow) -> Iterator[Rule]:
    for name, taken in flow.names.values.items():
        for value in taken:
            yield {name}, loaded(value), partial(flow.is_result, value)


def _verdict_rules(flow: Flow, about: AbstractSet[str]) -> Iterator[Rule]:
    """A target is about aux as soon as its value calls aux, or reads a name that is."""

    def is_about(value: ast.expr, reads: AbstractSet[str]) -> bool:
        return value in flow.callers or bool(reads & about)

    for target, value in flow.names.bindings:
        reads = loaded(value)
        yield stored(target), reads, partial(is_about, value, reads)


def _is_voice(node: ast.expr, voices: AbstractSet[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in voices
        case ast.Lambda(body=body):
            return any(isinstance(part, ast.Call) and name_of(part.func) in voices for part in ast.walk(body))
        case ast.Call(func=function, args=[first, *_]) if name_of(function) == "partial":
            return _is_voice(first, voices)
    return False


def _is_handed(call: ast.Call, voices: AbstractSet[str]) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "key"]
    if name_of(call.func) in CHOOSING | APPLYING:
        given += call.args
    return any(_is_voice(value, voices) for value in given)


def _is_ignored(flow: Flow, call: ast.Call) -> bool:
    """Whether a result is thrown away, or kept under names that nobody reads."""
    match flow.above.get(call):
        case ast.Expr():
            return True
        case ast.Assign() | ast.AnnAssign() as statement:
            names = stored(statement)
            return bool(names) and not names & flow.names.reads.keys()
    return False


def _is_table(node: ast.expr, tables: frozenset[str]) -> bool:
    return isinstance(node, ast.Dict | ast.List | ast.Tuple) or (isinstance(node, ast.Name) and node.id in tables)
