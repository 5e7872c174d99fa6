"""A clue for an animal, without the words that are forbidden: a giver says it, a guesser has nothing else.

An example: {"word": "dog", "forbidden": ["bark", "kennel"], "kind": "dog|bark|kennel"}. The giver may say neither the
animal nor what is forbidden, whole or as part of a word; the guesser hears the clue and names an animal. Every animal
has four clues, one of which others have, too: what is forbidden decides which clue is left to say.

The game is that of the parlor; words and lists are ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import joint
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.embedded.grammar import kinds_of
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, Split, Step, Turn

GIVER, GUESSER = "giver", "guesser"
# Three clues that are each animal's own, and its kind, which is not.
CLUES = {
    "dog": ("kennel", "puppy", "bark", "pet"),
    "cat": ("basket", "kitten", "meow", "pet"),
    "rabbit": ("hutch", "bunny", "carrot", "pet"),
    "parrot": ("cage", "talk", "green", "pet"),
    "cow": ("barn", "calf", "moo", "farm"),
    "pig": ("sty", "mud", "oink", "farm"),
    "hen": ("coop", "egg", "cluck", "farm"),
    "horse": ("stable", "foal", "neigh", "farm"),
    "sheep": ("pasture", "lamb", "wool", "farm"),
    "goat": ("mountain", "kid", "beard", "farm"),
    "lion": ("den", "cub", "roar", "wild"),
    "wolf": ("pack", "moon", "howl", "wild"),
    "deer": ("wood", "fawn", "antler", "wild"),
    "bear": ("cave", "honey", "growl", "wild"),
    "duck": ("pond", "waddle", "quack", "bird"),
    "owl": ("tower", "night", "hoot", "bird"),
    "swan": ("lake", "cygnet", "white", "bird"),
    "eagle": ("cliff", "claw", "glide", "bird"),
}
NUM_CLUES = 4
REPEATS = 4  # of every question of training: novices say something else each time


@dataclass(frozen=True, slots=True)
class Taboo:
    """A giver of clues and a guesser.

    Attributes:
        forbidden: clues of the animal that may not be said, 1 to 3.
        words: of a clue that are brought over.
    """

    forbidden: int = 2
    words: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.forbidden < NUM_CLUES:
            raise ConfigError(f"task.forbidden: expected 1 to {NUM_CLUES - 1}, got {self.forbidden}")
        if self.words < 1:
            raise ConfigError(f"task.words: expected at least 1, got {self.words}")


@dataclass(frozen=True, slots=True)
class Riddle:
    """The state: the example, and the clue once it is given."""

    example: Example
    clue: str | None = None


@dataclass(frozen=True)
class TabooTask:
    """The task of such settings; the joint reward is 1 for the right animal by an allowed clue."""

    config: Taboo
    name: str = "taboo"
    best_return: float = 1.0
    agents: tuple[AgentId, ...] = (GIVER, GUESSER)
    horizon: int = 2

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split, self.config.forbidden)

    def reset(self, example: Example) -> Riddle:
        if example.data["word"] not in CLUES:
            raise ValueError(f"expected one of {', '.join(CLUES)} to be guessed, got {example.data['word']!r}")
        return Riddle(example)

    def acting(self, state: Riddle) -> tuple[AgentId, ...]:
        return (GIVER,) if state.clue is None else (GUESSER,)

    def observe(self, state: Riddle, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        if agent == GIVER:
            lines = [
                f"Give a clue for {state.example.data['word']} in up to {self.config.words} words.",
                f"Forbidden: {', '.join(taboo(state.example))}.",
            ]
        else:
            lines = [f"The clue is: {state.clue or 'nothing'}", "Which animal is it? Answer with one word."]
        return (Message("user", "\n".join(lines)),)

    def step(self, state: Riddle, actions: Mapping[AgentId, str]) -> Step[Riddle]:
        """A clue ends the game where it is forbidden; else the guess does."""
        if state.clue is None:
            clue = " ".join(actions[GIVER].split()[: self.config.words])
            given = replace(state, clue=clue)
            if broken := said(clue, taboo(state.example)):
                return self._ended(given, 0.0, broken)
            return Step(given, joint(self.agents, 0.0))
        right = float(animals_in(actions[GUESSER]) == {state.example.data["word"]})
        return self._ended(state, right, "")

    def _ended(self, state: Riddle, right: float, broken: str) -> Step[Riddle]:
        words = len((state.clue or "").split())
        metrics = {"return_percent": 100 * right, "broken": 100.0 * bool(broken), "words": float(words)}
        details = {"clue": state.clue, "broken": broken}
        return Step(state, joint(self.agents, right), "failed" if broken else "solved", metrics, details)

    def unjudged(self, state: Riddle, actions: Mapping[AgentId, str]) -> Step[Riddle]:
        """The same: the giver is shown the answer, so that it is no reference."""
        return self.step(state, actions)

    def demonstrations(self) -> Demonstrations:
        """A giver who says a clue by chance, forbidden or not, and a guesser who knows what it means."""
        return {example.id: self._novices(example.id, example.data) for example in self.examples("train")}

    def _novices(self, name: str, data: Mapping[str, Any]) -> dict[AgentId, list[str]]:
        rng, unsaid = random.Random(derive("taboo", name)), "-"  # in the round of the other
        clue = rng.choice(CLUES[data["word"]])
        meant = rng.choice([animal for animal, clues in CLUES.items() if clue in clues])
        return {GIVER: [clue, unsaid], GUESSER: [unsaid, meant]}


def taboo(example: Example) -> tuple[str, ...]:
    """What may not be said: the word itself first."""
    return (example.data["word"], *example.data.get("forbidden", ()))


def said(clue: str, words: Sequence[str]) -> str:
    """The first of some words that a clue contains, in any case and as part of a word; "" where it has none.

    >>> said("It has a DOGhouse", ("dog", "bark")), said("do g", ("dog",))
    ('dog', '')
    """
    return next((word for word in words if word in clue.lower()), "")


def animals_in(text: str) -> set[str]:
    """The animals that a text names.

    >>> sorted(animals_in("A dog, or a Cat? No hotdogs."))
    ['cat', 'dog']
    """
    return set(re.findall(r"[a-z]+", text.lower())) & set(CLUES)


@cache
def examples(split: Split, forbidden: int) -> tuple[Example, ...]:
    """Every animal with every set of forbidden clues whose kind belongs to the split; in training several times."""
    kinds = ["|".join((animal, *left)) for animal, clues in CLUES.items() for left in combinations(clues, forbidden)]
    own = [kind.split("|") for kind in kinds_of("taboo", split, kinds, REPEATS)]
    return tuple(
        Example(f"taboo/{split}/{n}", {"word": word, "forbidden": list(left), "kind": "|".join((word, *left))})
        for n, (word, *left) in enumerate(own)
    )
