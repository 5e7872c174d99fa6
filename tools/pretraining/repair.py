"""Answers to what was said before, for pre-training on coding: second rounds after feedback, and replies to teammates.

The feedback is worded by the coding task itself, so that models later read what they learned.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence

from madrigal.tasks.coding.feedback import Exchange, next_messages
from madrigal.tasks.coding.problem import problem_of
from madrigal.tasks.coding.prompts import first_prompt
from madrigal.tasks.coding.reward import score_pair
from madrigal.tasks.coding.sandbox.records import CallTest, Program, Verdict
from madrigal.tasks.coding.task import CodingState, CodingTask
from madrigal.tasks.embedded import programs_styles as styles
from madrigal.tasks.embedded.programs import compile_function
from madrigal.types import Completion, Example, Messages, Turn

_FAILURES = (TypeError, ValueError, NameError, AttributeError, IndexError)


class TrustedJudge:
    """Runs call tests in this very process; only for sources that this package wrote itself."""

    def run(self, program: Program, /) -> Sequence[Verdict]:
        """One verdict per test, worded as the sandbox words them."""
        try:
            function = compile_function(f"{program.prelude}\n\n{program.source}", program.entry_point)
        except _FAILURES as error:
            return [Verdict("error", f"{type(error).__name__}: {error}")] * len(program.tests)
        verdicts = []
        for test in program.tests:
            assert isinstance(test, CallTest)
            expected = ast.literal_eval(test.expected)
            try:
                value = function(*ast.literal_eval(test.arguments))
            except _FAILURES as error:
                verdicts.append(Verdict("error", f"{type(error).__name__}: {error}"))
                continue
            right = value == expected
            words = "" if right else f"AssertionError: expected {expected!r}, got {value!r}"
            verdicts.append(Verdict("passed" if right else "failed", words))
        return verdicts


def second_round(example: Example, rng: random.Random, agent: str) -> tuple[Messages, str]:
    """What one agent reads in round two, its first answer and the feedback included, and a better answer."""
    helper_style, main_style = styles.draw_helper(rng), styles.draw_main(rng)
    good = {
        "helper": styles.helper_source(example, helper_style, rng),
        "main": styles.main_source(example, main_style, rng),
    }
    said = {name: styles.slip(text, rng) if rng.random() < 0.25 else text for name, text in good.items()}
    score = score_pair(problem_of(example), said["helper"], said["main"], TrustedJudge())
    first = first_prompt(problem_of(example), agent)
    messages = next_messages("level_feedback", first, (Exchange(said[agent], score),), agent)
    if score.solved or said[agent] != good[agent]:
        return messages, good[agent]
    if agent == "helper":
        keeps = rng.random() < 0.5
        return messages, good[agent] if keeps else styles.helper_source(example, styles.draw_helper(rng), rng)
    return messages, styles.main_source(example, _better_main(helper_style, example, rng), rng)


def reply(example: Example, rng: random.Random, agent: str) -> tuple[Messages, str]:
    """An answer to what was said before it in the same round, as in sequential teams and discussions."""
    helper_style, main_style = styles.draw_helper(rng), styles.draw_main(rng)
    helper = styles.helper_source(example, helper_style, rng)
    heard = [Turn("helper", (), Completion(helper))]
    if agent == "helper" or rng.random() < 0.4:
        heard.append(Turn("main", (), Completion(styles.main_source(example, main_style, rng))))
    task = CodingTask(train=(), test=(), judge=TrustedJudge())
    messages = task.observe(CodingState(example), agent, heard)
    if agent == "main":
        return messages, styles.main_source(example, _better_main(helper_style, example, rng), rng)
    fitting = [style for style in styles.HELPER_STYLES if styles.fits(style, main_style, example.data["kind"])]
    changes = fitting and rng.random() < 0.5
    return messages, styles.helper_source(example, rng.choice(fitting), rng) if changes else helper


def _better_main(helper: styles.HelperStyle, example: Example, rng: random.Random) -> styles.MainStyle:
    """A main style that fits the helper's four times in seven, else any."""
    if rng.random() < 3 / 7:
        return styles.draw_main(rng)
    return rng.choice([style for style in styles.MAIN_STYLES if styles.fits(helper, style, example.data["kind"])])
