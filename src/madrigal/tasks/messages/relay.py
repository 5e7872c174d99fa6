"""A question whose answer lies with somebody else: a seeker asks, a holder replies, the seeker answers.

An example: {"facts": {"cup": "red", "hat": "blue"}, "asked": "cup", "private": true, "kind": "cup|red"}. The holder
knows the facts and not the question, the seeker the question and, in private examples, not the facts: each needs a
message of the other. In shared examples the seeker reads the facts itself, and talk is for nothing. So a team
communicates where taking its messages away costs more on private examples than on shared ones.

References:
    Lowe, Foerster, Boureau, Pineau, Dauphin, 2019, "On the Pitfalls of Measuring Emergent Communication",
    arXiv:1903.05168: messages that correlate with actions need not matter; take them away and look. The game is ours.
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
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, Split, Step, Turn

SEEKER, HOLDER, SOLVER = "seeker", "holder", "solver"
OBJECTS = ("cup", "hat", "box", "pen", "bag", "car", "key", "map", "bed", "toy", "jar", "fan")
COLORS = ("red", "blue", "green", "white", "black", "pink", "gold", "gray")
NUM_EXAMPLES = {"train": 240, "validation": 48, "test": 96}
ASK, REPLY, ANSWER = range(3)  # rounds
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Talk:
    """The state.

    Attributes:
        example: the facts, what is asked, and whether the seeker knows the facts.
        question, reply: the messages, cut to so many words.
        round: what comes next.
    """

    example: Example
    question: str = ""
    reply: str = ""
    round: int = ASK


@dataclass(frozen=True, slots=True)
class Relay:
    """A seeker with a question and a holder of facts.

    Attributes:
        facts: objects with colors in each example, 2 to 8.
        private: share of examples whose facts the seeker does not know.
        words: of a message that are brought over, the first so many.
        alone: one agent knows both, and answers at once.
    """

    facts: int = 4
    private: float = 0.5
    words: int = 4
    alone: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.facts <= len(COLORS):
            raise ConfigError(f"task.facts: expected 2 to {len(COLORS)}, got {self.facts}")
        if not 0 <= self.private <= 1:
            raise ConfigError(f"task.private: expected a share from 0 to 1, got {self.private}")
        if self.words < 1:
            raise ConfigError(f"task.words: expected at least 1, got {self.words}")


@dataclass(frozen=True)
class RelayTask:
    """The task of such settings; the joint reward is 1 for the right color, in the last round."""

    config: Relay
    name: str = "relay"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return (SOLVER,) if self.config.alone else (SEEKER, HOLDER)

    @property
    def horizon(self) -> int:
        return 1 if self.config.alone else 3

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split, self.config.facts, self.config.private)

    def reset(self, example: Example) -> Talk:
        facts, asked = example.data["facts"], example.data["asked"]
        if asked not in facts:
            raise ValueError(f"expected one of {', '.join(facts)} to be asked for, got {asked!r}")
        return Talk(example, round=ANSWER if self.config.alone else ASK)

    def acting(self, state: Talk) -> tuple[AgentId, ...]:
        if self.config.alone:
            return self.agents
        return (HOLDER,) if state.round == REPLY else (SEEKER,)

    def observe(self, state: Talk, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        data, limit = state.example.data, f"in up to {self.config.words} words"
        facts = [" ".join(f"The {thing} is {color}." for thing, color in data["facts"].items())]
        if agent == HOLDER:
            lines = [*facts, f"The {SEEKER} says: {state.question or NOTHING}", f"Reply {limit}."]
        else:
            known = facts if self.config.alone or not data.get("private", True) else []
            lines = [*known, f"What color is the {data['asked']}?"]
            if state.round == ASK:
                lines.append(f"Ask the {HOLDER} {limit}.")
            else:
                lines += [] if self.config.alone else [f"The {HOLDER} says: {state.reply or NOTHING}"]
                lines.append("Answer with one color.")
        return (Message("user", "\n".join(lines)),)

    def step(self, state: Talk, actions: Mapping[AgentId, str]) -> Step[Talk]:
        text = actions[self.acting(state)[0]]
        if state.round == ANSWER:
            return self._answered(state, text)
        said = " ".join(text.split()[: self.config.words])
        heard = replace(state, question=said) if state.round == ASK else replace(state, reply=said)
        return Step(replace(heard, round=state.round + 1), joint(self.agents, 0.0))

    def _answered(self, state: Talk, text: str) -> Step[Talk]:
        data = state.example.data
        right = float(colors_in(text) == {data["facts"][data["asked"]]})
        group = "private" if data.get("private", True) else "shared"
        words = float(sum(len(message.split()) for message in (state.question, state.reply)))
        metrics = {"return_percent": 100 * right, f"right/{group}": 100 * right, "words": words}
        details = {
            "question": state.question,
            "reply": state.reply,
            "private": group == "private",
            "right": data["facts"][data["asked"]],
        }
        return Step(replace(state, round=ANSWER + 1), joint(self.agents, right), "solved", metrics, details)

    def unjudged(self, state: Talk, actions: Mapping[AgentId, str]) -> Step[Talk]:
        """The same; its reward reads no more than the holder's facts."""
        return self.step(state, actions)

    def demonstrations(self) -> Demonstrations:
        """Novices: they name objects and colors by chance, in sentences that fit; nobody looks at what is asked."""
        return {example.id: self._novices(example.id, example.data) for example in self.examples("train")}

    def _novices(self, name: str, data: Mapping[str, Any]) -> dict[AgentId, list[str]]:
        rng = random.Random(derive("relay", name))
        thing, told, color = (rng.choice(options) for options in (list(data["facts"]), list(data["facts"]), COLORS))
        if self.config.alone:
            return {SOLVER: [color]}
        unsaid = "-"  # in rounds of the other
        reply = f"{told} {data['facts'][told]}"
        return {SEEKER: [f"the {thing}?", unsaid, color], HOLDER: [unsaid, reply, unsaid]}


_WORD = re.compile(r"[a-z]+")


def colors_in(text: str) -> set[str]:
    """The colors that a text names.

    >>> sorted(colors_in("Red, or reddish? No: BLUE."))
    ['blue', 'red']
    """
    return set(_WORD.findall(text.lower())) & set(COLORS)


@cache
def examples(split: Split, facts: int, private: float) -> tuple[Example, ...]:
    """The examples of a split; in tests an object is asked for whose color no question of training has as its answer.

    Private ones are spread evenly.
    """
    drawn = example_set(f"relay{facts}", split, NUM_EXAMPLES[split], lambda rng, split: _drawn(rng, split, facts))
    return tuple(
        Example(example.id, {**example.data, "private": int((n + 1) * private) > int(n * private)})
        for n, example in enumerate(drawn)
    )


def _drawn(rng: random.Random, split: Split, facts: int) -> dict[str, Any]:
    kind = draw_kind(rng, split, lambda rng: f"{rng.choice(OBJECTS)}|{rng.choice(COLORS)}")
    asked, color = kind.split("|")
    things = [asked, *rng.sample([thing for thing in OBJECTS if thing != asked], facts - 1)]
    colors = [color, *rng.sample([other for other in COLORS if other != color], facts - 1)]
    pairs = list(zip(things, colors, strict=True))
    rng.shuffle(pairs)
    return {"facts": dict(pairs), "asked": asked, "kind": kind}
