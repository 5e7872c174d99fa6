"""One function as a tree: what encloses, repeats, chooses and follows each node, and where names are bound and read.

Names are read without order or scope. That is right for the short functions that models write, and can err for long
ones.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from madrigal.tasks.coding.syntax import assignments, name_of

CHOOSING = frozenset({"filter", "filterfalse", "takewhile", "dropwhile"})
EMPTY = frozenset({"list", "dict", "set", "tuple", "str", "float", "int"})

Loop = ast.For | ast.AsyncFor | ast.While
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree of one function.

    Attributes:
        main: the function.
        nodes: the function and all that stands in it.
        parents: the parent of every node.
        bindings: each target of an assignment, with the value that it takes.
        values: for each name, the values that it takes by itself.
        reads: for each name, the places where it is read.
        stored: every name that is bound, targets of loops included.
        constants: names that take one constant and nothing else.
        tables: names of dictionaries, lists and tuples that are written out.
    """

    main: ast.FunctionDef
    nodes: tuple[ast.AST, ...]
    parents: Mapping[ast.AST, ast.AST]
    bindings: tuple[tuple[ast.expr, ast.expr], ...]
    values: Mapping[str, list[ast.expr]]
    reads: Mapping[str, list[ast.Name]]
    stored: AbstractSet[str]
    constants: frozenset[str]
    tables: frozenset[str]

    def way_up(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """A node and its parent, then the parent and its own, up to the function."""
        while (parent := self.parents.get(node)) is not None:
            yield node, parent
            node = parent

    def around(self, nodes: Iterable[ast.AST]) -> frozenset[ast.AST]:
        """Nodes, and all that they stand in."""
        around = set[ast.AST]()
        for node in nodes:
            inner: ast.AST | None = node
            while inner is not None and inner not in around:
                around.add(inner)
                inner = self.parents.get(inner)
        return frozenset(around)

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

    def repeats(self, node: ast.AST) -> Iterator[Loop | Comprehension]:
        """The loops and comprehensions that evaluate a node again and again, innermost first."""
        for child, parent in self.way_up(node):
            if isinstance(parent, Loop) and child in parent.body:
                yield parent
            if isinstance(parent, Comprehension) and node not in ast.walk(parent.generators[0].iter):  # evaluated once
                yield parent

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
            ) if _is_table(table, self.tables):
                return [test]
            case ast.Call(func=function, args=[test, *_]) if name_of(function) in CHOOSING:
                return [test]
        return []

    def recursive_calls(self) -> list[ast.Call]:
        """Calls of a function, main or one inside it, in its own body."""
        return [
            node
            for function in self.nodes
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name
        ]


def read_tree(main: ast.FunctionDef) -> Tree:
    """The tree of a function, with its names looked up."""
    nodes = tuple(ast.walk(main))
    bindings = tuple(binding for node in nodes for binding in assignments(node))
    values, reads = defaultdict[str, list[ast.expr]](list), defaultdict[str, list[ast.Name]](list)
    stores = Counter[str]()
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
    return Tree(
        main,
        nodes,
        parents={child: parent for parent in nodes for child in ast.iter_child_nodes(parent)},
        bindings=bindings,
        values=values,
        reads=reads,
        stored=frozenset(stores),
        constants=frozenset(constants),
        tables=frozenset(tables),
    )


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
