"""A task whose answers are known, and scripted teams that play it: ann alone sees the word, bob says it, cat is there.

Read as a module by the tests, and as an own task, `relay.py:task`, by the runs that they make.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from madrigal.rollouts.task import SingleRound
from madrigal.types import Completion, Example

WORDS = ("sun", "moon", "star", "comet", "earth", "mars", "venus", "titan", "ceres", "vesta", "io", "dione")
AGENTS = ("ann", "bob", "cat")


def prompt(example: Example, agent: str) -> str:
    return f"word: {example.data['word']}" if agent == "ann" else "What was the word?"


def reward(example: Example, said: Mapping[str, str]) -> float:
    """What bob says must begin with the word; what follows it is his own affair."""
    return float(said["bob"].split()[:1] == [example.data["word"]])


def relay(agents: tuple[str, ...] = AGENTS, count: int = len(WORDS)) -> SingleRound:
    examples = [Example(word, {"word": word}) for word in WORDS[:count]]
    return SingleRound("relay", agents, [Example("sky", {"word": "sky"})], examples, prompt, reward)


def answer(agent: str, shown: str, seed: int, *, mirrored: bool = False) -> Completion:
    """Ann says the word and a number, bob all that he heard of her, cat a number of her own.

    Answers have 1, 2 and 1 tokens. A mirrored team writes the words that it hands on backwards.
    """
    heard = re.search(r"word: (\w+)" if agent == "ann" else r"ann said: (\w+)(.*)", shown)
    if agent == "cat" or not heard:
        return Completion(f"hm {seed}", token_ids=(0,))
    word = heard[1][::-1] if mirrored else heard[1]
    return Completion(f"{word} {seed}", token_ids=(0,)) if agent == "ann" else Completion(word + heard[2], (), (0, 0))


task = relay()
one_example = relay(count=1)
