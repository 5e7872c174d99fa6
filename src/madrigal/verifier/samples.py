"""Labelled answers from a model: as many right as wrong ones to every question.

Knows: how often and how questions are asked, what is kept. Does not know: models (`say` is given), files.

Where plain answers to a question lack right ones, the model is helped; where they lack wrong ones, it is misled. What
comes is labelled by its result, never by the intention. With equal numbers for each question a verifier cannot pass by
knowing which questions are easy.

References:
    Park et al., 2025, "MAPoRL", section 4.1, arXiv:2502.18439, and its public code.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from madrigal.rollouts.seeds import derive
from madrigal.tasks.discussion.answers import result_of
from madrigal.tasks.discussion.verifier import Question
from madrigal.tasks.discussion.verifier.exact import exact
from madrigal.types import ConfigError, Messages
from madrigal.verifier.aids import Aid, helped, misled, plain, restyled, rewriting
from madrigal.verifier.rows import Row, Way


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


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer wanted. A prompt that ends with the assistant's words is gone on with."""

    prompt: Messages
    seed: int


Say = Callable[
    [Sequence[Ask], float], Sequence[str]
]  # prompts and a temperature; the whole answers, beginnings included
Pool = dict[bool, list[Row]]


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
        pools[row.id][row.right].append(Row(row.id, row.question, answer, row.right, row.way, row.choices))


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
