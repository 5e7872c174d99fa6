"""The level reward of joint programming: structure, syntax, tests, cooperation; at most 4.0.

| level | earns | gate |
|---|---|---|
| 1 structure | 0.4 for aux, 0.6 for main, each with a `return` that has a value | main missing: stop |
| 2 syntax | 0.5 if the combined program parses | else stop |
| 3 tests | passed / total | |
| bonus | 0.5 main calls aux; 1.0 and is no thin wrapper; -0.5 ignores a result | one test passed, aux |

A deviation from the published code, on purpose: there the check for ignored results is a pattern that hardly ever
matches; here it is the syntax-tree check that the published code keeps for its feedback. docs/papers.md lists how the
readings of functions, calls and tests differ.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from madrigal.tasks.coding.cleaning import clean
from madrigal.tasks.coding.pieces import Function, find_function
from madrigal.tasks.coding.problem import Problem
from madrigal.tasks.coding.program import AUX, combine, preamble, syntax_fault
from madrigal.tasks.coding.sandbox import CallTest, Program, Verdict
from madrigal.tasks.coding.schemes import SCHEMES, schemes_of
from madrigal.tasks.coding.score import Findings, Judged, Score
from madrigal.tasks.coding.unit_tests import UnitTest, shown, unit_tests
from madrigal.tasks.coding.usage import is_thin_wrapper, usage_of
from madrigal.types import RewardError

AUX_FOUND = 0.4
MAIN_FOUND = 0.6
SYNTAX_OK = 0.5
TESTS = 1.0
CALLS_AUX = 0.5
ADDS_TO_AUX = 1.0
IGNORES_AUX = -0.5
STRUCTURE = AUX_FOUND + MAIN_FOUND
COOPERATION = CALLS_AUX + ADDS_TO_AUX
BEST_PAIR = STRUCTURE + SYNTAX_OK + TESTS + COOPERATION
BEST_ALONE = STRUCTURE + SYNTAX_OK + TESTS


class Judge(Protocol):
    """Runs a program's unit tests and says what came of each, in order; the sandbox is one."""

    def run(self, program: Program, /) -> Sequence[Verdict]: ...


def score_pair(problem: Problem, helper: str, main: str, judge: Judge, *, aux_required: bool = False) -> Score:
    """Scores the answers of a helper and a main agent.

    With `aux_required` level 1 needs both functions, as the paper words it; by default, as in the published
    code, a missing aux costs its 0.4 (and the bonus) and the count goes on.

    Raises:
        RewardError: if the judge does not give one verdict per test.
    """
    texts = {"helper": clean(helper, AUX), "main": clean(main, problem.entry_point)}
    aux = find_function(texts["helper"], AUX)
    function = find_function(texts["main"], problem.entry_point)
    findings = _findings(problem, function, combine(problem.prompt, problem.entry_point, main, helper), texts)
    findings = replace(findings, aux_missing=_missing(aux, AUX))
    if function and function.node:
        usage, misuse = usage_of(function.node)
        findings = replace(findings, usage=usage, misuse=misuse, thin=is_thin_wrapper(function.node))
        if aux and not findings.fault:
            findings = replace(findings, schemes=schemes_of(function.node))
    score = Score(
        findings,
        aux=0.0 if findings.aux_missing else AUX_FOUND,
        main=0.0 if findings.main_missing else MAIN_FOUND,
        best=BEST_PAIR,
    )
    if findings.main_missing or (aux_required and findings.aux_missing):
        return score
    tested = _tested(score, problem, judge)
    return _bonus(tested) if aux else tested


def score_alone(problem: Problem, main: str, judge: Judge) -> Score:
    """Scores a single agent's answer: at most 2.5, with the whole of level 1 for main and no bonus.

    Raises:
        RewardError: if the judge does not give one verdict per test.
    """
    texts = {"main": clean(main, problem.entry_point)}
    function = find_function(texts["main"], problem.entry_point)
    program = combine(problem.prompt, problem.entry_point, main)
    findings = replace(_findings(problem, function, program, texts), solo=True)
    score = Score(findings, main=0.0 if findings.main_missing else STRUCTURE, best=BEST_ALONE)
    return score if findings.main_missing else _tested(score, problem, judge)


