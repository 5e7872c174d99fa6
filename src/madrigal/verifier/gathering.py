"""Right and wrong answers of a model: as many of each to every question.

Where plain answers to a question lack right ones, the model is helped; where they lack wrong ones, it is misled. What
comes is labeled by its result, never by the intention. With equal numbers for each question a verifier cannot pass by
knowing which questions are easy.

An instructed model is told to be right or wrong ("instruction"). A small one that cannot be told is given the beginning
of an answer to go on from ("beginning"): some steps of the reference answer, or steps of which one has a wrong result.

References:
    Park et al., 2025, "MAPoRL", section 4.1, arXiv:2502.18439, and its public code.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Literal

from madrigal.rollouts.seeds import derive
from madrigal.tasks.discussion.answers import result_of
from madrigal.tasks.discussion.prompts import ending, question_prompt
from madrigal.tasks.discussion.verifier import Question, exact
from madrigal.types import ConfigError, Message, Messages
from madrigal.verifier.data import Ask, Row, Say, Way

Aid = Literal["instruction", "beginning"]
Pool = dict[bool, list[Row]]
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


@dataclass(frozen=True, slots=True)
class Gathering:
    """How answers are gathered; as it comes, as in the paper's code for GSM8K.

    Attributes:
        samples: plain answers to each question; the paper has 100 for GSM8K, 5 for ANLI, 6 for HotpotQA.
        each: right answers kept of each question, and as many wrong ones; where one kind is rarer, as many as it has.
        tries: helped or misled answers to a question that lacks some; not found, ours.
        low, high: each pass over the questions has a temperature between them, drawn uniformly.
        top_p: of the sampling.
        aid: "instruction" tells the model what to do, as in the paper; "beginning" has it go on from the beginning of
            an answer, for models that cannot be told, such as the starter models.
        rewrite: have the model put its answers in the style of one of its plain ones, and keep those whose result
            stays; the paper does. All are put on one line and closed in one way in any case.
        seed: every other seed derives from it.
    """

    samples: int = 100
    each: int = 10
    tries: int = 16
    low: float = 1.3
    high: float = 1.5
    top_p: float = 0.9
    aid: Aid = "instruction"
    rewrite: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.samples, self.each) < 1 or self.tries < 0:
            raise ConfigError(
                "verifier data: expected at least 1 sample and 1 answer of each kind, and 0 or more tries"
            )
        if not 0 < self.low <= self.high:
            raise ConfigError(f"verifier data: expected temperatures 0 < low <= high, got {self.low} and {self.high}")


def gather(questions: dict[str, Question], say: Say, config: Gathering) -> list[Row]:
    """Asks, helps, misleads, and keeps as many right as wrong answers to each question; question after question.

    Args:
        questions: by id, each with its reference answer.
    """
    pools: dict[str, Pool] = defaultdict(lambda: {True: [], False: []})
    for n in range(config.samples):
        _pass(questions, pools, say, config, "plain", n)
    aimed: tuple[tuple[Way, bool], ...] = (("hint", True), ("err", False))
    for way, kind in aimed:
        for n in range(config.tries):
            lacking = {name: q for name, q in questions.items() if len(pools[name][kind]) < config.each}
            if lacking:
                _pass(lacking, pools, say, config, way, n)
    if config.rewrite:
        _rewrite(questions, pools, say, config)
    return [row for name in questions for row in balanced(pools[name], config.each, derive(config.seed, name))]


def _pass(
    questions: dict[str, Question], pools: dict[str, Pool], say: Say, config: Gathering, way: Way, number: int
) -> None:
    """One answer to each question, filed by its result; of helped and misled ones only what was aimed at."""
    asks = [
        Ask(_prompt(question, name, way, number, config), derive(config.seed, way, number, name))
        for name, question in questions.items()
    ]
    for (name, question), text in zip(questions.items(), say(asks, _temperature(config, way, number)), strict=True):
        if result_of(text, question.choices) is not None:
            right = exact(question, [text])[0] == 1.0
            if way == "plain" or right == (way == "hint"):
                answer = restyled(text, question)
                pools[name][right].append(Row(name, question.text, answer, right, way, question.choices))


def _prompt(question: Question, name: str, way: Way, number: int, config: Gathering) -> Messages:
    match way:
        case "plain":
            return plain(question)
        case "hint":
            return helped(question, config.aid, number)
        case "err":
            return misled(question, config.aid, random.Random(derive(config.seed, "slip", name, number)))


def _temperature(config: Gathering, *key: object) -> float:
    return random.Random(derive(config.seed, "temperature", *key)).uniform(config.low, config.high)


def _rewrite(questions: dict[str, Question], pools: dict[str, Pool], say: Say, config: Gathering) -> None:
    """Puts every answer in the style of some plain one; where that changes the result, the answer stays as it was."""
    rows = [row for name in questions for kind in (True, False) for row in pools[name][kind]]
    examples = [row.answer for row in rows if row.way == "plain"]
    if not examples:
        return
    chosen = random.Random(derive(config.seed, "examples")).choices(examples, k=len(rows))
    asks = [
        Ask(rewriting(row.answer, example), derive(config.seed, "rewrite", n))
        for n, (row, example) in enumerate(zip(rows, chosen, strict=True))
    ]
    for name in questions:
        pools[name] = {True: [], False: []}
    for row, text in zip(rows, say(asks, _temperature(config, "rewrite")), strict=True):
        same = result_of(text, row.choices) == result_of(row.answer, row.choices)
        answer = restyled(text, row.asked) if same else row.answer
        pools[row.id][row.right].append(replace(row, answer=answer))


def balanced(pool: Pool, each: int, seed: int) -> list[Row]:
    """As many right as wrong answers, at most `each`; different words before repeated ones, drawn at random."""
    count = min(each, len(pool[True]), len(pool[False]))
    kept: list[Row] = []
    for kind in (True, False):
        rows = random.Random(derive(seed, kind)).sample(pool[kind], len(pool[kind]))
        first: dict[str, int] = {}
        for place, row in enumerate(rows):
            first.setdefault(row.answer, place)
        repeated = [row for place, row in enumerate(rows) if first[row.answer] != place]
        kept += [*(rows[place] for place in first.values()), *repeated][:count]
    return kept


def plain(question: Question) -> Messages:
    """The question as agents are asked it."""
    return (Message("user", question_prompt(question.text, question.choices)),)


def helped(question: Question, aid: Aid, attempt: int) -> Messages:
    """The question with help towards a right answer; with every attempt one more step is given, at last all of them."""
    if aid == "instruction":
        return _instructed(question, HINT.format(reference=question.reference.strip()))
    given = steps(question.reference)
    return _begun(question, given[: attempt % len(given) + 1])


def misled(question: Question, aid: Aid, rng: random.Random) -> Messages:
    """The question with a push towards a wrong answer."""
    if aid == "instruction":
        return _instructed(question, ERR)
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
    number = _LAST_NUMBER.search(step)
    if number is None:
        return step
    value = int(number[0])
    others = [n for n in range(max(0, value - 5), value + 6) if n != value]
    return f"{step[: number.start()]}{rng.choice(others)}{step[number.end() :]}"


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


def _instructed(question: Question, instruction: str) -> Messages:
    """The question with an instruction before the words that say how to end."""
    prompt = question_prompt(question.text, question.choices).removesuffix(ending(question.choices)).strip()
    return (Message("user", f"{prompt}\n\n{instruction} {ending(question.choices)}"),)


def _begun(question: Question, given: list[str]) -> Messages:
    """The question and the beginning of an answer, which is gone on with."""
    return (*plain(question), Message("assistant", " ".join(given)))
