"""The small machinery that all corpora share: templates, splits by kind, cached example sets."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from madrigal.types import Example, Split

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def held_out(kind: str) -> bool:
    """Whether problems of this kind belong to the test split: about one kind in five, for ever the same ones."""
    return zlib.crc32(kind.encode()) % 5 == 0


def is_validation(kind: str) -> bool:
    """Whether problems of this kind are those of the validation split: about one kind in ten, none of the test's.

    Where validation is asked for, they are left out of training (`tasks.splits`).
    """
    return zlib.crc32(kind.encode()) % 10 == 1


def draw_kind(rng: random.Random, split: Split, draw: Callable[[random.Random], str]) -> str:
    """Draws kinds until one belongs to the split; those of validation are training's too, as long as nobody asks."""
    while not belongs(kind := draw(rng), split):
        pass
    return kind


def belongs(kind: str, split: Split) -> bool:
    """Whether problems of this kind are those of the split; those of validation are training's, too."""
    return is_validation(kind) if split == "validation" else held_out(kind) == (split == "test")


def kinds_of(corpus: str, split: Split, kinds: Iterable[str], repeats: int) -> list[str]:
    """The kinds that belong to a split, those of training several times, in an order that means nothing."""
    own = [kind for kind in kinds if belongs(kind, split)] * (repeats if split == "train" else 1)
    random.Random(f"{corpus}/{split}").shuffle(own)
    return own


def expand(template: str, rng: random.Random, slots: Mapping[str, str]) -> str:
    """Makes a sentence: `[a|b]` becomes one of its alternatives, `{name}` the slot of that name.

    >>> expand("[Hello|Hello], {who}.", random.Random(0), {"who": "Ada"})
    'Hello, Ada.'
    """
    chosen = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), template)
    return chosen.format_map(slots)


def with_opening(opening: str, sentence: str) -> str:
    """Puts a transition before a sentence, whose first word loses its capital unless it is "I".

    >>> with_opening("However,", "The car is gone.")
    'However, the car is gone.'
    """
    first = sentence.split(maxsplit=1)[0]
    keeps = first == "I" or first.startswith("I'")
    return f"{opening} {sentence if keeps else sentence[0].lower() + sentence[1:]}"


def capitalized(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[0].upper() + sentence[1:]


def example_set(
    corpus: str, split: Split, num: int, problem: Callable[[random.Random, Split], dict[str, Any]]
) -> tuple[Example, ...]:
    """Draws a fixed set of examples; the same call gives the same set on every machine."""
    rng = random.Random(f"{corpus}/{split}")
    return tuple(Example(f"{corpus}/{split}/{index}", problem(rng, split)) for index in range(num))


def pick_some(rng: random.Random, options: Sequence[Any], num: int) -> list[Any]:
    """Chooses `num` different options and keeps their order."""
    chosen = sorted(rng.sample(range(len(options)), min(num, len(options))))
    return [options[index] for index in chosen]
