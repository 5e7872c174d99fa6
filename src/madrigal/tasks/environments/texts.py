"""Arrays of numbers as text for an agent, and an agent's text as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from madrigal.types import ConfigError

MASK = "action_mask"
LARGEST = 1000  # numbers of an observation that are still told one by one
LAYERS = 8  # of an image-like observation, which are shown one by one
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE]-?\d+)?")


def described(observation: Any) -> str:
    """An observation as text: arrays row by row, the parts of a mapping by name; the mask of actions is left out.

    >>> import numpy as np
    >>> print(described({"board": np.eye(2), "turn": 3, "action_mask": np.ones(4)}))
    board:
    [[1 0]
     [0 1]]
    turn: 3

    Raises:
        ConfigError: if it has more numbers than anybody would read.
    """
    if isinstance(observation, Mapping):
        parts = {str(name): described(part) for name, part in observation.items() if name != MASK}
        return "\n".join(f"{name}:{' ' if _short(text) else chr(10)}{text}" for name, text in parts.items())
    if isinstance(observation, str):
        return observation
    if isinstance(observation, tuple | list) and not all(isinstance(part, int | float) for part in observation):
        return "\n".join(described(part) for part in observation)
    return _array(observation)


def _short(text: str) -> bool:
    return "\n" not in text


def _array(values: Any) -> str:
    import numpy as np

    array = np.asarray(values)
    if array.size > LARGEST:
        raise ConfigError(
            f"task.observe: an observation of {'x'.join(map(str, array.shape))} numbers is too long for a prompt (at "
            f"most {LARGEST}); name a function that tells it: --task.observe file.py:function"
        )
    if array.dtype == bool:
        array = array.astype(int)
    if array.dtype.kind not in "iuf":
        return str(values)
    if array.dtype.kind == "f" and np.all(array == np.rint(array)) and np.all(np.abs(array) < 2**53):
        array = array.astype(np.int64)
    if array.ndim == 3 and 1 < array.shape[2] <= LAYERS:
        return "\n".join(f"layer {n}:\n{_array(array[:, :, n])}" for n in range(array.shape[2]))
    return np.array2string(
        array, separator=" ", precision=3, suppress_small=True, max_line_width=200, threshold=LARGEST + 1
    )


def numbers_in(text: str, count: int) -> list[float] | None:
    """The numbers of an action: all that stand in the last brackets with as many, else the last of the text.

    >>> numbers_in("I go [0 1], or rather [2, 3].", 2), numbers_in("up 0.5 and 1", 2), numbers_in("up", 2)
    ([2.0, 3.0], [0.5, 1.0], None)
    """
    groups = [_NUMBER.findall(inside) for inside in _BRACKETS.findall(text)]
    fitting = [group for group in groups if len(group) == count] or [_NUMBER.findall(text)[-count:]]
    return [float(number) for number in fitting[-1]] if len(fitting[-1]) == count else None


def in_words(moves: Sequence[str]) -> str:
    """The line that lists moves, as scripted players read it."""
    return f"Moves: {', '.join(moves)}."
