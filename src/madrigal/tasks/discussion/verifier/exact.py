"""The verifier that compares results: 1 for the reference answer's, 0 for every other.

Knows: numbers and choices in worked answers. Does not know: how a result was come by.
"""

from __future__ import annotations

from collections.abc import Sequence

from madrigal.tasks.discussion.answers import result_of
from madrigal.tasks.discussion.verifier import Question


def exact(question: Question, answers: Sequence[str]) -> list[float]:
    """1 where the result is the reference's, spelled in one way; equal values of unlike form ("1/2", "0.5") differ.

    >>> exact(Question("3 + 4?", "#### 7"), ["The answer is 7.0.", "It is 8"])
    [1.0, 0.0]
    """
    truth = result_of(question.reference, question.choices)
    return [float(truth is not None and result_of(answer, question.choices) == truth) for answer in answers]
