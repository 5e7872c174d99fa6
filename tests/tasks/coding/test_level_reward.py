"""Every part of the level reward against numbers computed by hand; the problem is x * x + 1 on 1, 2, 3 and 4."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madrigal.tasks.coding.problem import Problem
from madrigal.tasks.coding.reward import metrics, percentages, score_alone, score_pair
from madrigal.tasks.coding.sandbox import CallTest, Limits, Program, Sandbox, Verdict, confinement
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.types import RewardError

AUX = "def aux(x):\n    return x * x"
USES = "def square_up(x):\n    y = aux(x)\n    return y + 1"
WITH_POLY = Problem(
    prompt="import math\n\ndef poly(x):\n    return math.floor(x)\n\ndef f(x):\n    'Doc.'\n",
    entry_point="f",
    test="def check(candidate):\n    y = candidate(2)\n    assert poly(y) == 2\n",
)
ALONE = "def square_up(x):\n    y = x * x\n    return y + 1"

# helper, main, then: aux, main, syntax, tests, cooperation
BY_HAND = {
    "flawless": (AUX, USES, 0.4, 0.6, 0.5, 1.0, 1.5),
    "nothing": ("", "", 0.0, 0.0, 0.0, 0.0, 0.0),
    "main missing stops": (AUX, "Sorry.", 0.4, 0.0, 0.0, 0.0, 0.0),
    "main without return stops": (AUX, "def square_up(x):\n    print(aux(x))", 0.4, 0.0, 0.0, 0.0, 0.0),
    "main is async": (AUX, "async " + USES, 0.4, 0.0, 0.0, 0.0, 0.0),
    "aux missing goes on": ("", ALONE, 0.0, 0.6, 0.5, 1.0, 0.0),
    "aux is a lambda": ("aux = lambda x: x * x", USES, 0.0, 0.6, 0.5, 1.0, 0.0),
    "aux is nested": (
        f"def outer():\n    {AUX.replace(chr(10), chr(10) + '    ')}\n    return aux",
        ALONE,
        0,
        0.6,
        0.5,
        1,
        0,
    ),
    "aux returns nothing": ("def aux(x):\n    pass", f"{USES}\n", 0.0, 0.6, 0.5, 0.0, 0.0),
    "aux returns nothing but is there": (
        *("def aux(x):\n    pass", "def square_up(x):\n    y = aux(x) or x * x\n    return y + 1"),
        *(0.0, 0.6, 0.5, 1.0, 1.5),
    ),
    "aux is not used": (AUX, ALONE, 0.4, 0.6, 0.5, 1.0, 0.0),
    "main redefines aux": ("def aux(x):\n    return 0", f"{AUX}\n\n{USES}", 0.4, 0.6, 0.5, 0.0, 0.0),
    "main brings its own aux alone": ("", f"{AUX}\n\n{USES}", 0.0, 0.6, 0.5, 0.0, 0.0),
    "main shadows aux": (AUX, "def square_up(x, aux=abs):\n    return aux(x * x) + 1", 0.4, 0.6, 0.5, 1.0, 0.0),
    "thin wrapper": (
        "def aux(x):\n    return x * x + 1",
        "def square_up(x):\n    return aux(x)",
        0.4,
        0.6,
        0.5,
        1.0,
        0.5,
    ),
    "result ignored": (AUX, "def square_up(x):\n    aux(x)\n    return x * x + 1", 0.4, 0.6, 0.5, 1.0, 1.0),
    "half of the tests": (
        AUX,
        "def square_up(x):\n    y = aux(x)\n    return y + 1 if x < 3 else 0",
        0.4,
        0.6,
        0.5,
        0.5,
        1.5,
    ),
    "one test": (AUX, "def square_up(x):\n    y = aux(x)\n    return y + 1 if x < 2 else 0", 0.4, 0.6, 0.5, 0.25, 1.5),
    "no test, no bonus": (AUX, "def square_up(x):\n    y = aux(x)\n    return y", 0.4, 0.6, 0.5, 0.0, 0.0),
    "main raises": (AUX, "def square_up(x):\n    y = aux(x)\n    return y + 'a'", 0.4, 0.6, 0.5, 0.0, 0.0),
    "syntax error in main stops": (AUX, f"{USES} +", 0.4, 0.6, 0.0, 0.0, 0.0),
    "syntax error in aux stops": ("def aux(x):\n    return x *", USES, 0.4, 0.6, 0.0, 0.0, 0.0),
    "an own function, then a broken main": (AUX, f"def half(x):\n    return x\n\n{USES} +", 0.4, 0.6, 0.0, 0.0, 0.0),
    "a broken extra is dropped": (AUX, f"{USES}\n\ndef half(x", 0.4, 0.6, 0.5, 1.0, 1.5),
    # The manner of SmolLM2-135M: prose around fences, a fence that only ends, an example of use, the other's function.
    "fences and prose": (
        f"Here is the helper:\n\n```python\n{AUX}\n```\n\nThis function takes a number.",
        f"{USES}\n```\n\nExample usage:\n\n```python\nprint(square_up(2))  # Output: 5\n```",
        *(0.4, 0.6, 0.5, 1.0, 1.5),
    ),
    "helper writes main": (ALONE, USES, 0.0, 0.6, 0.5, 0.0, 0.0),
    "both write main": (f"```python\n{ALONE}\n```", f"```python\n{ALONE}\n```", 0.0, 0.6, 0.5, 1.0, 0.0),
    "null byte in main": (AUX, "def square_up(x):\n    return '\x00'", 0.4, 0.6, 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_parts_by_hand(name: str, problem: Problem, judge: Any) -> None:
    helper, main, *parts = BY_HAND[name]
    score = score_pair(problem, helper, main, judge)
    assert [score.aux, score.main, score.syntax, score.tests, score.cooperation] == pytest.approx(parts, abs=1e-9)
    assert score.reward == pytest.approx(sum(parts), abs=1e-9)
    assert score.solved is (sum(parts) == 4.0)


def test_the_best_is_four(problem: Problem, judge: Any) -> None:
    score = score_pair(problem, AUX, USES, judge)
    assert (score.reward, score.best) == pytest.approx((4.0, 4.0), abs=1e-9)
    assert set(percentages(score).values()) == {100.0}


def test_a_required_aux_stops_the_count(problem: Problem, judge: Any) -> None:
    assert score_pair(problem, "", ALONE, judge, aux_required=True).reward == pytest.approx(0.6)
    assert score_pair(problem, AUX, "", judge, aux_required=True).reward == pytest.approx(0.4)
    assert score_pair(problem, AUX, USES, judge, aux_required=True).reward == pytest.approx(4.0)


def test_a_single_agent_earns_two_and_a_half(problem: Problem, judge: Any) -> None:
    score = score_alone(problem, f"{AUX}\n\n{USES}", judge)
    assert (score.reward, score.best, score.solved) == (2.5, 2.5, True)
    assert percentages(score) == {"structure": 100.0, "syntax": 100.0, "tests": 100.0, "return_percent": 100.0}
    half = score_alone(problem, "def square_up(x):\n    return x * x + (x < 3)", judge)
    assert half.reward == pytest.approx(1.0 + 0.5 + 0.5)
    assert percentages(half)["return_percent"] == pytest.approx(80.0)
    assert score_alone(problem, "", judge).reward == 0.0
    assert not {"cooperation", "thin_wrapper", "reward_aux"} & set(metrics(half))


def test_components_in_percent(problem: Problem, judge: Any) -> None:
    helper, main, *_ = BY_HAND["thin wrapper"]
    assert percentages(score_pair(problem, helper, main, judge)) == pytest.approx(
        {"structure": 100, "syntax": 100, "tests": 100, "cooperation": 100 / 3, "return_percent": 75.0}
    )
    assert percentages(score_pair(problem, "", ALONE, judge)) == pytest.approx(
        {"structure": 60, "syntax": 100, "tests": 100, "cooperation": 0, "return_percent": 52.5}
    )


def test_metrics_of_half_a_success(problem: Problem, judge: Any) -> None:
    helper, main, *_ = BY_HAND["half of the tests"]
    values = metrics(score_pair(problem, helper, main, judge))
    expected = {"reward": 3.5, "full_test_pass": 0.0, "structure_extraction": 1.0, "syntax_correct": 1.0}
    expected |= {
        "cooperation_rate": 1.0,
        "aux_called": 1.0,
        "aux_ignored": 0.0,
        "thin_wrapper": 0.0,
        "tests_timeout": 0.0,
    }
    assert {key: values[key] for key in expected} == expected


def test_what_was_got_is_told_once(problem: Problem, judge: Any) -> None:
    found = score_pair(problem, AUX, "def square_up(x):\n    return aux(x)", judge).findings
    assert [(test.test, test.message) for test in found.tests][:2] == [
        ("candidate(1) expected 2", "got 1"),
        ("candidate(2) expected 5", "got 4"),
    ]


def test_the_prompts_own_functions_reach_program_and_checks(judge: Any) -> None:
    assert score_pair(WITH_POLY, "", "def f(x):\n    return poly(x)", judge).tests == 1.0


def test_a_verdict_too_few_is_an_error(problem: Problem) -> None:
    class Lazy:
        def run(self, program: Program) -> tuple[Verdict, ...]:
            return (Verdict("passed"),)

    with pytest.raises(RewardError, match="one verdict per test, 4, got 1"):
        score_pair(problem, AUX, USES, Lazy())


def test_nothing_is_run_before_it_parses(problem: Problem) -> None:
    class Never:
        def run(self, program: Program) -> tuple[Verdict, ...]:
            raise AssertionError("the judge must not be asked")

    assert score_pair(problem, AUX, f"{USES} +", Never()).reward == 1.0
    assert score_pair(problem, AUX, "", Never()).reward == 0.4


class Dice:
    """Passes the first `passed` tests."""

    def __init__(self, passed: int) -> None:
        self.passed = passed

    def run(self, program: Program) -> tuple[Verdict, ...]:
        return tuple(Verdict("passed" if i < self.passed else "error") for i in range(len(program.tests)))


ANSWERS = st.sampled_from([entry[0] for entry in BY_HAND.values()] + [entry[1] for entry in BY_HAND.values()])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(helper=ANSWERS | st.text(), main=ANSWERS | st.text(), passed=st.integers(0, 4))
def test_laws_of_the_reward(problem: Problem, helper: str, main: str, passed: int) -> None:
    score = score_pair(problem, helper, main, Dice(passed))
    shares = percentages(score)
    assert 0.0 <= score.reward <= 4.0 + 1e-9
    assert all(0.0 <= share <= 100.0 + 1e-9 for share in shares.values())
    weighed = (1.0, 0.5, 1.0, 1.5)
    parts = [shares[name] for name in ("structure", "syntax", "tests", "cooperation")]
    assert shares["return_percent"] == pytest.approx(sum(w * p for w, p in zip(weighed, parts, strict=True)) / 4)
    assert score.main > 0 or score.syntax == score.tests == score.cooperation == 0
    assert score.syntax > 0 or score.tests == score.cooperation == 0
    assert score.tests > 0 or score.cooperation == 0


def test_the_real_sandbox_agrees(problem: Problem) -> None:
    if not all(confinement()[layer] for layer in ("landlock", "seccomp")):
        pytest.skip("this machine cannot confine a program")
    with Sandbox(Limits(test_seconds=0.5), workers=1) as sandbox:
        assert score_pair(problem, AUX, USES, sandbox).reward == pytest.approx(4.0)
        wrong = score_pair(problem, AUX, "def square_up(x):\n    return aux(x)", sandbox)
        assert wrong.findings.tests[1].message == "got 4"
        endless = score_pair(problem, AUX, "def square_up(x):\n    while True:\n        aux(x)\n    return 0", sandbox)
        assert score_pair(WITH_POLY, "", "def f(x):\n    return poly(x)", sandbox).tests == 1.0
        assert endless.reward == pytest.approx(1.5) and metrics(endless)["tests_timeout"] == 4.0
    assert CallTest("(1,)", "2") in unit_tests(problem.test)
