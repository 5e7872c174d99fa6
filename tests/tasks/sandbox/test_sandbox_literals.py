"""What may cross a process boundary, what comes out, and what a liar's bytes come to."""

from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

import pytest

from madrigal.tasks.coding.sandbox.literals import DEPTH, NotPlainError, decode, encode, parse


class Point(NamedTuple):
    x: int


class Level(IntEnum):
    LOW = 1


PLAIN = [
    None, True, False, 0, -1, 2**5000, -(2**64), 0.1, -0.0, math.inf, -math.inf, 1e-320, 1j, complex(-0.0, math.inf),
    "", "a\nb\\n\r\x00", "ñ😀\ud800", b"", b"\n\x00\xff", [], (), set(), frozenset(), {}, [[], ()], (1,), {1, "a"},
    {frozenset({(1, 2)}), None}, {(1, 2): [3], None: {"a": {}}}, [1, [2, [3, (4, {5})]]],
]  # fmt: skip


def same(a: object, b: object) -> bool:
    return type(a) is type(b) and repr(a) == repr(b) if not isinstance(a, int) else type(a) is type(b) and a == b


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: str(type(value).__name__))
def test_plain_value_arrives_as_it_left(value: object) -> None:
    arrived = decode(encode(value))
    assert arrived == value
    assert same(arrived, value) or isinstance(value, set | frozenset)


def test_nan_arrives_and_equals_nothing() -> None:
    value = math.nan
    arrived = decode(encode([value]))
    assert isinstance(arrived, list)
    assert math.isnan(arrived[0])
    assert arrived != [value]  # the same nan in a list would equal itself by identity


@pytest.mark.parametrize("value", [Counter("aab"), OrderedDict(a=1), defaultdict(int, a=1)])
def test_dict_of_the_standard_library_arrives_as_the_dict_that_it_equals(value: dict[str, int]) -> None:
    assert type(decode(encode(value))) is dict
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", [Point(1), Level.LOW, object(), int, print, Decimal(1), [Level.LOW], iter([1])])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(NotPlainError, match="not plain data"):
        encode(value)


def test_depth_and_size_are_bounded() -> None:
    nested: object = 0
    for _ in range(DEPTH):
        nested = [nested]
    assert decode(encode(nested)) == nested
    with pytest.raises(NotPlainError, match="deeper"):
        encode([nested])
    with pytest.raises(ValueError, match="deeper"):
        decode(b"\xff".join([b"l1"] * 100_000 + [b"N"]))
    assert len(encode("a" * 99, 100)) == 100
    for large in ("a" * 100, "ñ" * 60, [0] * 101, [[]] * 60, 2**1000):
        with pytest.raises(NotPlainError, match="too large"):
            encode(large, 100)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"N\xffN", b"l2\xffN", b"l999999999999999999\xffN", b"l\xffN", b"ig", b"fx", b"c1", b"b0", b"s\x80",
     b"S1\xffl0", b"d1\xffl0\xffN", b"d1\xffN", b"l" + b"9" * 5000, b"\xff\xff", b"b\xfe", b"l1e3\xffN"],
)  # fmt: skip
def test_nonsense_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


def test_random_bytes_are_a_value_or_a_value_error() -> None:
    dice = random.Random(0)
    for _ in range(5000):
        data = b"\xff".join(
            bytes(dice.choices(b"NTFifcsbltSZd0123\x80\xc3\xa9\xed-. ", k=dice.randrange(6))) for _ in range(4)
        )
        try:
            value = decode(data)
        except ValueError:
            continue
        encode(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("([1, 2], 3)", ([1, 2], 3)),
        (" -1 ", -1),
        ("1-2j", 1 - 2j),
        ("[inf, -inf]", [math.inf, -math.inf]),
        ("float('-inf')", -math.inf),
        ("set()", set()),
        ("frozenset({1})", frozenset({1})),
        ("{'a': (None, True)}", {"a": (None, True)}),
        ("'a' 'b'", "ab"),
    ],
)
def test_literal_is_read(text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "f(1)", "x", "1 +", "[x for x in y]", "1 + 2", "...", "{**{}}", "__import__('os')", "f'{1}'", "{[]}", "-'a'"],
)  # fmt: skip
def test_anything_but_a_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a literal"):
        parse(text)


class Posing(type):
    """Metaclass of a class that gives itself out as int."""

    def __eq__(cls, other: object) -> bool:
        return other is int

    def __hash__(cls) -> int:
        return hash(int)


def test_a_class_that_poses_as_int_is_none() -> None:
    with pytest.raises(NotPlainError):
        encode(Posing("int", (int,), {})(3))


@pytest.mark.parametrize("value", [deque([1, [2]]), range(-3, 9, 2), bytearray(b"x\xff")])
def test_standard_containers_cross_as_themselves(value: object) -> None:
    got = decode(encode(value))
    assert type(got) is type(value) and got == value
