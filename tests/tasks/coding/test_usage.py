"""What main does with aux: the two-line programs that decide half a point each."""

from __future__ import annotations

import ast

import pytest

from madrigal.tasks.coding.usage import calls_aux, ignored_result, is_thin_wrapper, usage_of


def function(body: str, head: str = "def main(x):") -> ast.FunctionDef:
    node = ast.parse(head + "\n" + "\n".join(f"    {line}" for line in body.split("\n"))).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.mark.parametrize(
    ("body", "called"),
    [
        ("return aux(x)", True),
        ("return [aux(y) for y in x]", True),
        ("def inner():\n    return aux(x)\nreturn inner()", True),
        ("return x", False),
        ("return auxiliary(x)", False),
        ("return map(aux, x)", False),
        ("return x.aux(x)", False),
        ("return 'aux(x)'", False),
        ("# aux(x)\nreturn x", False),
        ("aux = len\nreturn aux(x)", False),
        ("def aux(y):\n    return y\nreturn aux(x)", False),
        ("from os import path as aux\nreturn aux(x)", False),
        ("for aux in x:\n    return aux(1)", False),
    ],
)
def test_a_call_of_the_teammates_aux(body: str, called: bool) -> None:
    assert calls_aux(function(body)) is called


def test_a_parameter_named_aux_is_not_the_teammates() -> None:
    assert not calls_aux(function("return aux(x)", "def main(x, aux):"))


@pytest.mark.parametrize(
    ("body", "thin"),
    [
        ("return aux(x)", True),
        ("'Docstring.'\nreturn aux(x)", True),
        ("# comment\nreturn sorted(aux(x))", True),
        ("return aux(\n    x,\n)", True),
        ("y = aux(x)\nreturn y", True),
        ("y: int = aux(x)\nreturn y", True),
        ("'Docstring.'", True),
        ("pass", True),
        ("return x", False),
        ("y = aux(x)\nreturn y + 1", False),
        ("y = aux(x) + 1\nreturn y", False),
        ("y = aux(x)\nreturn x", False),
        ("y = x + 1\nreturn aux(y)", False),
        ("if x:\n    return aux(x)\nreturn 0", False),
        ("return", False),
    ],
)
def test_a_thin_wrapper(body: str, thin: bool) -> None:
    assert is_thin_wrapper(function(body)) is thin


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("aux(x)\nreturn x", "its result is thrown away"),
        ("if x:\n    aux(x)\nreturn x", "its result is thrown away"),
        ("try:\n    aux(x)\nexcept TypeError:\n    pass\nreturn x", "its result is thrown away"),
        ("y = aux(x)\nreturn x", "y is never read"),
        ("y: int = aux(x)\nreturn x", "y is never read"),
        ("y = sum(aux(x))\nreturn x", "y is never read"),
        ("y, z = aux(x)\nreturn x", "y is never read"),
        ("y = aux(x)\ny = 3\nreturn y", "y is assigned again before it is read"),
        ("y = aux(x)\nz = 1\ny = z\nreturn y", "y is assigned again before it is read"),
        ("for z in x:\n    y = aux(z)\n    y = 2\nreturn y", "y is assigned again before it is read"),
        ("y = aux(x)\nreturn y", ""),
        ("y = aux(x)\ny = y + 1\nreturn y", ""),
        ("y = aux(x)\ny += 1\nreturn x", ""),
        ("y, z = aux(x)\nreturn z", ""),
        ("y, z = aux(x)\ny = 0\nreturn y + z", ""),
        ("y = aux(x)\nif x:\n    y = 0\nreturn y", ""),
        ("y = 0\nfor z in x:\n    if y:\n        return y\n    y = aux(z)\nreturn 0", ""),
        ("x.result = aux(x)\nreturn x", ""),
        ("x[0] = aux(x)\nreturn x", ""),
        ("x.append(aux(x))\nreturn x", ""),
        ("if aux(x):\n    return 1\nreturn 0", ""),
        ("y = aux(x)\ndef inner():\n    return y\nreturn inner()", ""),
        ("return x", ""),
    ],
)
def test_why_a_result_is_ignored(body: str, reason: str) -> None:
    assert ignored_result(function(body)) == reason


def test_usage_has_three_values() -> None:
    assert usage_of(function("return x")) == ("not called", "")
    assert usage_of(function("aux(x)\nreturn x")) == ("misused", "its result is thrown away")
    assert usage_of(function("return aux(x) + 1")) == ("used", "")
