r"""The result of a worked answer, and the result of a majority.

Read are the habits of arithmetic answers ("The answer is 18.", "5 + 13 = 18", "#### 18", "\boxed{18}", "$1,000") and
answers that name one of some choices. What is no single number in digits (a fraction, a power, a range, a pair, "18 or
20", "not 18", a number in words) is no result: it is never right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

# How far one looks, so that reading stays fast whatever a model writes: characters on either side of a number that may
# say what it is part of, characters after a mark, and marks from the last one back.
NEAR, CLAIM, MARKS = 120, 500, 20
_DASH = "-−–"
_NUMBER = (
    rf"(?:(?<![\w)])[{_DASH}])?(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+|(?<![0-9])(?=\.[0-9]))(?:\.[0-9]+)?"
)
_ANY = re.compile(_NUMBER)
_MARK = re.compile(r"answer\s*(?:is\b|would be\b|[*_]*\s*[:=])|####|\\boxed\s*\{", re.IGNORECASE)
_NOTHING = r"(?:[\s*_:$({\[]|\\[(\[])*"  # what may stand between a mark and what it marks, in and out of Markdown
_END = re.compile(r"\n|[.;!?](?=[\s*_\"')}\]]|$)")
_PLAIN = (  # how numbers are written in TeX and Markdown
    (re.compile(r"\\\$|\$|\*\*(?!\s*\d)|__"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\[,!;: ]"), " "),
)
_NEGATED = re.compile(r"\b(?:not|never|cannot|neither|nor|[a-z]+n['’]t)\b(?:(?!\bbut\b)[^,;:.=])*$", re.IGNORECASE)
_DOUBTED = re.compile(r"(?:\bnot|n['’]t)\s+(?:think|believe|say|mean|true|clear)\b[^,;:.\n]*$", re.IGNORECASE)
_OPERATOR = rf"[{_DASH}+*/^×÷·:±]|\\(?:times|cdot|div|pm)|\*\*"
_BOUND = r"[<>≤≥≠√]|\\(?:d?frac|sqrt|leq?|geq?|neq?)|\b(?:(?:more|less|fewer|greater) than|at least|at most|between)"
_JOINED = rf"\d\s*(?:{_OPERATOR}|\bx\b|,)|\d\s+(?:or|to)|[\^×÷·±/]|\\pm"
_BEFORE = re.compile(rf"(?:{_JOINED}|{_BOUND})\s*[({{]?\s*$", re.IGNORECASE)
_SCALE = r"hundred|thousand|million|billion|trillion|dozen"
_AFTER = re.compile(
    rf"[)}}\s]*(?:(?:{_OPERATOR}|x)[\s({{\\]*\.?\d|\^|\*\*\w)|\s*,\s*\d|\s+(?:or|to|and)\s+[{_DASH}]?\.?\d|\s+\d|"
    rf"e[+-]?\d|[kxynz]\b|\s*(?:{_SCALE})\b|\s*(?:\\sqrt|\\pi|√|π|!\s*[=*])",
    re.IGNORECASE,
)


def extract_answer(text: str) -> str | None:
    r"""The final number of a worked answer in canonical form, or None where it comes to no single number.

    What stands after the last of "The answer is", "Answer:", "####" and "\boxed{" that is followed by a number; without
    such a mark, the last number of all. It is the first number after the mark that counts ("The answer is 18 eggs in 2
    days." says 18), or the last value of an equation.

    >>> extract_answer("3 + 4 = 7, and 7 - 5 = 2. The answer is $2.00.")
    '2'
    >>> extract_answer("That makes 1,200 of 3,500")
    '3500'
    >>> extract_answer("The answer is 3/4"), extract_answer("The answer is 18 or 20")
    (None, None)
    """
    plain = text
    for pattern, instead in _PLAIN:
        plain = pattern.sub(instead, plain)
    marks = list(_MARK.finditer(plain))
    for mark in marks[: -MARKS - 1 : -1]:
        claim = _claim(plain, mark)
        if _ANY.search(claim):
            return None if _DOUBTED.search(plain[max(0, mark.start() - NEAR) : mark.start()]) else _value(claim)
    rest = plain[marks[-1].end() :] if marks else plain
    numbers = list(_ANY.finditer(rest))
    return _single(rest, numbers[-1]) if numbers else None


def _claim(text: str, mark: re.Match[str]) -> str:
    """What a mark marks: to the end of its braces, or of its sentence."""
    rest = text[mark.end() : mark.end() + CLAIM]
    if mark[0].endswith("{"):
        return _in_braces(rest)
    rest = re.sub(rf"^{_NOTHING}(?=[{_DASH}\w.\\])", _opening, rest)
    end = _END.search(rest)
    return rest[: end.start()] if end else rest


def _opening(match: re.Match[str]) -> str:
    """A bracket that opens a pair or a product says that there is one; all else before a claim is decoration."""
    return "(" if "(" in match[0].replace("\\(", "") else ""


def _in_braces(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return text[:place]
    return text


def _value(claim: str) -> str | None:
    """The number that a claim states: that of the last side of an equation which is a single number."""
    sides = re.split(r"(?<![<>!])=|≈|\\approx", claim)
    if len(sides) > 1 and _NEGATED.search(sides[0]):
        return None
    values = [_first(side) for side in sides if _ANY.search(side)]
    return next((value for value in reversed(values) if value is not None), None)


def _first(side: str) -> str | None:
    number = _ANY.search(side)
    return _single(side, number) if number else None


def _single(text: str, number: re.Match[str]) -> str | None:
    """A number in a text, unless it is only a part of what is said there, or denied."""
    before, after = text[max(0, number.start() - NEAR) : number.start()], text[number.end() : number.end() + NEAR]
    before = before.rpartition("\n")[2]
    if _BEFORE.search(before) or _NEGATED.search(before) or _AFTER.match(after):
        return None
    return _canonical(number[0])


def extract_choice(text: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer names: the first after the last mark, without one the last of all, else None.

    Choices of one letter are told from words: "a" is no A. What is denied ("not B"), or named beside another one ("A or
    B"), is not chosen.

    >>> extract_choice("Not neutral. The answer is: Contradiction, not entailment.", ("entailment", "contradiction"))
    'contradiction'
    >>> extract_choice("Answer: B. Because a cat has fur.", ("A", "B", "C"))
    'B'
    """
    # The longest first, so that "not true" is not read as "true".
    words = "|".join(map(_spelled, sorted(choices, key=len, reverse=True)))
    named = re.compile(rf"(?<!\w)(?:{words})(?!\w)")
    *_, mark = (None, *_MARK.finditer(text))
    tail = text[mark.end() :] if mark else ""
    whole = "|".join(map(re.escape, sorted(choices, key=len, reverse=True)))
    if short := re.match(rf"{_NOTHING}({whole})(?=[*_\s]*(?:$|\n)|[).,:;}}])", tail, re.IGNORECASE):
        return _only(tail, short.start(1), short.end(1), named, choices)
    marked = list(named.finditer(tail))
    match = next(_meant(marked, tail), None) if marked else next(_meant([*named.finditer(text)][::-1], text), None)
    return _only(tail if marked else text, match.start(), match.end(), named, choices) if match else None


def _spelled(choice: str) -> str:
    """How a choice is found: in any case; a letter as it is written, and not as an article or a pronoun."""
    if len(choice) > 1:
        return f"(?i:{re.escape(choice)})"
    return re.escape(choice) + r"(?!['’]|\s+(?!(?:is|was|or|and|because|since|as|but)\b)[a-z])"


def _meant(matches: Sequence[re.Match[str]], text: str) -> Iterator[re.Match[str]]:
    """Those that are not denied."""
    return (
        match
        for match in matches
        if not _NEGATED.search(text[max(0, match.start() - NEAR) : match.start()].rpartition("\n")[2])
    )


def _only(text: str, start: int, end: int, named: re.Pattern[str], choices: Sequence[str]) -> str | None:
    """The choice at a place of a text, None where another one is named in the same breath."""
    choice = next(choice for choice in choices if choice.lower() == text[start:end].lower())
    joint = r"[*_\s()]*(?:\bor\b|\band\b|/|&)[*_\s()]*"
    after = re.match(rf"{joint}({named.pattern})", text[end:])
    before = re.search(rf"({named.pattern}){joint}$", text[max(0, start - NEAR) : start])
    return None if any(beside and beside[1].lower() != choice.lower() for beside in (after, before)) else choice


def result_of(text: str, choices: Sequence[str] = ()) -> str | None:
    """What an answer comes to: one of the choices, or where there are none a number; None where it says neither."""
    return extract_choice(text, choices) if choices else extract_answer(text)


def majority(results: Sequence[str | None]) -> str | None:
    """The most common result; of those given equally often, the one that came first.

    Answers without a result do not vote; None where nobody votes.

    >>> majority(["3", "4", None, "4"])
    '4'
    """
    votes = [result for result in results if result is not None]
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
    digits = number.replace(",", "").lstrip(_DASH)
    whole, _, fraction = digits.partition(".")
    value = ".".join(part for part in (whole.lstrip("0") or "0", fraction.rstrip("0")) if part)
    return value if value == "0" or number[0] not in _DASH else f"-{value}"
