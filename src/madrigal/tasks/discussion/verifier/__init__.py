"""Verifiers: how probably an answer to a question is right.

A verifier is a service that a task is given when it is made (`service.open_verifier`, by `config.VerifierConfig`). By
rule: `exact`, `symbolic`. Learned: in another process, reached over HTTP (`service.HttpVerifier`); the model itself is
in `madrigal.verifier`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from madrigal.tasks.discussion.answers import result_of
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


class Scores(tuple[float, ...]):
    """Scores of answers, and how many tries to get them from a server gave nothing."""

    failed_tries: int = 0


class Verifier(Protocol):
    """Says for each of several answers to one question how probably it is right."""

    def __call__(self, question: Question, answers: Sequence[str], /) -> Sequence[float]:
        """One score in [0, 1] per answer.

        Raises:
            RewardError: if it cannot say; it never says 0 instead.
        """
        ...


def verified(verifier: Verifier, question: Question, answers: Sequence[str]) -> Scores:
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
    kept = Scores(float(score) for score in scores)
    kept.failed_tries = scores.failed_tries if isinstance(scores, Scores) else 0
    return kept


def exact(question: Question, answers: Sequence[str]) -> list[float]:
    """1 where the result is the reference's, spelled in one way; equal values of unlike form ("1/2", "0.5") differ.

    >>> exact(Question("3 + 4?", "#### 7"), ["The answer is 7.0.", "It is 8"])
    [1.0, 0.0]
    """
    truth = result_of(question.reference, question.choices)
    return [float(truth is not None and result_of(answer, question.choices) == truth) for answer in answers]
