"""A bill that nobody can know by heart: a reader looks up a price, a counter works out what is to be paid.

An example: {"good": "pear", "price": 23, "number": 7, "kind": "pear"}. The price stands in one of the notes, which only
the tool `search` sees; goods of the tests are in no question of training, so that a price that was learned is of no
use. The counter hears what the reader says, and has `calculator`. Both tools are settings of a run (`tools.names`):
without them the same team plays the same task.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import joint
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.embedded.grammar import draw_kind, example_set
from madrigal.tasks.tools.kit import search
from madrigal.tasks.tools.tool import Tool
from madrigal.types import AgentId, Example, Message, Messages, Split, Step, Turn

READER, COUNTER = "reader", "counter"
AGENTS = (READER, COUNTER)
GOODS = (
    *("apple", "pear", "plum", "melon", "lemon", "fig", "nut", "bean", "leek", "onion", "carrot", "egg"),
    *("loaf", "cake", "pie", "roll", "cup", "plate", "bowl", "pan", "knife", "fork", "spoon", "jar"),
    *("hat", "coat", "shoe", "sock", "belt", "scarf", "shirt", "glove", "book", "pen", "map", "lamp"),
    *("chair", "table", "rug", "clock", "drum", "flute", "kite", "ball", "rope", "nail", "brush", "key"),
)
NUM_EXAMPLES = {"train": 240, "validation": 48, "test": 96}
SPLIT_REWARD = 0.5  # of the price, and of the sum


@cache
def prices() -> Mapping[str, int]:
    """The price of each good."""
    rng = random.Random("ledger/prices")
    return dict(zip(GOODS, rng.sample(range(11, 99), len(GOODS)), strict=True))


@dataclass(frozen=True, slots=True)
class Ledger:
    """A price that is looked up, and a sum that is worked out."""


@dataclass(frozen=True, slots=True)
class Bill:
    """The state.

    Attributes:
        example: the good, its price, and how many of it.
        price: what the reader said; None before.
    """

    example: Example
    price: str | None = None


@dataclass(frozen=True)
class LedgerTask:
    """The task; half of the joint reward is for the price, half for the sum, both in the last round."""

    config: Ledger
    name: str = "ledger"
    agents: tuple[AgentId, ...] = AGENTS
    horizon: int = 2
    best_return: float = 1.0

    @property
    def tools(self) -> tuple[Tool, ...]:
        return (search([f"A {good} costs {price}." for good, price in prices().items()]),)

    def examples(self, split: Split) -> Sequence[Example]:
        return example_set("ledger", split, NUM_EXAMPLES[split], _drawn)

    def reset(self, example: Example) -> Bill:
        return Bill(example)

    def acting(self, state: Bill) -> tuple[AgentId, ...]:
        return (READER,) if state.price is None else (COUNTER,)

    def observe(self, state: Bill, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        good, number = state.example.data["good"], state.example.data["number"]
        if agent == READER:
            text = f"What does a {good} cost? Answer with the number."
        else:
            text = (
                f"Somebody buys {number} times a {good}. The {READER} says that one costs: {state.price}\n"
                "What is to be paid? Answer with the number."
            )
        return (Message("user", text),)

    def step(self, state: Bill, actions: Mapping[AgentId, str]) -> Step[Bill]:
        if state.price is None:
            return Step(replace(state, price=actions[READER].strip()), joint(self.agents, 0.0))
        data = state.example.data
        price, paid = data["price"], data["price"] * data["number"]
        right = {READER: _number(state.price) == price, COUNTER: _number(actions[COUNTER]) == paid}
        metrics = {f"right/{agent}": 100.0 * done for agent, done in right.items()}
        reward = SPLIT_REWARD * sum(right.values())
        details = {"price": price, "paid": paid}
        return Step(state, joint(self.agents, reward), "solved", {"return_percent": 100 * reward, **metrics}, details)

    def unjudged(self, state: Bill, actions: Mapping[AgentId, str]) -> Step[Bill]:
        """The answer of the second round ends it."""
        if state.price is None:
            return self.step(state, actions)
        return Step(state, joint(self.agents, 0.0), "horizon")

    def demonstrations(self) -> Demonstrations:
        """Guesses: numbers that such questions have as answers."""
        made = {}
        for example in self.examples("train"):
            rng = random.Random(derive("ledger", example.id))
            price = rng.randint(11, 98)
            made[example.id] = {READER: [str(price), "-"], COUNTER: ["-", str(price * rng.randint(2, 9))]}
        return made

    def demonstrations_with_tools(self) -> Demonstrations:
        """Novices: they look up some good, work out something, and repeat what the tool says."""
        made = {}
        for example in self.examples("train"):
            rng, data = random.Random(derive("ledger", "tools", example.id)), example.data
            good = data["good"] if rng.random() < 0.5 else rng.choice(GOODS)
            price, sign = prices()[good], rng.choice("+-*")
            paid = {"+": data["number"] + price, "-": price - data["number"], "*": data["number"] * price}[sign]
            first, second = (data["number"], price) if sign != "-" else (price, data["number"])
            made[example.id] = {
                READER: [f"search: {good}", str(price), "-", "-"],
                COUNTER: ["-", "-", f"calculator: {first} {sign} {second}", str(paid)],
            }
        return made


def _number(text: str) -> int | None:
    """The number that a text is, a point or a unit beside it; None for anything else.

    >>> _number("23."), _number("It costs 23"), _number("2 or 3")
    (23, 23, None)
    """
    found = re.findall(r"-?\d+", text)
    return int(found[0]) if len(found) == 1 else None


def _drawn(rng: random.Random, split: Split) -> dict[str, Any]:
    good = draw_kind(rng, split, lambda rng: rng.choice(GOODS))
    return {"good": good, "price": prices()[good], "number": rng.randint(2, 9), "kind": good}
