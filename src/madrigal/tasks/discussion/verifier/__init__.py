"""Verifiers: how probably an answer to a question is right.

Knows: the protocol, and what every verifier must keep to. Does not know: how any of them judges.

A verifier is a service that a task is given when it is made (`service`). By rule: `exact`, `symbolic`. Learned: in
another process, reached over HTTP (`client`); the model itself is in `madrigal.verifier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from madrigal.types import RewardError


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        text: as the data words it, without instructions.
        reference: the reference answer, for verifiers that compare with it; learned ones never see it.
        choices: what an answer may name; empty where the answer is a number.
    """

    text: str
    reference: str = ""
    choices: tuple[str, ...] = ()


class Verifier(Protocol):
    """Says for each of several answers to one question how probably it is right."""

    def __call__(self, question: Question, answers: Sequence[str], /) -> Sequence[float]:
        """One score in [0, 1] per answer.

        Raises:
            RewardError: if it cannot say; it never says 0 instead.
        """
        ...


def verified(verifier: Verifier, question: Question, answers: Sequence[str]) -> tuple[float, ...]:
    """The scores of a verifier that keeps its promises.

    Raises:
        RewardError: if there is not one number in [0, 1] for each answer.
    """
    scores = verifier(question, answers)
    if len(scores) != len(answers):
        raise RewardError(f"verifier: expected one score for each of {len(answers)} answers, got {len(scores)}")
    for score in scores:
        number = isinstance(score, (int, float)) and not isinstance(score, bool)
        # Compared, not converted: an integer of 400 digits is no float.
        if not (number and 0 <= score <= 1):
            raise RewardError(f"verifier: expected scores from 0 to 1, got {repr(score)[:40]}; it gives probabilities")
    return tuple(float(score) for score in scores)
