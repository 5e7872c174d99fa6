"""The programming problems and their reference answers, run for real: the sources are the package's own."""

from __future__ import annotations

import ast
import itertools
import random

import pytest

from madrigal.tasks.coding.problem import parameters, problem_of
from madrigal.tasks.coding.reward import score_pair
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.tasks.embedded import programs, programs_styles
from madrigal.types import Example
from pretraining.repair import TrustedJudge, reply, second_round

EXAMPLES = (*programs.examples("train")[:120], *programs.examples("test")[:80])


def test_every_problem_is_solved_by_its_canonical_solution() -> None:
    for example in EXAMPLES:
        given = programs.parameters(example.data["kind"])
        main = f"def {example.data['entry_point']}({given}):\n{example.data['canonical_solution']}"
        assert programs_styles.solves(example, "", main), example


def test_problems_follow_the_schema_of_the_task() -> None:
    for example in EXAMPLES:
        problem = problem_of(example)
        assert parameters(problem) == programs.parameters(example.data["kind"])
        assert 4 <= len(unit_tests(problem.test)) <= 8
        assert ">>>" in problem.prompt


def test_the_examples_of_the_docstring_are_true() -> None:
    for example in EXAMPLES:
        doc = ast.get_docstring(ast.parse(example.data["prompt"]).body[0])  # type: ignore[arg-type]
        assert doc
        lines = doc.split("\n")
        function = programs.compile_function(
            f"def {example.data['entry_point']}({programs.parameters(example.data['kind'])}):\n"
            f"{example.data['canonical_solution']}",
            example.data["entry_point"],
        )
        for call, shown in zip(lines[1::2], lines[2::2], strict=True):
            arguments = ast.literal_eval(f"({call.split('(', 1)[1][:-1]},)")
            assert repr(function(*arguments)) == shown


def test_pairs_of_styles_that_fit_pass_every_test() -> None:
    rng, pairs = random.Random(0), 0
    styles = list(itertools.product(programs_styles.HELPER_STYLES, programs_styles.MAIN_STYLES))
    for example in EXAMPLES:
        for helper_style, main_style in rng.sample(styles, 8):
            helper = programs_styles.helper_source(example, helper_style, rng)
            main = programs_styles.main_source(example, main_style, rng)
            assert len(helper.split("\n")) <= 4
            assert len(main.split("\n")) <= 6
            if programs_styles.fits(helper_style, main_style, example.data["kind"]):
                pairs += 1
                assert programs_styles.solves(example, helper, main), (helper, main)
    assert pairs > 500


def test_agents_that_cannot_see_each_other_fit_now_and_then() -> None:
    rng = random.Random(0)
    fits = [
        programs_styles.fits(programs_styles.draw_helper(rng), programs_styles.draw_main(rng), example.data["kind"])
        for example in EXAMPLES
        for _ in range(10)
    ]
    assert 0.3 < sum(fits) / len(fits) < 0.5


def test_a_slip_changes_the_source() -> None:
    rng = random.Random(0)
    source = "def aux(xs):\n    return [x for x in xs if x > 0]"
    assert all(programs_styles.slip(source, rng) != source for _ in range(50))


@pytest.mark.parametrize("agent", ["helper", "main"])
def test_second_rounds_show_the_first_answer_and_its_feedback(agent: str) -> None:
    rng = random.Random(0)
    for example in EXAMPLES[:50]:
        messages, answer = second_round(example, rng, agent)
        assert [message.role for message in messages] == ["user", "assistant", "user"]
        assert messages[-1].content.startswith("Feedback: ")
        assert answer.startswith("def aux(" if agent == "helper" else f"def {example.data['entry_point']}(")


@pytest.mark.parametrize("agent", ["helper", "main"])
def test_replies_see_the_teammates_code(agent: str) -> None:
    messages, answer = reply(EXAMPLES[0], random.Random(0), agent)
    teammate = "The helper wrote:\ndef aux(" if agent == "main" else "The main agent wrote:\ndef "
    assert teammate in messages[-1].content
    assert answer.startswith("def aux(" if agent == "helper" else f"def {EXAMPLES[0].data['entry_point']}(")


def test_the_trusted_judge_agrees_with_plain_execution() -> None:
    rng = random.Random(3)
    for example in EXAMPLES[:60]:
        helper, main = programs_styles.solution(example, rng)
        score = score_pair(problem_of(example), helper, main, TrustedJudge())
        passed = bool(score.findings.tests) and score.tests == 1.0
        assert passed == programs_styles.solves(example, helper, main)


def test_a_hand_made_problem_is_judged_test_by_test() -> None:
    example = Example(
        "x",
        {
            "prompt": 'def twice(n):\n    """Doubles."""\n',
            "entry_point": "twice",
            "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 5",
        },
    )
    score = score_pair(
        problem_of(example),
        "def aux(n):\n    return n + n",
        "def twice(n):\n    y = aux(n)\n    return y + 0",
        TrustedJudge(),
    )
    assert score.tests == 0.5
    assert score.findings.tests[1].message == "got 4"
