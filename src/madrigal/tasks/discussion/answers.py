r"""Numbers out of worked answers: what was the answer, was it right, what does the majority say.

Knows: the habits of arithmetic answers ("The answer is 18.", "#### 18", "\boxed{18}", "$1,000").
Does not know: questions, agents, rewards. Fractions ("3/4"), powers and numbers in words are not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = r"(?:(?<![\w)])[-−])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+|(?<![0-9])(?=\.[0-9]))(?:\.[0-9]+)?"
_ANY = re.compile(_NUMBER)
_MARKED = re.compile(rf"(?:answer is|####|\\boxed\{{)[\s:]*[^0-9\n]{{0,20}}?({_NUMBER})", re.IGNORECASE)


def extract_answer(text: str) -> str | None:
    r"""The final number of a worked answer in canonical form, or None where it holds no number.

    The number after the last of "The answer is", "####" and "\boxed{"; without such a mark, the last number
    of all.
    It is the first number after the mark that counts: "The answer is 18 eggs in 2 days." says 18.

    >>> extract_answer("3 + 4 = 7, and 7 - 5 = 2. The answer is $2.00.")
    '2'
    >>> extract_answer("That makes 1,200 of 3,500")
    '3500'
    """
    plain = text.replace("$", "").replace("{,}", ",")
    found = _MARKED.findall(plain) or _ANY.findall(plain)
    return _canonical(found[-1]) if found else None


def is_correct(text: str, reference: str) -> bool:
    """Whether a worked answer ends in the number of the reference answer; no number is never correct."""
    answer = extract_answer(text)
    return answer is not None and answer == extract_answer(reference)


def majority(texts: Sequence[str]) -> str | None:
    """The final number that most of the answers give; of those given equally often, the one that came first.

    Answers without a number do not vote; None where nobody votes.

    >>> majority(["The answer is 3.", "The answer is 4.", "No idea.", "So it is 4"])
    '4'
    """
    votes = [vote for text in texts if (vote := extract_answer(text)) is not None]
    return max(votes, key=votes.count) if votes else None


def _canonical(number: str) -> str:
    """One spelling per value: no grouping, no leading or trailing zeros, no negative zero."""
    digits = number.replace(",", "").lstrip("-−")
    whole, _, fraction = digits.partition(".")
    value = ".".join(part for part in (whole.lstrip("0") or "0", fraction.rstrip("0")) if part)
    return value if value == "0" or number[0] not in "-−" else f"-{value}"
