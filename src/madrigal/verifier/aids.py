"""How a model is helped to a right answer or brought to a wrong one, and how answers are put in one style.

Knows: prompts, worked reference answers. Does not know: models, how many answers are wanted.

Two ways. An instructed model is told to ("instruction"). A small one that cannot be told is given the beginning of an
answer to go on from ("beginning"): some steps of the reference answer, or steps of which one has a wrong result.
"""

from __future__ import annotations

import random
import re
from typing import Literal

from madrigal.tasks.discussion.answers import result_of
from madrigal.tasks.discussion.prompts import ending, question_prompt
from madrigal.tasks.discussion.verifier import Question
from madrigal.types import Message, Messages

Aid = Literal["instruction", "beginning"]
_CALCULATION = re.compile(r"<<[^>]*>>")  # GSM8K's notes for a calculator
_STEP = re.compile(r"(?<=[.!?])\s+|\n+")
_CLOSING = re.compile(r"(?:(?:so|thus|therefore|hence)?,?\s*the answer is|####|\\boxed\{)", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
HINT = (
    "A right solution, for your eyes only: {reference}\n\nWrite a solution of your own, in your own words and step by "
    "step; do not mention this one."
)
ERR = (
    "Write a solution that looks right, but makes one mistake in its reasoning and comes to a wrong result. Do not say "
    "that it is wrong."
)
REWRITE = (
    "Write the solution below once more in the style of the example. Change no number, step or result, and correct "
    "nothing.\n\nExample:\n{example}\n\nSolution:\n{answer}"
)


def plain(question: Question) -> Messages:
    """The question as agents are asked it."""
    return (Message("user", question_prompt(question.text, question.choices)),)


def helped(question: Question, aid: Aid, attempt: int) -> Messages:
    """The question with help towards a right answer; with every attempt one more step is given, at last all of them."""
    if aid == "instruction":
        return _told(question, HINT.format(reference=question.reference.strip()))
    given = steps(question.reference)
    return _begun(question, given[: attempt % len(given) + 1])


def misled(question: Question, aid: Aid, rng: random.Random) -> Messages:
    """The question with a push towards a wrong answer."""
    if aid == "instruction":
        return _told(question, ERR)
    given = steps(question.reference)
    place = rng.randrange(len(given))
    return _begun(question, [*given[:place], slipped(given[place], rng)])


def steps(reference: str) -> list[str]:
    """The sentences of a worked answer, without its closing result; the answer itself where there is nothing else.

    >>> steps("Tom has 12+5=<<12+5=17>>17.\\n17*2=34. So 34.\\n#### 34")
    ['Tom has 12+5=17.', '17*2=34.', 'So 34.']
    """
    worked = _CALCULATION.sub("", reference).partition("####")[0]
    return [step for step in _STEP.split(worked.strip()) if step] or [reference.strip()]


def slipped(step: str, rng: random.Random) -> str:
    """A step whose last number is another one, not below 0; a step without numbers stays.

    >>> slipped("12+5=17.", random.Random(0)) in {f"12+5={n}." for n in range(12, 23) if n != 17}
    True
    """
    found = _LAST_NUMBER.search(step)
    if found is None:
        return step
    value = int(found[0])
    others = [n for n in range(max(0, value - 5), value + 6) if n != value]
    return f"{step[: found.start()]}{rng.choice(others)}{step[found.end() :]}"


def restyled(text: str, question: Question) -> str:
    """The answer on one line that closes in one way, so that no form gives away how it was come by.

    >>> restyled("12+5=17.\\n#### 17", Question("?"))
    '12+5=17. The answer is 17.'
    """
    result = result_of(text, question.choices)
    worked = " ".join(_CLOSING.split(text, maxsplit=1)[0].split())
    return f"{worked} The answer is {result}.".strip()


def rewriting(answer: str, example: str) -> Messages:
    """The request to put an answer in the style of another."""
    return (Message("user", REWRITE.format(answer=answer, example=example)),)


def _told(question: Question, what: str) -> Messages:
    """The question with an instruction before the words that say how to end."""
    asked = question_prompt(question.text, question.choices).removesuffix(ending(question.choices)).strip()
    return (Message("user", f"{asked}\n\n{what} {ending(question.choices)}"),)


def _begun(question: Question, given: list[str]) -> Messages:
    """The question and the beginning of an answer, which is gone on with."""
    return (*plain(question), Message("assistant", " ".join(given)))
