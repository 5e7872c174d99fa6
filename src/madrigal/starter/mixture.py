"""The mixture of rows that starter models are pre-trained on: fresh problems of the train kinds, answered anew.

Knows: how often each domain occurs and which prompt goes with which reference answer.
Does not know: tokens, models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from madrigal.starter.corpora import arithmetic, papers, posts, programs, programs_styles
from madrigal.starter.repair import reply_to_helper, second_round
from madrigal.tasks.coding.problem import problem_of
from madrigal.tasks.coding.task import first_prompt
from madrigal.tasks.discussion.prompts import question_prompt
from madrigal.tasks.writing.prompts import arxiv_prompt, tldr_prompt
from madrigal.types import Example, Message, Messages, Split

DOMAINS = ("coding", "tldr", "arxiv", "arithmetic")
# By rows; by tokens this is about 55, 18, 19 and 8 percent, for introductions are long and sums are short.
WEIGHTS = (50, 18, 12, 20)
SECOND_ROUNDS, REPLIES, ALONE = 0.2, 0.06, 0.04


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation: what is read, and the answer that is learned."""

    domain: str
    prompt: Messages
    answer: str


def draw_row(rng: random.Random, split: Split = "train") -> Row:
    """One row of the mixture."""
    domain = rng.choices(DOMAINS, WEIGHTS)[0]
    return {"coding": _coding, "tldr": _tldr, "arxiv": _arxiv, "arithmetic": _arithmetic}[domain](rng, split)


def _coding(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", programs.problem(rng, split))
    agent, chance = rng.choice(("helper", "main")), rng.random()
    if chance < SECOND_ROUNDS:
        return Row("coding", *second_round(example, rng, agent))
    if chance < SECOND_ROUNDS + REPLIES:
        return Row("coding", *reply_to_helper(example, rng))
    if chance < SECOND_ROUNDS + REPLIES + ALONE:
        answer = programs_styles.main_source(example, "own", rng)
        return Row("coding", _user(first_prompt(problem_of(example), "main", alone=True)), answer)
    helper, main = programs_styles.solution(example, rng)
    answer = helper if agent == "helper" else main
    return Row("coding", _user(first_prompt(problem_of(example), agent)), answer)


def _tldr(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", posts.problem(rng, split))
    style: posts.Style = rng.choice(("concise", "detailed"))
    return Row("tldr", _user(tldr_prompt(style, example.data["post"])), posts.summary(example, rng, style))


def _arxiv(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", papers.problem(rng, split))
    part: papers.Part = rng.choice(("background", "method"))
    prompt = arxiv_prompt(part, example.data["abstract"])
    return Row("arxiv", _user(prompt), papers.introduction(example, rng, part))


def _arithmetic(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", arithmetic.problem(rng, split))
    return Row("arithmetic", _user(question_prompt(example.data["question"])), arithmetic.answer_text(example))


def _user(text: str) -> Messages:
    return (Message("user", text),)
