"""What is still to come, as a critic foretells it: temporal differences and their sums, as pure functions.

Knows: arrays of rewards and values. Does not know: text, agents, tokens or turns, who asked.

Returns that nobody foretells, and baselines without a critic, are in `advantages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


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
    """One-step errors of a critic: what came, and what it says of the next step, against what it said of this one.

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
    """Generalised advantage estimates: one-step errors of this and all later steps, fading.

        A_t = delta_t + discount * trace * A_{t+1},    A_T = ahead.advantage,    V_T = ahead.value

    With trace 0 these are the errors of `td`: little noise, and all the critic's bias. With trace 1 they are returns
    to go minus values: no bias, and all the noise. A_t + V_t is the return that the critic should have foretold.

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
