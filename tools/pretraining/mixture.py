"""The mixture of rows that starter models are pre-trained on: fresh problems of the train kinds, answered anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from madrigal.tasks.coding.problem import problem_of
from madrigal.tasks.coding.prompts import first_prompt
from madrigal.tasks.discussion.prompts import question_prompt
from madrigal.tasks.embedded import arithmetic, papers, posts, programs, programs_styles
from madrigal.tasks.writing.single import DELIMITER, WRITER
from madrigal.tasks.writing.task import WritingTask, arxiv_task, tldr_task
from madrigal.types import Completion, Example, Message, Messages, Split, Turn
from pretraining.repair import reply, second_round

DOMAINS = ("coding", "tldr", "arxiv", "arithmetic")
# By rows; by tokens this is about 55, 18, 19 and 8 percent, for introductions are long and sums are short.
WEIGHTS = (50, 18, 12, 20)
# Of coding rows, then of writing rows.
SECOND_ROUNDS, REPLIES, ALONE = 0.2, 0.1, 0.05
HEARD, BOTH_PARTS = 0.1, 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation: what is read, and the answer that is learned."""

    domain: str
    prompt: Messages
    answer: str


def draw_row(rng: random.Random, split: Split = "train", domains: Sequence[str] = DOMAINS) -> Row:
    """One row of the mixture, or of some of its domains in their proportions."""
    domain = rng.choices(domains, [WEIGHTS[DOMAINS.index(one)] for one in domains])[0]
    return {"coding": _coding, "tldr": _tldr, "arxiv": _arxiv, "arithmetic": _arithmetic}[domain](rng, split)


def _coding(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", programs.problem(rng, split))
    agent, chance = rng.choice(("helper", "main")), rng.random()
    if chance < SECOND_ROUNDS:
        return Row("coding", *second_round(example, rng, agent))
    if chance < SECOND_ROUNDS + REPLIES:
        return Row("coding", *reply(example, rng, agent))
    if chance < SECOND_ROUNDS + REPLIES + ALONE:
        answer = programs_styles.main_source(example, "own", rng)
        return Row("coding", _user(first_prompt(problem_of(example), "main", alone=True)), answer)
    helper, main = programs_styles.solution(example, rng)
    answer = helper if agent == "helper" else main
    return Row("coding", _user(first_prompt(problem_of(example), agent)), answer)


def _tldr(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", posts.problem(rng, split))
    return _writing("tldr", tldr_task(), example, rng, partial(posts.summary, example, rng))


def _arxiv(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", papers.problem(rng, split))
    return _writing("arxiv", arxiv_task(), example, rng, partial(papers.introduction, example, rng))


def _writing(domain: str, task: WritingTask, example: Example, rng: random.Random, write: Callable[[Any], str]) -> Row:
    """One part of two, sometimes after the other part was heard; or both parts by a single writer."""
    agents, chance = task.agents, rng.random()
    if chance < BOTH_PARTS:
        first, second = (write(agent) for agent in agents)
        return Row(domain, task.observe(example, WRITER[0], ()), f"{first}\n{DELIMITER}\n{second}")
    heard: list[Turn] = []
    if chance < BOTH_PARTS + HEARD:
        heard = [Turn(agent, (), Completion(write(agent))) for agent in agents[: rng.choice((1, 2))]]
    agent = rng.choice(agents) if len(heard) != 1 else agents[1]
    return Row(domain, task.observe(example, agent, heard), write(agent))


def _arithmetic(rng: random.Random, split: Split) -> Row:
    example = Example("fresh", arithmetic.problem(rng, split))
    return Row("arithmetic", _user(question_prompt(example.data["question"])), arithmetic.answer_text(example))


def _user(text: str) -> Messages:
    return (Message("user", text),)
