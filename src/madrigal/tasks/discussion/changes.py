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

        >>> found = discussion_metrics([["3", "4"], ["4", "4"]], truth="4", horizon=2)
        >>> found["accuracy_1"], found["accuracy_2"], found["wrong_to_right"], found["delta1"]
        (50.0, 100.0, 50.0, 50.0)

    Args:
        results: of the rounds played so far.
        horizon: a discussion that ended early keeps its last round's figures in the rounds that it left out.
    """
    right = [[result == truth for result in row] for row in results]
    found = {"wrong_to_right": 0.0, "right_to_wrong": 0.0, "delta0": 0.0, "delta1": 0.0}
    for turn in range(horizon):
        last = min(turn, len(results) - 1)
        found[f"accuracy_{turn + 1}"] = 100 * sum(right[last]) / len(right[last])
        found[f"majority_{turn + 1}"] = 100 * outcome(results[last], truth)
    for before, after in pairwise(right):
        for agent in range(len(before)):
            for name, change in _change(before, after[agent], agent):
                found[name] += change * 100 / len(before)
    return found


def _change(before: Sequence[bool], now: bool, agent: int) -> list[tuple[str, int]]:
    """What one agent's change counts as."""
    if before[agent] == now:
        return []
    others = [right for other, right in enumerate(before) if other != agent]
    led = 2 * sum(others) > len(others)
    if now:
        return [("wrong_to_right", 1), ("delta1" if led else "delta0", 1)]
    return [("right_to_wrong", 1), ("delta0" if led else "delta1", -1)]
