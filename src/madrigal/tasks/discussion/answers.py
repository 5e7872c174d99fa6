r"""Results out of worked answers: what was the answer, was it right, what does the majority say.

Knows: the habits of arithmetic answers ("The answer is 18.", "#### 18", "\boxed{18}", "$1,000"), and of answers that
name one of some choices. Does not know: questions, agents, rewards. Fractions ("3/4"), powers and numbers in words are
not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_NUMBER = r"(?:(?<![\w)])[-−])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+|(?<![0-9])(?=\.[0-9]))(?:\.[0-9]+)?"
_ANY = re.compile(_NUMBER)
_MARK = r"(?:answer is|####|\\boxed\{)"
_MARKED = re.compile(rf"{_MARK}[\s:]*[^0-9\n]{{0,20}}?({_NUMBER})", re.IGNORECASE)


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


def extract_choice(text: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer names: the first after the last mark, without one the last of all, else None.

    >>> extract_choice("Not neutral. The answer is: Contradiction, not entailment.", ("entailment", "contradiction"))
    'contradiction'
    """
    # The longest first, so that "not true" is not read as "true".
    words = "|".join(re.escape(choice) for choice in sorted(choices, key=len, reverse=True))
    named = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    *_, tail = re.split(_MARK, text, flags=re.IGNORECASE)
    marked = named.findall(tail) if tail != text else []
    found = marked[0] if marked else next(iter(reversed(named.findall(text))), None)
    return next((choice for choice in choices if found and choice.lower() == found.lower()), None)


def result_of(text: str, choices: Sequence[str] = ()) -> str | None:
    """What an answer comes to: one of the choices, or where there are none a number; None where it says neither."""
    return extract_choice(text, choices) if choices else extract_answer(text)


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


def outcome(results: Sequence[str | None], truth: str) -> float:
    """The probability that the most common result is right, where the draw between equally common ones is fair.

    Answers without a result do not vote; where nobody votes nothing is right.

    >>> outcome(["3", "4", "4"], "4"), outcome(["3", "4"], "4"), outcome([None, None], "4")
    (1.0, 0.5, 0.0)
    """
    votes = Counter(result for result in results if result is not None)
    winners = [result for result, count in votes.items() if count == max(votes.values())]
    return winners.count(truth) / len(winners) if winners else 0.0


def _canonical(number: str) -> str:
    """One spelling per value: no grouping, no leading or trailing zeros, no negative zero."""
    digits = number.replace(",", "").lstrip("-−")
    whole, _, fraction = digits.partition(".")
    value = ".".join(part for part in (whole.lstrip("0") or "0", fraction.rstrip("0")) if part)
    return value if value == "0" or number[0] not in "-−" else f"-{value}"
