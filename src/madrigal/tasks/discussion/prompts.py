"""What agents are told when they discuss a question; plain strings, nothing else."""

from __future__ import annotations


def question_prompt(question: str) -> str:
    """The observation of an agent that solves a word problem on its own."""
    return f"{question.strip()}\n\nSolve it step by step. End with: The answer is N."
