"""What an answer says in a space of actions; spaces are those of gymnasium, known by the names of their classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from madrigal.tasks.environments.texts import LARGEST, in_words, numbers_in
from madrigal.tasks.games.moves import named_move
from madrigal.tasks.games.rules import ASK
from madrigal.types import ConfigError

_NEGATIVE = re.compile(r"(?<!\w)-\d+")  # else -1 would be read as 1
NAMED = ("Discrete", "MultiDiscrete", "MultiBinary", "Box", "Text")


def check_space(space: Any, environment: str) -> None:
    """Refuses actions that no answer can name.

    Raises:
        ConfigError: naming the kind of space.
    """
    kind = type(space).__name__
    if kind not in NAMED:
        raise ConfigError(
            f"task {environment}: expected actions that a text can name ({', '.join(NAMED)}), got {kind}; wrap the "
            "environment"
        )
    if kind not in ("Discrete", "Text") and size_of(space) > LARGEST:
        raise ConfigError(f"task {environment}: an action of {size_of(space)} numbers is too long for an answer")


def asked(space: Any, legal: Sequence[int] | None) -> str:
    """How an action is asked for."""
    if legal is not None:
        return f"{in_words([str(action) for action in legal])}\n\n{ASK}"
    if type(space).__name__ == "Text":
        return f"Answer with a text of {space.min_length} to {space.max_length} characters."
    count = size_of(space)
    return f"Answer with {count} numbers in brackets, as in [{' '.join('0' * count)}]; {space}."


def read_action(space: Any, text: str, legal: Sequence[int] | None) -> Any | None:
    """The action that a text names; None for none, or one that is not legal."""
    if legal is not None:
        first = int(space.start)
        every = {str(n): str(n) for n in range(first, first + int(space.n))}
        named = named_move(text if first < 0 else _NEGATIVE.sub(" ", text), every)
        return int(named) if named is not None and int(named) in legal else None
    if type(space).__name__ == "Text":
        return text.strip() if space.contains(text.strip()) else None
    import numpy as np

    numbers = numbers_in(text, size_of(space))
    if numbers is None:
        return None
    if space.dtype.kind in "iu" and any(number != int(number) for number in numbers):
        return None
    action = np.asarray(numbers).astype(space.dtype).reshape(space.shape)
    return action if space.contains(action) else None


def drawn_action(space: Any, legal: Sequence[int] | None, seed: int) -> Any:
    """A random legal action."""
    if legal is None:
        space.seed(seed % 2**31)
        return space.sample()
    return legal[seed % len(legal)]


def samples(space: Any, seed: int) -> list[str]:
    """A few answers that name an action which is no single number."""
    space.seed(seed % 2**31)
    drawn = [space.sample() for _ in range(4)]
    return [one if isinstance(one, str) else f"[{' '.join(map(str, one.ravel().tolist()))}]" for one in drawn]


def size_of(space: Any) -> int:
    """How many numbers an action has."""
    size = 1
    for length in space.shape:
        size *= length
    return size
