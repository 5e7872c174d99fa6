"""Taking check(candidate) apart, and reading parameters off a prompt."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.data import HUMAN_EVAL
from madrigal.tasks.coding.problem import Problem, parameters, problem_of, unit_tests
from madrigal.tasks.coding.sandbox import CallTest, CheckTest, Program, Sandbox
from madrigal.tasks.coding.soundness import check_problems
from madrigal.tasks.coding.unit_tests import shown
from madrigal.types import Example, TaskError


def check(*lines: str) -> str:
    return "METADATA = {}\n\ndef check(candidate):\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("line", "test"),
    [
        ("assert candidate(2) == 4", CallTest("(2,)", "4")),
        (
            "assert candidate([1, -2], 'a') == (1, {'b': None}), 'message'",
            CallTest("([1, -2], 'a')", "(1, {'b': None})"),
        ),
        ("assert candidate() == []", CallTest("()", "[]")),
        ("assert candidate(1) == True", CallTest("(1,)", "True")),
        ("assert candidate(1)", CheckTest("assert candidate(1)")),
        ("assert not candidate(1)", CheckTest("assert not candidate(1)")),
        ("assert candidate(1) is None", CheckTest("assert candidate(1) is None")),
        ("assert candidate(1) == [0] * 3", CheckTest("assert candidate(1) == [0] * 3")),
        ("assert candidate(x=1) == 2", CheckTest("assert candidate(x=1) == 2")),
        ("assert candidate(*[1]) == 2", CheckTest("assert candidate(*[1]) == 2")),
        ("assert abs(candidate(1) - 2) < 1e-6", CheckTest("assert abs(candidate(1) - 2) < 1e-06")),
        ("assert candidate(1) == candidate(2) == 3", CheckTest("assert candidate(1) == candidate(2) == 3")),
    ],
)
def test_one_assert_is_one_test(line: str, test: CallTest | CheckTest) -> None:
    assert unit_tests(check(line)) == (test,)


def test_duplicates_and_asserts_without_the_candidate_are_dropped() -> None:
    lines = (
        "assert True, 'candidate'",
        "assert candidate(1) == 2",
        "assert candidate(1)  ==  2, 'again'",
        "print",
    )
    assert unit_tests(check(*lines)) == (CallTest("(1,)", "2"),)


def test_a_check_brings_what_it_needs_and_nothing_else() -> None:
    source = "import math\nimport random\nEPS = 1e-6\n\ndef near(a, b):\n    return abs(a - b) < EPS\n\n" + check(
        "xs = [1]",
        "xs.append(2)",
        "other = 5",
        "assert near(candidate(xs), math.pi)",
        "assert candidate(3) == 4",
    )
    first, second = unit_tests(source)
    assert isinstance(first, CheckTest) and first.source == (
        "import math\nEPS = 1e-06\ndef near(a, b):\n    return abs(a - b) < EPS\n"
        "xs = [1]\nxs.append(2)\nassert near(candidate(xs), math.pi)"
    )
    assert second == CallTest("(3,)", "4")


@pytest.mark.parametrize(
    "lines",
    [
        ("for x in range(3):", "    assert candidate(x) == x"),
        ("for x in range(3):", "    y = candidate(x)", "    assert y == x"),
        ("if True:", "    assert candidate(0) == 0"),
        ("try:", "    candidate('a')", "except TypeError:", "    pass", "else:", "    raise AssertionError"),
        ("got = candidate(0)", "assert got == 0"),
        ("def inner(x):", "    assert candidate(x) == x", "inner(3)"),
        ("def same(a, b):", "    assert a == b", "same(candidate(3), 3)"),
    ],
)
def test_a_compound_is_one_check_that_holds_for_the_identity(lines: tuple[str, ...]) -> None:
    (test,) = unit_tests(check(*lines))
    assert isinstance(test, CheckTest)
    exec(test.source, {"candidate": _identity})
    with pytest.raises(AssertionError):
        exec(test.source, {"candidate": lambda x: 99})


def _identity(x: int) -> int:
    if isinstance(x, str):
        raise TypeError("a number is expected")
    return x


def test_a_parameter_of_another_name_is_bound_to_the_candidate() -> None:
    source = "def check(f):\n    assert f(1) == 2\n    assert f(1) > 0\n"
    assert unit_tests(source) == (CallTest("(1,)", "2"), CheckTest("f = candidate\nassert f(1) > 0"))


def test_what_sets_up_is_kept_and_what_calls_check_is_not() -> None:
    source = (
        "import random\ntry:\n    import numpy\nexcept ImportError:\n    numpy = None\nrandom.seed(3)\n"
        "X = random.random()\n" + check("assert candidate(X) == X", "assert candidate(numpy) is None") + "check(f)\n"
    )
    seeded, guarded = unit_tests(source)
    assert isinstance(seeded, CheckTest) and seeded.source.splitlines() == [
        *("import random", "random.seed(3)", "X = random.random()", "assert candidate(X) == X"),
    ]
    assert isinstance(guarded, CheckTest) and guarded.source.startswith("try:\n    import numpy")


def test_an_assert_on_an_argument_brings_the_assert_that_hands_it_over() -> None:
    lines = ("xs = [2, 1]", "assert candidate(xs) is None", "assert candidate(3) == 4", "assert xs == [1, 2]")
    *_, last = unit_tests(check(*lines))
    assert last == CheckTest("xs = [2, 1]\nassert candidate(xs) is None\nassert xs == [1, 2]")


@pytest.mark.parametrize("package", ["numpy", "pytest"])
def test_tests_that_need_another_package_are_refused(package: str) -> None:
    source = f"import {package} as p\n" + check("assert p.near(candidate(1))")
    with pytest.raises(TaskError, match=f"import {package}"):
        unit_tests(source)
    assert unit_tests(f"import {package} as p\n" + check("assert candidate(1) == 2")) == (CallTest("(1,)", "2"),)


@pytest.mark.parametrize(
    "line",
    [
        f"assert candidate(1) == {'+'.join(['1'] * 900)}",
        f"assert candidate(1) == {'not ' * 900}1",
        f"assert candidate(1){'.real' * 2000} == 1",
        f"assert candidate(1) == {hex(10**6000)}",
    ],
    ids=["sum", "not", "attributes", "digits"],
)
def test_tests_that_nest_too_deeply_are_refused_in_one_line(line: str) -> None:
    with pytest.raises(TaskError, match=r"taken apart|parse") as caught:
        unit_tests(check(line))
    assert "\n" not in str(caught.value)


def test_a_literal_too_deep_to_cross_is_left_to_a_check() -> None:
    (test,) = unit_tests(check(f"assert candidate(1) == {'[' * 150 + ']' * 150}"))
    assert isinstance(test, CheckTest)


def test_many_tests_are_taken_apart_in_linear_time() -> None:
    lines = [line for n in range(4000) for line in (f"x{n} = {n}", f"assert candidate(x{n}) == {n}")]
    started = time.process_time()
    assert len(unit_tests(check(*lines))) == 4000
    assert time.process_time() - started < 4.0  # 0.4 s, and 20 s where every statement is looked at for every test


@pytest.mark.parametrize(
    "source",
    ["", "def check(candidate):\n    pass", "x = 1", "def check():\n    assert f(1)", "def check(candidate:"],
)
def test_tests_that_test_nothing_are_an_error(source: str) -> None:
    with pytest.raises(TaskError, match="expected"):
        unit_tests(source)


def test_how_an_agent_reads_a_test() -> None:
    assert shown(CallTest("(1,)", "2")) == "candidate(1) expected 2"
    assert shown(CallTest("((1,), 2)", "2")) == "candidate((1,), 2) expected 2"
    assert shown(CheckTest("y = 1\nassert candidate(y), 'why'")) == "assert candidate(y)"


LITERALS = st.recursive(
    st.integers() | st.text() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(LITERALS, max_size=3), LITERALS)
def test_literals_come_back_as_they_were_written(arguments: list[Any], expected: Any) -> None:
    (test,) = unit_tests(check(f"assert candidate({', '.join(map(repr, arguments))}) == {expected!r}"))
    assert isinstance(test, CallTest)
    assert eval(test.arguments) == tuple(arguments) and eval(test.expected) == expected


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (
            "from typing import List\n\ndef f(xs: List[float], t: float = 0.5) -> bool:\n    'Doc.'",
            "xs: List[float], t: float=0.5",
        ),
        ("def g(y):\n    pass\n\ndef f(*xs, **ys):\n    'Doc.'", "*xs, **ys"),
        ("def f():\n    'Doc.'", ""),
        ("Write a function.\n\ndef f(x: dict[str, int],\n      y=(1, 2)):", "x: dict[str, int], y=(1, 2)"),
    ],
)
def test_the_parameters_of_the_def_line(prompt: str, text: str) -> None:
    assert parameters(Problem(prompt, "f", "")) == text


@pytest.mark.parametrize("prompt", ["Write f.", "def g(x):\n    'Doc.'", "def f(x", "class A:\n    pass"])
def test_no_def_line_is_an_error(prompt: str) -> None:
    with pytest.raises(TaskError, match=r"def f\(\.\.\.\)"):
        parameters(Problem(prompt, "f", ""))


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TaskError, match="in test"):
        problem_of(Example("a", {"prompt": "def f():", "entry_point": "f"}))
    with pytest.raises(TaskError, match="helper's name"):
        problem_of(Example("a", {"prompt": "def aux():", "entry_point": "aux", "test": "t"}))
    with pytest.raises(TaskError, match="text in prompt, got half a character"):
        problem_of(Example("a", {"prompt": "def f(): '\ud83d'", "entry_point": "f", "test": "t"}))


ROW = {"prompt": "def f(x):\n    'Doubles.'\n", "entry_point": "f", "test": check("assert candidate(2) == 4")}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"canonical_solution": "    return x * 2\n"}, ""),
        ({"canonical_solution": "def f(x):\n    return x * 2\n"}, ""),
        ({}, ""),
        ({"canonical_solution": "    return x * 3\n"}, "expected 4, got 6"),
        ({"test": check("assert near(candidate(2))")}, "'near' is not defined"),
        ({"test": check("assert candidate(near) == 1")}, "'near' is not defined"),
        ({"test": check("assert candidate(lambda: 1) == 1")}, "not plain data"),
    ],
)
def test_a_row_whose_tests_no_answer_can_pass_is_refused(more: dict[str, str], words: str) -> None:
    example = Example("HumanEval/9", {**ROW, **more})
    with Sandbox(workers=1, allow_unconfined=True) as sandbox:
        if not words:
            check_problems([example], sandbox)
            return
        with pytest.raises(TaskError, match="HumanEval/9") as caught:
            check_problems([example], sandbox)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not HUMAN_EVAL.is_file(), reason="HumanEval is not here; name its folder in MADRIGAL_DATA")
def test_all_of_human_eval_is_taken_apart_and_its_solutions_pass(judge: Any) -> None:
    with gzip.open(HUMAN_EVAL, "rt") as lines:
        items = [json.loads(line) for line in lines]
    problems = [problem_of(Example(item["task_id"], item)) for item in items]
    counts = [len(unit_tests(problem.test)) for problem in problems]
    assert (len(problems), min(counts), sum(counts)) == (164, 1, 1129)
    assert all(parameters(problem) for problem in problems)
    for item, problem in zip(items, problems, strict=True):
        source = problem.prompt + item["canonical_solution"]
        verdicts = judge.run(Program(source, problem.entry_point, unit_tests(problem.test)))
        assert {verdict.outcome for verdict in verdicts} == {"passed"}, item["task_id"]
