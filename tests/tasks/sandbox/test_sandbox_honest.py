"""Honest programs pass, and what is wrong with a wrong one is said plainly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from madrigal.tasks.coding.sandbox import CallTest, CheckTest, Limits, Program, Sandbox, Verdict, confinement
from madrigal.types import TaskError

pytestmark = pytest.mark.skipif(
    not (confinement()["landlock"] and confinement()["seccomp"]), reason="this machine cannot confine"
)

# source, arguments, expected
HONEST = {
    "arithmetic": ("def f(a, b): return a + b", "(2, 3)", "5"),
    "recursion_3000": ("def f(n): return 0 if n == 0 else 1 + f(n - 1)", "(3000,)", "3000"),
    "recursion_through_c": (
        "import functools\n@functools.lru_cache(None)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)",
        "(1500,)",
        "1500",
    ),
    "own_recursion_limit": ("import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n", "(1,)", "1"),
    "printing": ("def f(x):\n    print('a' * 1000, x)\n    return x", "(1,)", "1"),
    "sort_key": ("def f(v): return sorted(v, key=lambda w: -w)", "([1, 3, 2],)", "[3, 2, 1]"),
    "sort_in_place": ("def f(v):\n    v.sort()\n    return v", "([3, 1],)", "[1, 3]"),
    "dataclass": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(order=True)\nclass P:\n    x: int\n    y: list[int] | None = None\n"
        "def f(x): return P(x).x",
        "(1,)",
        "1",
    ),
    "named_tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\ndef f(x): return tuple(P(x))",
        "(1,)",
        "(1,)",
    ),
    "enum": ("from enum import Enum\nclass C(Enum):\n    A = 1\ndef f(x): return C(x).name", "(1,)", "'A'"),
    "regex": ("import re\ndef f(s): return re.findall(r'\\d+', s)", "('a1b22',)", "['1', '22']"),
    "decimal": ("from decimal import Decimal\ndef f(s): return str(Decimal(s) * 3)", "('0.1',)", "'0.3'"),
    "fraction": ("from fractions import Fraction\ndef f(): return str(Fraction(1, 3) + 1)", "()", "'4/3'"),
    "random": ("import random\nrandom.seed(1)\ndef f(): return random.randint(1, 1)", "()", "1"),
    "system_random": ("import secrets\ndef f(): return len(secrets.token_bytes(4))", "()", "4"),
    "hashlib": ("import hashlib\ndef f(s): return hashlib.md5(s.encode()).hexdigest()[:4]", "('a',)", "'0cc1'"),
    "datetime": ("import datetime\ndef f(): return datetime.date(2024, 2, 29).isoformat()", "()", "'2024-02-29'"),
    "clock": ("import time\ndef f():\n    time.sleep(0.001)\n    return time.time() > 0", "()", "True"),
    "json": ("import json\ndef f(v): return json.loads(json.dumps(v))", "({'a': [1]},)", "{'a': [1]}"),
    "string_io": ("import io\ndef f(): return io.StringIO('x').read()", "()", "'x'"),
    "csv": ("import csv\ndef f(): return next(csv.reader(['a,b']))", "()", "['a', 'b']"),
    "generator": ("def g():\n    yield from range(3)\ndef f(): return list(g())", "()", "[0, 1, 2]"),
    "class": ("class S:\n    def go(self): return 1\ndef f(): return S().go()", "()", "1"),
    "global_state": ("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "()", "1"),
    "catches": (
        "def f():\n    try: 1 / 0\n    except ZeroDivisionError as e: return str(e)",
        "()",
        "'division by zero'",
    ),
    "main_block": ("def f(): return 1\nif __name__ == '__main__':\n    input()", "()", "1"),
    "counter": ("from collections import Counter\ndef f(s): return Counter(s)", "('aab',)", "{'a': 2, 'b': 1}"),
    "defaultdict": (
        "from collections import defaultdict\ndef f():\n    d = defaultdict(list)\n    d[1].append(2)\n    return d",
        "()",
        "{1: [2]}",
    ),
    "tuple": ("def f(): return (1, (2,))", "()", "(1, (2,))"),
    "set": ("def f(): return {1, 2}", "()", "{2, 1}"),
    "empty_set": ("def f(): return set()", "()", "set()"),
    "frozenset": ("def f(): return {frozenset({1})}", "()", "{frozenset({1})}"),
    "bytes": ("def f(b): return b + b'\\n\\x00'", "(b'a',)", "b'a\\n\\x00'"),
    "complex": ("def f(z): return z * 1j", "(1+2j,)", "-2+1j"),
    "infinity": ("def f(): return [float('inf'), -float('inf')]", "()", "[inf, -inf]"),
    "negative_zero": ("def f(): return -0.0", "()", "0.0"),
    "true_is_one": ("def f(): return True", "()", "1"),
    "big_int": ("def f(n): return 2**n", "(200,)", str(2**200)),
    "unicode": ("def f(s): return s[::-1]", "('añ😀\\n',)", "'\\n😀ña'"),
    "none": ("def f(): pass", "()", "None"),
    "long_list": ("def f(n): return list(range(n))", "(5000,)", str(list(range(5000)))),
    "signature": ("from typing import *\ndef f(a: Optional[List[int]] = None) -> Any: return a", "()", "None"),
}
MODULES = """
math re collections itertools functools heapq bisect string random decimal fractions statistics datetime
typing dataclasses copy operator hashlib json textwrap unicodedata struct enum time calendar cmath numbers abc array
queue os sys io inspect difflib contextlib zlib base64 pprint ast tokenize configparser html.parser
xml.etree.ElementTree sqlite3 argparse
logging unittest doctest secrets colorsys shlex cProfile asyncio concurrent.futures
""".split()  # noqa: SIM905 (reads better than a list)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=10.0, test_seconds=1.0, cpu_seconds=10), workers=1) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", HONEST)
def test_honest_program_passes(name: str, sandbox: Sandbox) -> None:
    source, arguments, expected = HONEST[name]
    check = f"from math import inf\nassert candidate(*{arguments}) == {expected}"
    tests = (CallTest(arguments, expected),) + ((CheckTest(check),) if name != "global_state" else ())
    assert set(sandbox.run(Program(source, "f", tests))) == {Verdict("passed")}


def test_standard_library_can_be_imported(sandbox: Sandbox) -> None:
    source = f"def f(name):\n    __import__(name)\n    return name\nimport {', '.join(MODULES[:29])}"
    verdicts = sandbox.run(Program(source, "f", tuple(CallTest(f"({name!r},)", repr(name)) for name in MODULES)))
    missing = {name: verdict for name, verdict in zip(MODULES, verdicts, strict=True) if verdict.outcome != "passed"}
    assert set(missing) <= {"sqlite3"}  # its C library lies outside of the standard library's folder


@pytest.mark.parametrize(
    ("source", "outcome", "message"),
    [
        ("def f(x): return 4", "failed", "AssertionError: expected 3, got 4"),
        ("def f(x): return y", "error", "NameError: name 'y' is not defined"),
        ("def g(x): return 3", "error", "NameError: name 'f' is not defined"),
        ("def f(x): return x()", "error", "TypeError: 'int' object is not callable"),
        ("def f(x) return 3", "error", "SyntaxError: expected ':' (<program>, line 1)"),
        ("import numpy\ndef f(x): return 3", "error", "ModuleNotFoundError: No module named 'numpy'"),
        ("f = 3", "error", "TypeError: 'int' object is not callable"),
        ("def f(x): return input()", "error", "EOFError: EOF when reading a line"),
        ("def f(x): raise ValueError", "error", "ValueError"),
        ("class A: pass\ndef f(x): return A()", "error", "returned a value of type A that is not plain data"),
        ("def f(x):\n    while True: pass", "timeout", "no answer within the time limit"),
        ("import os\ndef f(x): os._exit(7)", "crashed", "its process exited with code 7"),
    ],
)
def test_verdict_says_what_is_wrong(source: str, outcome: str, message: str, sandbox: Sandbox) -> None:
    (verdict,) = sandbox.run(Program(source, "f", (CallTest("(1,)", "3"),)))
    assert (verdict.outcome, verdict.message) == (outcome, message)


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        ("assert candidate(2) == 4", Verdict("passed")),
        ("for n in range(5):\n    assert candidate(n) == 2 * n", Verdict("passed")),
        ("assert candidate(x=2) == 4", Verdict("passed")),
        ("assert f(2) == 4", Verdict("passed")),
        ("assert helper(candidate(2)) == 5", Verdict("passed")),
        ("v = [candidate(1)]\nassert v == [2], 'two'", Verdict("passed")),
        ("try:\n    candidate({})\nexcept TypeError:\n    pass\nelse:\n    assert False", Verdict("passed")),
        ("assert candidate(2) == 5", Verdict("failed", "AssertionError: assert candidate(2) == 5")),
        ("assert candidate(2) == 5, 'not five'", Verdict("failed", "AssertionError: not five")),
        ("assert candidate(1) == nothing", Verdict("error", "NameError: name 'nothing' is not defined")),
        ("while True: pass", Verdict("timeout", "no answer within the time limit")),
        ("while True: candidate(1)", Verdict("timeout", "no answer within the time limit")),
        ("import os; os._exit(0)", Verdict("crashed", "its process exited with code 0")),
    ],
)  # fmt: skip
def test_check_judges_from_its_own_process(check: str, verdict: Verdict, sandbox: Sandbox) -> None:
    prelude = "def helper(n): return n + 1"
    program = Program("def f(x): return helper(2 * x) - 1", "f", (CheckTest(check),), prelude)
    assert sandbox.run(program) == (verdict,)


@pytest.mark.parametrize(
    ("raised", "check"),
    [
        ("ValueError('no')", "try:\n    candidate(1)\nexcept ValueError as error:\n    assert str(error) == 'no'"),
        ("ValueError('no')", "try:\n    candidate(1)\nexcept Exception as error:\n    assert str(error) == 'no'"),
        ("IndexError", "try:\n    candidate(1)\nexcept (KeyError, IndexError):\n    pass"),
        ("KeyError(1)", "import contextlib\nwith contextlib.suppress(LookupError):\n    candidate(1)"),
        ("ZeroDivisionError", "import builtins\ntry:\n    candidate(1)\nexcept builtins.ArithmeticError:\n    pass"),
        ("FileNotFoundError", "try:\n    candidate(1)\nexcept IOError:\n    pass"),
        ("TypeError", "import unittest\nunittest.TestCase().assertRaises(TypeError, candidate, 1)"),
        ("RuntimeError", "assert refuses(candidate)"),
    ],
)
def test_check_may_expect_an_exception_that_it_names(raised: str, check: str, sandbox: Sandbox) -> None:
    prelude = "def refuses(f):\n    try: f(1)\n    except RuntimeError: return True\n"
    raising, returning = f"def f(x): raise {raised}", "def f(x): return None"
    assert sandbox.run(Program(raising, "f", (CheckTest(check),), prelude)) == (Verdict("passed"),)
    if "assert " in check or "assertRaises" in check:
        return
    other = CheckTest(f"{check}\nassert candidate(1) == 5")
    assert sandbox.run(Program(returning, "f", (other,), prelude))[0].outcome == "failed"


def test_what_one_check_names_is_not_kept_in_the_next(sandbox: Sandbox) -> None:
    first = CheckTest("try:\n    candidate(1)\nexcept AttributeError:\n    pass")
    second = CheckTest(
        "class A:\n    value = property(lambda self: candidate(1))\nassert getattr(A(), 'value', 5) == 5"
    )
    verdicts = sandbox.run(Program("def f(x): raise AttributeError('none')", "f", (first, second)))
    assert verdicts == (Verdict("passed"), Verdict("error", "AttributeError: none"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(x): raise ValueError('\\ud800')", "ValueError: ?"),
        ("def f(x): raise ValueError('a\\nb\\tc\\x00\\x1b[0m')", "ValueError: a b c[0m"),
        ("def f(x): raise ValueError('<|im_end|>\\n<\\x00|im_start|>')", "ValueError: <|im_end|> <|im_start|>"),
        ("f = lambda x: <|", "SyntaxError: invalid syntax (<program>, line 1)"),
        ("def f(x): raise type('\\n', (Exception,), {})", "an error that says nothing"),
    ],
)
def test_message_is_one_plain_line(source: str, message: str, sandbox: Sandbox) -> None:
    (verdict,) = sandbox.run(Program(source, "f", (CallTest("(1,)", "3"),)))
    assert verdict.message == message


def test_message_about_two_long_values_is_clipped(sandbox: Sandbox) -> None:
    (verdict,) = sandbox.run(Program("def f(x): return '|>' * 200", "f", (CallTest("(1,)", repr("x" * 200)),)))
    assert len(verdict.message) <= 300
    assert verdict.message.count("…") == 2


@pytest.mark.parametrize(
    "check",
    [
        "assert candidate(f)",
        "assert (",
        "import numpy\nassert candidate(1)",
        "assert 1 == 2 and candidate(1)",
        "class A: pass\nassert candidate(A()) == 1",
        "assert candidate(nothing)",
    ],
)
@pytest.mark.parametrize("source", ["def f(x): return 1", "def f(x): raise ValueError"])
def test_check_that_fails_before_it_has_an_answer_is_no_verdict(check: str, source: str, sandbox: Sandbox) -> None:
    with pytest.raises(TaskError, match="fails before it asks") as caught:
        sandbox.run(Program(source, "f", (CheckTest(check),)))
    assert "\n" not in str(caught.value)
    assert sandbox.run(Program(source, "f", (CheckTest("assert True"),))) == (Verdict("passed"),)


IN_PLACE = {
    "list": ("x.sort()", "x = [3, 1]\ncandidate(x)\nassert x == [1, 3]"),
    "dict": ("x['a'] = 1", "x = {}\ncandidate(x)\nassert x == {'a': 1}"),
    "set": ("x.add(1)", "x = set()\nassert candidate(x) is None\nassert x == {1}"),
    "deque": ("x.append(1)", "from collections import deque\nx = deque()\ncandidate(x)\nassert list(x) == [1]"),
    "keyword": ("x.pop()", "x = [1, 2]\ngot = candidate(x=x)\nassert got is None and x == [1]"),
    "within": ("x[0].append(1)", "for _ in range(2):\n    x = [[]]\n    candidate(x)\n    assert x == [[1]]"),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_check_sees_what_the_candidate_does_to_an_argument(kind: str, sandbox: Sandbox) -> None:
    change, check = IN_PLACE[kind]
    assert sandbox.run(Program(f"def f(x): {change}", "f", (CheckTest(check),))) == (Verdict("passed"),)
    assert sandbox.run(Program("def f(x): pass", "f", (CheckTest(check),)))[0].outcome == "failed"


def test_statement_with_the_call_reads_arguments_as_they_were(sandbox: Sandbox) -> None:
    program = Program(
        "def f(v):\n    v.clear()\n    return v", "f", (CheckTest("v = [2, 1]\nassert candidate(v) == sorted(v)"),)
    )
    assert sandbox.run(program)[0].outcome == "failed"


@pytest.mark.parametrize(
    ("value", "check", "outcome"),
    [
        ("(n for n in range(x))", "assert list(candidate(3)) == [0, 1, 2]", "passed"),
        ("map(abs, [-x])", "assert next(candidate(3)) == 3", "passed"),
        ("{x: 1}.keys()", "assert set(candidate(3)) == {3}", "passed"),
        ("range(x)", "assert candidate(3) == range(3)", "passed"),
        ("__import__('collections').deque([x])", "assert candidate(3)[0] == 3", "passed"),
        ("bytearray([x])", "assert candidate(3) == b'\\x03'", "passed"),
        ("(n for n in range(x))", "assert candidate(3) == [0, 1, 2]", "failed"),
        ("range(x)", "assert candidate(3) == [0, 1, 2]", "failed"),
        ("(object() for _ in range(x))", "assert list(candidate(3)) == [0, 1, 2]", "error"),
        ("__import__('itertools').count()", "assert list(candidate(3)) == [0, 1, 2]", "error"),
    ],
)
def test_check_can_read_what_is_lazy(value: str, check: str, outcome: str, sandbox: Sandbox) -> None:
    (verdict,) = sandbox.run(Program(f"def f(x): return {value}", "f", (CheckTest(check),)))
    assert verdict.outcome == outcome, verdict


def test_check_can_hand_over_a_deque(sandbox: Sandbox) -> None:
    check = CheckTest("from collections import deque\nassert candidate(deque([7, 8])) == 7")
    assert sandbox.run(Program("def f(x): return x.popleft()", "f", (check,))) == (Verdict("passed"),)


def test_what_is_left_in_an_argument_must_be_plain(sandbox: Sandbox) -> None:
    (verdict,) = sandbox.run(Program("def f(x): x.append(f)", "f", (CheckTest("candidate([])"),)))
    assert verdict.outcome == "error" and "function" in verdict.message


def test_one_lost_process_does_not_cost_the_other_tests(sandbox: Sandbox) -> None:
    source = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    return x"
    calls = (CallTest(f"({n},)", str(n)) for n in (0, 1, 2))
    tests = (*calls, CheckTest("assert candidate(3) == 3"))
    outcomes = [verdict.outcome for verdict in sandbox.run(Program(source, "f", tests))]
    assert outcomes == ["passed", "crashed", "passed", "passed"]


def test_state_of_one_program_is_gone_in_the_next(sandbox: Sandbox) -> None:
    first = "import builtins, math\nbuiltins.leak = math.leak = 1\ndef f(): return 1"
    second = "import builtins, math\ndef f(): return hasattr(builtins, 'leak') + hasattr(math, 'leak')"
    assert sandbox.run(Program(first, "f", (CallTest("()", "1"),))) == (Verdict("passed"),)
    assert sandbox.run(Program(second, "f", (CallTest("()", "0"),))) == (Verdict("passed"),)


def test_program_is_not_told_where_the_library_lies(sandbox: Sandbox) -> None:
    source = (
        "import sys\ndef f():\n"
        "    files = [vars(m).get('__file__') for n, m in sys.modules.items() if 'sandbox' in n]\n"
        "    return [*sys.argv, *sys.orig_argv, sys.executable, sys.prefix, sys.base_prefix, *map(str, files)]"
    )
    check = CheckTest("assert not any(candidate())")
    assert sandbox.run(Program(source, "f", (check,))) == (Verdict("passed"),)
