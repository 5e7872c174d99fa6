"""Returns, summed from rewards or estimated with a critic, and shaped rewards: pure functions on lists of numbers.

Baselines without a critic are in `advantages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


def returns_to_go(rewards: Sequence[float], discount: float = 1.0, tail: float = 0.0) -> list[float]:
    """Sums the rewards from each round to the end of the episode.

        R_t = r_t + discount * R_{t+1},    R_H = tail

    MAGRPO is undiscounted. `tail` is the value of what follows the last round: 0 for a whole episode, the mean return
    of the children where a stretch ends at a branching point of a tree.

        >>> returns_to_go([1.0, 2.0, 4.0])
        [7.0, 6.0, 4.0]

    References:
        Liu et al., 2025, "LLM Collaboration with Multi-Agent RL", Algorithm 1, arXiv:2508.04652.
    """
    returns: list[float] = []
    for reward in reversed(rewards):
        tail = reward + discount * tail
        returns.append(tail)
    return returns[::-1]


class Ahead(NamedTuple):
    """What follows the last step: nothing at the end of an episode, else how the next one begins.

    Attributes:
        value: the critic's estimate of the return from there on, in units of reward.
        advantage: of the step that begins there; its share goes on backwards.
    """

    value: float = 0.0
    advantage: float = 0.0

    def after(self, reward: float, discount: float) -> Ahead:
        """The same, seen from before a reward: value = r + discount * V, and the advantage discounted."""
        return Ahead(reward + discount * self.value, discount * self.advantage)


END = Ahead()


def td(rewards: Sequence[float], values: Sequence[float], discount: float = 1.0, tail: float = 0.0) -> list[float]:
    """Temporal-difference errors: reward plus the value of the next step, minus the value of this one.

        delta_t = r_t + discount * V_{t+1} - V_t,    V_T = tail

    A perfect critic of a world without chance has none. `tail` is 0 where the episode has ended: the last target is
    the reward alone.

        >>> td([1.0, 2.0], [5.0, 3.0])
        [-1.0, -1.0]

    Raises:
        ValueError: if there is not one value per reward.

    References:
        Sutton, 1988, "Learning to predict by the methods of temporal differences".
    """
    following = [*values, tail][1:]
    return [r + discount * after - v for r, v, after in zip(rewards, values, following, strict=True)]


def gae(
    rewards: Sequence[float],
    values: Sequence[float],
    discount: float = 1.0,
    trace: float = 0.95,
    ahead: Ahead = END,
) -> list[float]:
    """Generalized advantage estimates: one-step errors of this and all later steps, fading.

        A_t = delta_t + discount * trace * A_{t+1},    A_T = ahead.advantage,    V_T = ahead.value

    With trace 0 these are the errors of `td`: little noise, and all the critic's bias. With trace 1 they are returns
    to go minus values: no bias, and all the noise. A_t + V_t is the critic's target.

        >>> gae([0.0, 1.0], [0.5, 0.5], trace=0.5)
        [0.25, 0.5]

    Raises:
        ValueError: if there is not one value per reward.

    References:
        Schulman et al., 2016, "High-dimensional continuous control using generalized advantage estimation",
        arXiv:1506.02438.
    """
    advantages, later = [], ahead.advantage
    for delta in reversed(td(rewards, values, discount, ahead.value)):
        later = delta + discount * trace * later
        advantages.append(later)
    return advantages[::-1]


def mean_over_teammates(
    returns: Sequence[float], choices: Sequence[tuple[int, ...]], seat: int
) -> tuple[list[int], list[float]]:
    """Returns of one agent's answers when joint actions are crossed.

        R(a_i^k) = mean over the joint actions that contain a_i^k

    The mean, not the sum that the later public code takes: a sum would scale the gradient by the number of teammates.
    For aligned joint actions every answer is in one joint action and keeps its return.

        >>> mean_over_teammates([1.0, 3.0, 5.0, 9.0], [(0, 0), (0, 1), (1, 0), (1, 1)], seat=0)
        ([0, 1], [2.0, 7.0])

    Args:
        returns: one per joint action.
        choices: for each joint action, which of its answers each agent contributed.
        seat: the agent's position in a choice.

    Returns:
        The agent's answers, in order, and the mean return of each.
    """
    by_answer: dict[int, list[float]] = {}
    for value, choice in zip(returns, choices, strict=True):
        by_answer.setdefault(choice[seat], []).append(value)
    answers = sorted(by_answer)
    return answers, [sum(by_answer[k]) / len(by_answer[k]) for k in answers]


def margin(reward: float, earlier: float, alpha: float = 0.5) -> float:
    """Pays for an answer that is better than those before it, and charges for a worse one.

        R + alpha * (R - Q)          Q the mean of earlier rewards

    >>> margin(1.0, earlier=0.5)
    1.25

    References:
        MARTI's public code, `auto_reward_alloc.py`.
    """
    return reward + alpha * (reward - earlier)


def quality(reward: float, earlier: float, alpha: float = 0.5) -> float:
    """Pays for keeping up what was good, and charges for failing again.

        R + alpha * (Q * R - (1 - Q) * (1 - R))          Q the mean of earlier rewards

    Reads rewards as shares: both from 0 to 1.

    >>> quality(1.0, earlier=1.0), quality(0.0, earlier=0.0), quality(1.0, earlier=0.0)
    (1.5, -0.5, 1.0)

    References:
        MARTI's public code, `auto_reward_alloc.py`.
    """
    return reward + alpha * (earlier * reward - (1 - earlier) * (1 - reward))
