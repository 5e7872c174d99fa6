"""How a discussion went: what was right in each round, and how answers changed from round to round.

All numbers are percentages. Changes are in percent of the agents, summed over rounds, so that

    delta0 + delta1 = wrong_to_right - right_to_wrong = accuracy of the last round - accuracy of the first

delta0 is what agents found (less what they lost) against the majority of the others, delta1 what following a right
majority brought (less what following a wrong one cost). A tie is no majority for the right answer. The names are those
of arXiv:2502.18439, the definition is ours: the paper's was not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from madrigal.tasks.discussion.answers import outcome

Results = Sequence[Sequence[str | None]]  # by round, then by agent


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
