"""The only thing that crosses a process boundary: plain values, as tokens between bytes that no UTF-8 text has.

Covered: None, bool, int, float (nan, inf and -0.0 included), complex, str, bytes, bytearray, range, list, tuple, set,
frozenset, deque, dict, nested up to DEPTH. Counter, defaultdict and OrderedDict arrive as the dict that they equal.
Not covered, on purpose: every other type and every subclass, for it could bring its own `__eq__`.

Why not pickle or marshal: they run code, or trust what they read. Why not `ast.literal_eval` or JSON: their recursion
is bounded by an interpreter setting, not by this file, and neither keeps all of the types.

Only the standard library: the confined processes import this file as well.
"""

from __future__ import annotations

import ast
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any

DEPTH = 100
SEPARATOR = b"\xff"

# By identity: a metaclass may give a class the hash of int.
_SCALARS: dict[int, Callable[[Any], bytes]] = {
    id(NoneType): lambda _: b"N",
    id(bool): lambda value: b"T" if value else b"F",
    id(int): lambda value: b"i%x" % value,
    id(float): lambda value: b"f" + repr(value).encode(),
    id(complex): lambda value: f"c{value.real!r} {value.imag!r}".encode(),
    id(str): lambda value: b"s" + value.encode("utf-8", "surrogatepass"),
    id(bytes): lambda value: b"b" + value.hex().encode(),
    id(bytearray): lambda value: b"B" + value.hex().encode(),
    id(range): lambda value: b"r%x %x %x" % (value.start, value.stop, value.step),
}
_SERIES: dict[bytes, Callable[[list[object]], object]] = {
    b"l": list,
    b"t": tuple,
    b"S": set,
    b"Z": frozenset,
    b"q": deque,
}
_TAGS = {id(kind): tag for tag, kind in _SERIES.items()}
_SIZED = frozenset(map(id, (str, bytes, bytearray, *_SERIES.values())))
_MAPPINGS = frozenset(map(id, (dict, Counter, defaultdict, OrderedDict)))


class NotPlainError(ValueError):
    """A value that is no plain data, or too much of it; the message ends a sentence that begins with its owner."""


def encode(value: object, most: int = 2**31) -> bytes:
    """Writes a plain value as at most `most` bytes.

    >>> decode(encode((1, {"a": {2.0}}, b"x")))
    (1, {'a': {2.0}}, b'x')

    Raises:
        NotPlainError: for any other type, for nesting beyond DEPTH, for more than `most` bytes.
    """
    tokens: list[bytes] = []
    _write(value, tokens, most, DEPTH)
    if sum(map(len, tokens)) + len(tokens) - 1 > most:
        raise NotPlainError("a value that is too large")
    return SEPARATOR.join(tokens)


def _write(value: object, tokens: list[bytes], most: int, depth: int) -> None:
    kind = id(type(value))
    if len(tokens) > most or (kind in _SIZED and len(value) > most):  # type: ignore[arg-type]
        raise NotPlainError("a value that is too large")
    if depth < 0:
        raise NotPlainError(f"a value nested deeper than {DEPTH}")
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        tokens.append(scalar(value))
    elif isinstance(value, list | tuple | set | frozenset | deque) and kind in _TAGS:
        tokens.append(b"%b%d" % (_TAGS[kind], len(value)))
        for item in value:
            _write(item, tokens, most, depth - 1)
    elif isinstance(value, dict) and kind in _MAPPINGS:
        tokens.append(b"d%d" % len(value))
        for pair in value.items():
            for item in pair:
                _write(item, tokens, most, depth - 1)
    else:
        raise NotPlainError(f"a value of type {type(value).__name__} that is not plain data")


def decode(data: bytes) -> object:
    """Reads what `encode` wrote, and trusts none of it.

    Raises:
        ValueError: for anything that `encode` could not have written.
    """
    tokens = iter(data.split(SEPARATOR))
    try:
        value = _read(tokens, DEPTH)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"no plain value: {error}") from error
    if next(tokens, None) is not None:
        raise ValueError("more than one value")
    return value


def _read(tokens: Iterator[bytes], depth: int) -> object:
    token = next(tokens, b"")
    tag, text = token[:1], token[1:]
    if depth < 0:
        raise ValueError(f"nested deeper than {DEPTH}")
    if tag in _SERIES:
        return _SERIES[tag]([_read(tokens, depth - 1) for _ in range(int(text))])
    if tag == b"d":
        return {_read(tokens, depth - 1): _read(tokens, depth - 1) for _ in range(int(text))}
    return _scalar(tag, text)


def _scalar(tag: bytes, text: bytes) -> object:
    match tag:
        case b"i":
            return int(text, 16)
        case b"s":
            return text.decode("utf-8", "surrogatepass")
        case b"f":
            return float(text)
        case b"T" | b"F":
            return tag == b"T"
        case b"N":
            return None
        case b"b":
            return bytes.fromhex(text.decode())
        case b"B":
            return bytearray.fromhex(text.decode())
        case b"r":
            return range(*(int(part, 16) for part in text.split()))
        case b"c":
            real, imaginary = text.split()
            return complex(float(real), float(imaginary))
        case _:
            raise ValueError(f"no such tag: {tag!r}")


def parse(text: str) -> object:
    """The value of a literal's source text; beside Python's literals: inf, nan, float("..."), set(), frozenset(...).

    The text comes from a data set, which is trusted not to exhaust the parser.

    >>> parse("[1, (2, -inf), {'a': frozenset({3})}]")
    [1, (2, -inf), {'a': frozenset({3})}]

    Raises:
        ValueError: where the text is no literal.
    """
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
        encode(value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:80]!r} is not a literal: {error}") from error
    return value


def _value(node: ast.expr | None) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id="inf" | "nan" as name):
            return float(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            return -_value(operand) if isinstance(sign, ast.USub) else +_value(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=ast.Constant(value=complex() as part)):
            return _value(left) + part if isinstance(sign, ast.Add) else _value(left) - part
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Set(elts=items):
            return {_value(item) for item in items}
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Call(func=ast.Name(id="float" | "set" | "frozenset" as name), args=items, keywords=[]):
            return {"float": float, "set": set, "frozenset": frozenset}[name](*map(_value, items))
        case _:
            raise ValueError("an expression that would have to be computed")
