"""Metrics of a discussion: accuracy of each round, changes between rounds, and flaws of single answers.

All numbers are percentages. Changes are in percent of the agents, summed over rounds, so that

    delta0 + delta1 = wrong_to_right - right_to_wrong = accuracy of the last round - accuracy of the first

delta0 is what agents found (less what they lost) against the majority of the others, delta1 what following a right
majority brought (less what following a wrong one cost). A tie is no majority for the right answer. The names are those
of arXiv:2502.18439, the definition is ours: the paper's was not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from madrigal.tasks.discussion.answers import outcome

Results = Sequence[Sequence[str | None]]  # by round, then by agent
Flaw = Literal["", "short", "repetitive", "no result"]
LONGEST, REPEATS = 20, 3  # a sequence of at most 20 words, said more than 3 times in a row; the code counts tokens


def discussion_metrics(results: Results, truth: str, horizon: int) -> dict[str, float]:
    """Accuracy and majority outcome of every round, and the changes between rounds.

        >>> metrics = discussion_metrics([["3", "4"], ["4", "4"]], truth="4", horizon=2)
        >>> metrics["accuracy_1"], metrics["accuracy_2"], metrics["wrong_to_right"], metrics["delta1"]
        (50.0, 100.0, 50.0, 50.0)

    Args:
        results: of the rounds played so far.
        horizon: a discussion that ended early keeps its last round's figures in the rounds that it left out.
    """
    right = [[result == truth for result in row] for row in results]
    metrics = {"wrong_to_right": 0.0, "right_to_wrong": 0.0, "delta0": 0.0, "delta1": 0.0}
    for turn in range(horizon):
        last = min(turn, len(results) - 1)
        metrics[f"accuracy_{turn + 1}"] = 100 * sum(right[last]) / len(right[last])
        metrics[f"majority_{turn + 1}"] = 100 * outcome(results[last], truth)
    for before, after in pairwise(right):
        for agent, (was, now) in enumerate(zip(before, after, strict=True)):
            if was == now:
                continue
            others = [right for other, right in enumerate(before) if other != agent]
            majority_was_right = 2 * sum(others) > len(others)
            share = 100 / len(before)
            metrics["wrong_to_right" if now else "right_to_wrong"] += share
            metrics["delta1" if now == majority_was_right else "delta0"] += share if now else -share
    return metrics


def flaw_of(text: str, result: str | None, least_words: int) -> Flaw:
    """What is wrong with an answer's form, "" for nothing.

    Args:
        result: what the answer comes to, None where it comes to nothing.
        least_words: an answer of fewer words is too short.
    """
    words = text.split()
    if len(words) < least_words:
        return "short"
    if is_repetitive(words):
        return "repetitive"
    return "no result" if result is None else ""


def is_repetitive(words: Sequence[str]) -> bool:
    """Whether up to 20 words are said more than three times in a row; numbers alone may be.

    >>> is_repetitive("so it is so it is so it is so it is".split()), is_repetitive("7 7 7 7 7 7".split())
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
