"""Where a main function uses aux, and where the results go: a small data flow over one syntax tree.

Knows: the names and expressions of one function, nested functions included; nothing is executed.
Does not know: what a way of using aux is called (schemes), nor what it is worth (usage, reward).

The reading is one of names, without order or scope: a name holds a result if it is assigned one anywhere. That is
right for the short functions that models write, and can err for long ones.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from madrigal.tasks.coding.expressions import bindings, finished, loaded, name_of, stored
from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.usage import shadows_aux

CHOOSING = frozenset({"filter", "filterfalse", "takewhile", "dropwhile"})
APPLYING = frozenset({"map", "starmap", "reduce", "accumulate"})

Loop = ast.For | ast.AsyncFor | ast.While
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Flow:
    """One main function, read for its use of aux.

    Attributes:
        main: the function.
        above: the parent of every node.
        voices: names that answer as aux does: itself, other names for it, local functions that return its result.
        calls: calls of a voice whose result is used.
        handed: calls that are handed a voice, such as `map(aux, xs)` and `sorted(xs, key=aux)`.
        results: names that hold a result, as it came or finished.
        verdicts: further names, computed from a result.
        tables: names of dictionaries, lists and tuples that are written out.
    """

    main: ast.FunctionDef
    above: dict[ast.AST, ast.AST]
    voices: Names
    calls: tuple[ast.Call, ...]
    handed: tuple[ast.Call, ...] = ()
    results: Names = frozenset()
    verdicts: Names = frozenset()
    tables: Names = frozenset()

    def uses(self, *trees: ast.AST) -> bool:
        """Whether aux is used anywhere in these trees."""
        return any(node in self.calls or node in self.handed for tree in trees for node in ast.walk(tree))

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

    def origins(self, value: ast.AST, seen: Names = frozenset()) -> set[str]:
        """The different calls whose results stand in an expression, by their text; a name stands for one of them."""
        match value:
            case ast.IfExp(body=one, orelse=other):
                return max(self.origins(one, seen), self.origins(other, seen), key=len)
            case ast.Name(id=name) if name in self.results and name not in seen:
                bound = [v for target, v in bindings(self.main) if isinstance(target, ast.Name) and target.id == name]
                return set(sorted(origin for v in bound for origin in self.origins(v, seen | {name}))[:1])
        if value in self.calls:
            return {ast.dump(value)}
        return {origin for child in ast.iter_child_nodes(value) for origin in self.origins(child, seen)}

    def recursive_calls(self) -> list[ast.Call]:
        """Calls of a function, main or one inside it, in its own body."""
        functions = [node for node in ast.walk(self.main) if isinstance(node, ast.FunctionDef)]
        return [
            node
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name
        ]

    def of(self, calls: Sequence[ast.Call]) -> Flow:
        """The same function, with the results of these calls alone."""
        results = _grown(lambda known: _results(replace(self, calls=tuple(calls), results=known)))
        flow = replace(self, calls=tuple(calls), results=results, verdicts=frozenset())
        return replace(flow, verdicts=_grown(lambda known: _verdicts(replace(flow, verdicts=known))) - results)

    def _feeds(self, node: ast.AST, loop: Comprehension) -> bool:
        """Whether a node stands in the first iterable of a comprehension, which is evaluated once."""
        return any(part is node for part in ast.walk(loop.generators[0].iter))


def read_flow(main: ast.FunctionDef) -> Flow | None:
    """Reads one main function; None where it makes no use of aux, or has an aux of its own."""
    if shadows_aux(main):
        return None
    above = {child: parent for parent in ast.walk(main) for child in ast.iter_child_nodes(parent)}
    bare = Flow(main, above, frozenset({AUX}), (), tables=_tables(main))
    voices = _grown(lambda known: _voices(replace(bare, voices=known | bare.voices))) | bare.voices
    calls = [node for node in ast.walk(main) if isinstance(node, ast.Call)]
    handed = tuple(call for call in calls if _is_handed(call, voices))
    used = [call for call in calls if name_of(call.func) in voices and not _is_ignored(bare, call)]
    flow = replace(bare, voices=voices, handed=handed).of(used)
    return flow if flow.calls or flow.handed else None


def _grown(more: Callable[[Names], Names]) -> Names:
    """The smallest set of names that `more` does not enlarge."""
    known: Names = frozenset()
    while not (found := more(known)) <= known:
        known |= found
    return known


def _tables(main: ast.FunctionDef) -> Names:
    written = (target for target, value in bindings(main) if _is_table(value, frozenset()))
    return frozenset(target.id for target in written if isinstance(target, ast.Name))


def _voices(flow: Flow) -> Names:
    """Other names for aux, and local functions that return its result."""
    found = set()
    for target, value in bindings(flow.main):
        if isinstance(target, ast.Name) and _is_voice(value, flow.voices):
            found.add(target.id)
    for node in ast.walk(flow.main):
        if isinstance(node, ast.FunctionDef) and node is not flow.main:
            returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value]
            if any(flow.carries(value) for value in returned):
                found.add(node.name)
    return frozenset(found)


def _is_voice(node: ast.expr, voices: Names) -> bool:
    match node:
        case ast.Name(id=name):
            return name in voices
        case ast.Lambda(body=body):
            return any(isinstance(part, ast.Call) and name_of(part.func) in voices for part in ast.walk(body))
        case ast.Call(func=function, args=[first, *_]) if name_of(function) == "partial":
            return _is_voice(first, voices)
    return False


def _is_handed(call: ast.Call, voices: Names) -> bool:
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
            return bool(names) and not names & loaded(flow.main)
    return False


def _results(flow: Flow) -> Names:
    pairs = bindings(flow.main)
    return frozenset(t.id for t, value in pairs if isinstance(t, ast.Name) and flow.is_result(value))


def _verdicts(flow: Flow) -> Names:
    known = flow.results | flow.verdicts
    found = set[str]()
    for target, value in bindings(flow.main):
        if loaded(value) & known or any(node in flow.calls for node in ast.walk(value)):
            found |= stored(target)
    return frozenset(found)


def _is_table(node: ast.expr, tables: Names) -> bool:
    return isinstance(node, ast.Dict | ast.List | ast.Tuple) or (isinstance(node, ast.Name) and node.id in tables)
