"""Players that follow a script. They see what any agent sees, the prompt, and so cannot look at the other's cards."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from madrigal.types import Messages, TaskError

Player = Callable[[Messages, int], str]  # prompt, seed -> answer

_MOVES = re.compile(r"^Moves: (.+)\.$", re.MULTILINE)


def moves_shown(prompt: Messages) -> list[str]:
    """The moves that a prompt lists, as they are to be written.

    >>> from madrigal.types import Message
    >>> moves_shown((Message("user", "You hold K.\\nMoves: 1 = check, 2 = bet."),))
    ['1', '2']

    Raises:
        TaskError: if the prompt lists none; it is of no game of this library then.
    """
    lines = _MOVES.findall(prompt[-1].content)
    if not lines:
        raise TaskError("a scripted player expected a prompt with a line 'Moves: ...', found none; seat it in a game")
    return [move.partition(" = ")[0] for move in lines[-1].split(", ")]


def random_player(prompt: Messages, seed: int) -> str:
    """Any of the legal moves, each as likely as the others."""
    return random.Random(seed).choice(moves_shown(prompt))
