"""A bill that nobody can know by heart: a reader looks up a price, a counter works out what is to be paid.

An example: {"seller": "Ida", "good": "pear", "price": 24, "number": 7, "kind": "Ida|pear"}. The price stands in one of
the notes, which only the tool `search` sees; sellers and goods of the tests are those of training, but not together, so
that a price that was learned is of no use. The counter hears what the reader says, and has `calculator`. Both tools are
settings of a run (`tools.names`): without them the same team plays the same task.
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
SELLERS = ("Ida", "Max", "Ann", "Ben", "Eva", "Tom", "Lea", "Sam", "Mia", "Joe", "Amy", "Leo")
GOODS = ("pear", "plum", "egg", "cake", "cup", "hat", "book", "lamp")
PRICES = (12, 15, 18, 21, 24, 25, 32, 35, 36, 42, 45, 48)
NUM_EXAMPLES = {"train": 240, "validation": 48, "test": 96}
SPLIT_REWARD = 0.5  # of the price, and of the sum
KNOWING = 0.5  # share of novices that name the seller, and the good, that they were asked for


@cache
def prices() -> Mapping[tuple[str, str], int]:
    """The price of each good of each seller."""
    rng = random.Random("ledger/prices")
    return {(seller, good): rng.choice(PRICES) for seller in SELLERS for good in GOODS}


@dataclass(frozen=True, slots=True)
class Ledger:
    """A price that is looked up, and a sum that is worked out."""


@dataclass(frozen=True, slots=True)
class Bill:
    """The state.

    Attributes:
        example: seller and good, the price, and how many are bought.
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
        return (search([f"{seller} takes {price} for a {good}." for (seller, good), price in prices().items()]),)

    def examples(self, split: Split) -> Sequence[Example]:
        return example_set("ledger", split, NUM_EXAMPLES[split], _drawn)

    def reset(self, example: Example) -> Bill:
        if missing := [name for name in ("seller", "good", "number") if name not in example.data]:
            raise KeyError(", ".join(missing))
        return Bill(example)

    def acting(self, state: Bill) -> tuple[AgentId, ...]:
        return (READER,) if state.price is None else (COUNTER,)

    def observe(self, state: Bill, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        data = state.example.data
        if agent == READER:
            text = f"What does {data['seller']} take for a {data['good']}? Answer with the number."
        else:
            text = (
                f"Somebody buys {data['number']} of them. The {READER} says that one costs: {state.price}\n"
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
            price = rng.choice(PRICES)
            made[example.id] = {READER: [str(price), "-"], COUNTER: ["-", str(price * rng.randint(2, 9))]}
        return made

    def demonstrations_with_tools(self) -> Demonstrations:
        """Novices: they look up some seller's good, work out something, and repeat what the tool says."""
        made = {}
        for example in self.examples("train"):
            rng, data = random.Random(derive("ledger", "tools", example.id)), example.data
            seller = data["seller"] if rng.random() < KNOWING else rng.choice(SELLERS)
            good = data["good"] if rng.random() < KNOWING else rng.choice(GOODS)
            price, sign = prices()[seller, good], rng.choice("+-*")
            paid = {"+": data["number"] + price, "-": price - data["number"], "*": data["number"] * price}[sign]
            first, second = (data["number"], price) if sign != "-" else (price, data["number"])
            made[example.id] = {
                READER: [f"search: {seller} {good}", str(price), "-", "-"],
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
    kind = draw_kind(rng, split, lambda rng: f"{rng.choice(SELLERS)}|{rng.choice(GOODS)}")
    seller, good = kind.split("|")
    return {"seller": seller, "good": good, "price": prices()[seller, good], "number": rng.randint(2, 9), "kind": kind}