def percentages(score: Score) -> dict[str, float]:
    """The components in percent of what each can earn, as tables show them; gated, like the return.

        structure = L1 / 1.0    syntax = L2 / 0.5    tests = passed / total    cooperation = bonus / 1.5
        return_percent = reward / 4.0

    A single agent has no cooperation, and its return is in percent of 2.5.
    """
    values = {
        "structure": 100 * (score.aux + score.main) / STRUCTURE,
        "syntax": 100 * score.syntax / SYNTAX_OK,
        "tests": 100 * score.tests / TESTS,
        "cooperation": 100 * score.cooperation / COOPERATION,
        "return_percent": 100 * score.reward / score.best,
    }
    if score.findings.solo:
        del values["cooperation"]
    return values


def metrics(score: Score) -> dict[str, float]:
    """Every number worth a curve: the reward and its parts, components in percent, rates as 0 or 1."""
    findings = score.findings
    outcomes = [test.outcome for test in findings.tests]
    values = {
        "reward": score.reward,
        "reward_main": score.main,
        "reward_syntax": score.syntax,
        "reward_tests": score.tests,
        **percentages(score),
        "structure_extraction": float(not findings.main_missing),
        "syntax_correct": float(score.syntax > 0),
        "full_test_pass": float(bool(outcomes) and findings.passed == len(outcomes)),
        "tests_timeout": float(outcomes.count("timeout")),
    }
    if not findings.solo:
        values |= {
            "reward_aux": score.aux,
            "reward_cooperation": score.cooperation,
            "cooperation_rate": float(score.cooperation > 0),
            "aux_called": float(findings.usage != "not called"),
            "aux_ignored": float(findings.usage == "misused"),
            "thin_wrapper": float(findings.thin),
            **{f"scheme/{name}": float(name in findings.schemes) for name in SCHEMES},
            "scheme/none": float(not findings.schemes),
        }
    return values


def _findings(problem: Problem, main: Function | None, program: str, texts: Mapping[str, str]) -> Findings:
    """What is found about main and the program; the tests come later, if at all."""
    return Findings(
        main_missing=_missing(main, problem.entry_point),
        fault=syntax_fault(program, texts),
        program=program,
    )


def _missing(function: Function | None, name: str) -> str:
    if function is None:
        return f"no def {name}"
    return "" if function.returns else f"{name} returns nothing"


def _tested(score: Score, problem: Problem, judge: Judge) -> Score:
    """Adds the levels of syntax and tests."""
    if score.findings.fault:
        return score
    tests = unit_tests(problem.test)
    prelude = preamble(problem.prompt, problem.entry_point)
    verdicts = judge.run(Program(score.findings.program, problem.entry_point, tests, prelude))
    if len(verdicts) != len(tests):
        raise RewardError(
            f"expected one verdict per test, {len(tests)}, got {len(verdicts)}; "
            "a test that cannot run is an error, never left out"
        )
    pairs = zip(tests, verdicts, strict=True)
    judged = tuple(Judged(shown(test), verdict.outcome, _message(test, verdict)) for test, verdict in pairs)
    findings = replace(score.findings, tests=judged)
    return replace(score, findings=findings, syntax=SYNTAX_OK, tests=TESTS * findings.passed / len(tests))


def _message(test: UnitTest, verdict: Verdict) -> str:
    """The sandbox's message; of a wrong answer only what was got, for the test already says what was expected."""
    _, wrong, got = verdict.message.partition(", got ")
    is_call = isinstance(test, CallTest) and verdict.outcome == "failed"
    return f"got {got}" if is_call and wrong else verdict.message


def _bonus(score: Score) -> Score:
    """Adds the bonus where main calls an aux that is there, and the program passes at least one test."""
    findings = score.findings
    if not findings.passed or findings.usage == "not called":
        return score
    adds = 0.0 if findings.thin else ADDS_TO_AUX
    ignores = IGNORES_AUX if findings.usage == "misused" else 0.0
    return replace(score, cooperation=CALLS_AUX + adds + ignores)
