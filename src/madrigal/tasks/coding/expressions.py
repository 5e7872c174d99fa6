"""What single expressions do: finish a value, state a constant, deliver something. A vocabulary over syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

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
IN_PLACE = frozenset({"sort", "reverse"})
EMPTY = frozenset({"list", "dict", "set", "tuple", "str", "float", "int"})


def name_of(function: ast.expr) -> str:
    """The last name of what is called: `sqrt` of `math.sqrt`."""
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


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
        case ast.Call(func=ast.Name(id="min" | "max"), args=[one, other]):
            return [one, other] if is_constant(one) != is_constant(other) else []
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in METHODS:
            return [value, *args] if name in {"join", "format"} else [value]
        case ast.Call(func=function, args=[first, *_]) if name_of(function) in FUNCTIONS:
            return [first]
        case ast.Subscript(value=value, slice=ast.Slice()) | ast.UnaryOp(operand=value):
            return [value]
        case ast.JoinedStr(values=values):
            return [value.value for value in values if isinstance(value, ast.FormattedValue)]
        case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right]):
            return [left, right] if is_constant(left) != is_constant(right) else []
    return []


def delivered(trees: Iterable[ast.AST]) -> list[ast.expr]:
    """What statements return, yield, assign, or put into a container."""
    values = []
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case (
                ast.Return(value=ast.expr() as value)
                | ast.Yield(value=ast.expr() as value)
                | ast.Assign(value=value)
                | ast.AnnAssign(value=ast.expr() as value)
                | ast.AugAssign(value=value)
                | ast.Expr(value=ast.Call(func=ast.Attribute(), args=[*_, value]))
            ):
                values.append(value)
    return values


def answers(main: ast.AST) -> list[ast.expr]:
    """What a function returns or yields."""
    return [n.value for n in ast.walk(main) if isinstance(n, ast.Return | ast.Yield) and n.value is not None]


def bindings(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target of the assignments among some nodes, with the value that it takes."""
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((target, value) for target in targets)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                yield target, value


def stored(*trees: ast.AST) -> set[str]:
    """Every name that trees bind, targets of loops included."""
    return {node.id for node in _names(trees) if isinstance(node.ctx, ast.Store)}


def loaded(*trees: ast.AST) -> set[str]:
    """Every name that trees read."""
    return {node.id for node in _names(trees) if isinstance(node.ctx, ast.Load)}


def exits(block: list[ast.stmt]) -> bool:
    """Whether control never passes the end of a block."""
    match block[-1]:
        case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
            return True
        case ast.If(body=body, orelse=[_, *_] as orelse):
            return exits(body) and exits(orelse)
    return False


def _names(trees: Iterable[ast.AST]) -> Iterator[ast.Name]:
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name))
