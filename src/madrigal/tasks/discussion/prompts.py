"""What agents are told when they discuss a question; plain strings, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

# The score below which a verifier's word for an answer holds, and the word; the bands are those of arXiv:2502.18439.
BANDS = (
    (0.3, "it is likely wrong"),
    (0.6, "it might be wrong"),
    (0.8, "it seems right"),
    (float("inf"), "it is likely right"),
)
AGAIN = (
    "Consider all answers, your own included: keep what is right, mend what is wrong, and do not just repeat an "
    "answer. Solve the question again."
)


def question_prompt(question: str, choices: Sequence[str] = ()) -> str:
    """The observation of an agent that solves a question on its own."""
    return f"{question.strip()}\n\n{'Think' if choices else 'Solve it'} step by step. {ending(choices)}"


def ending(choices: Sequence[str] = ()) -> str:
    """How an answer is to end, so that its result can be read."""
    if not choices:
        return "End with: The answer is N."
    return f"End with: The answer is X. X is one of: {', '.join(choices)}."


def quote(speaker: str, text: str, score: float | None = None) -> str:
    """One earlier answer as its reader sees it; an empty speaker is the reader.

    >>> quote("second", "The answer is 4.", 0.4125)
    'The second agent answered: The answer is 4.\\n(Score of this answer: 0.412 out of 1.0, it might be wrong.)'
    """
    text = f"{f'The {speaker} agent' if speaker else 'You'} answered: {text}"
    return text if score is None else f"{text}\n({score_words(score)})"


def score_words(score: float, whose: str = "this") -> str:
    """A verifier's score as a figure and in words, by its band."""
    return f"Score of {whose} answer: {score:.3f} out of 1.0, {next(word for limit, word in BANDS if score < limit)}."


def rebuttal(quotes: Sequence[str], choices: Sequence[str] = ()) -> str:
    """Earlier answers, and the request to answer again."""
    return "\n\n".join([*quotes, f"{AGAIN} {ending(choices)}"])
