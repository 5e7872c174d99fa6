"""Scores of turns that credit cannot do without."""

from __future__ import annotations

from madrigal.types import TrainingError, Turn


def needed(score: tuple[float, ...] | None, what: str, algorithm: str, turn: Turn) -> tuple[float, ...]:
    """A score of a turn.

    Raises:
        TrainingError: if nobody read it, naming algorithm, agent and round.
    """
    if score is None:
        raise TrainingError(
            f"algorithm {algorithm}, agent {turn.agent}, round {turn.round}: expected {what}, but nobody has read this "
            "turn; give credit the groups that Learners.read returned"
        )
    return score
