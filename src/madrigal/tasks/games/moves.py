r"""Which move a free text names."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BRACKETED = re.compile(r"\[([^\[\]{}]*)\]|\\boxed\{([^\[\]{}]*)\}")
_ANSWER = re.compile(r"answer is\b", re.IGNORECASE)


def bracketed(text: str) -> list[str]:
    r"""What stands in brackets, in order, without white space around it.

    >>> bracketed(r"[ 4 ] or \boxed{5} [[6]]")
    ['4', '5', '6']
    """
    return [inside for _, inside in _brackets(text)]


def named_move(text: str, names: Mapping[str, str]) -> str | None:
    """The move that a text settles on; None where there is none.

    That is the last one in brackets, or the first one in the line after the last "answer is" where that comes later;
    without either, the last one that is named at all. Names are whole words, in any case; a number inside of another
    (12, 3.5) names nothing.

        >>> names = {"1": "check", "check": "check", "2": "bet", "bet": "bet"}
        >>> named_move("I could check, but no: Bet!", names), named_move("[check], not bet", names)
        ('bet', 'check')
        >>> named_move("1 or 2? The answer is 1, not 2.", names)
        'check'
        >>> named_move("12 or 1.5?", names), named_move("2*6=12. The answer is 12.", names)
        (None, None)

    Args:
        names: every way to write a move, in small letters -> the move.
    """
    inside = [(place, content) for place, content in _brackets(text) if content.casefold() in names]
    answers = list(_ANSWER.finditer(text))
    if inside and (not answers or inside[-1][0] > answers[-1].start()):
        return names[inside[-1][1].casefold()]
    if answers:
        line = text[answers[-1].end() :].partition("\n")[0]
        return next(iter(_named(line, names)), None)
    return next(reversed(_named(text, names)), None)


def _brackets(text: str) -> list[tuple[int, str]]:
    return [(match.start(), (match[1] or match[2] or "").strip()) for match in _BRACKETED.finditer(text)]


def _named(text: str, names: Mapping[str, str]) -> list[str]:
    """All moves that are named as words of their own, in order."""
    words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    matches: list[str] = re.findall(rf"(?<![0-9][.,])(?<!\w)({words})(?!\w)(?![.,][0-9])", text, re.IGNORECASE)
    # Ignoring case lets some letters of other alphabets pass for ours.
    return [names[word.casefold()] for word in matches if word.casefold() in names]
