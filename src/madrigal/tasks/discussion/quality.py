"""Answers that are none: too short, going round in circles, or without a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Flaw = Literal["", "short", "repetitive", "no result"]
LONGEST, REPEATS = 20, 3  # a sequence of at most 20 words, said more than 3 times in a row; the code counts tokens


def flaw_of(text: str, result: str | None, least_words: int) -> Flaw:
    """What is wrong with an answer's form, "" for nothing.

    Args:
        result: what the answer comes to, None where it comes to nothing.
        least_words: an answer of fewer words is too short.
    """
    words = text.split()
    if len(words) < least_words:
        return "short"
    if goes_in_circles(words):
        return "repetitive"
    return "no result" if result is None else ""


def goes_in_circles(words: Sequence[str]) -> bool:
    """Whether up to 20 words are said more than three times in a row; numbers alone may be.

    >>> goes_in_circles("so it is so it is so it is so it is".split()), goes_in_circles("7 7 7 7 7 7".split())
    (True, False)

    References:
        `check_repeated_sequences` of the public code of arXiv:2502.18439.
    """
    for length in range(1, min(LONGEST, len(words) // (REPEATS + 1)) + 1):
        same = 0  # consecutive words that equal the one `length` before them
        for place in range(length, len(words)):
            same = same + 1 if words[place] == words[place - length] else 0
            if same == REPEATS * length and not all(w.isdigit() for w in words[place - length + 1 : place + 1]):
                return True
    return False
