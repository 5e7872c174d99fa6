"""Returns and baselines: from rewards to advantages, as pure functions.

Knows: arrays of rewards and returns. Does not know: text, agents, models, who asked.

Shapes: N groups, K siblings of a group, B rows (see types).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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


def group_mean(returns: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Compares each return with the mean of its whole group, itself included.

        A_k = R_k - 1/K * sum_j R_j

    Eq. 1 of MAGRPO: no division by the standard deviation, so that a group of nearly equal returns gives a small
    gradient instead of an amplified one. A row sums to 0.

    Raises:
        ValueError: if K < 2; an only child has nothing to be compared with.

    References:
        Liu et al., 2025, Eq. 1, arXiv:2508.04652; Liu et al., 2025, "Dr. GRPO", arXiv:2503.20783.
    """
    _needs_siblings(returns)
    return returns - returns.mean(dim=-1, keepdim=True)


def leave_one_out(returns: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Compares each return with the mean of its K - 1 siblings.

        A_k = R_k - 1/(K-1) * sum_{j != k} R_j

    The baseline does not contain the sample that it judges, so the gradient is unbiased; `group_mean` is this, shrunk
    by (K-1)/K.

    Raises:
        ValueError: if K < 2.

    References:
        Ahmadian et al., 2024, "Back to Basics", arXiv:2402.14740.
    """
    _needs_siblings(returns)
    k = returns.shape[-1]
    return (returns - returns.mean(dim=-1, keepdim=True)) * (k / (k - 1))


def greedy(returns: Float[Tensor, "N K"], most_likely: Float[Tensor, " N"]) -> Float[Tensor, "N K"]:
    """Compares each return with that of the most likely answer to the same prompt.

        A_k = R_k - R_greedy

    The baseline depends on the weights and the prompt, never on the answer that it judges: the gradient is unbiased,
    and one sampled answer is enough.

        >>> greedy(torch.tensor([[1.0, 4.0]]), torch.tensor([3.0]))
        tensor([[-2.,  1.]])

    References:
        Li et al., 2023, "ReMax", arXiv:2310.10505.
    """
    return returns - most_likely[:, None]


def standardise(advantages: Float[Tensor, "N K"], epsilon: float = 1e-6) -> Float[Tensor, "N K"]:
    """Divides each row by its population standard deviation; rows without spread become 0.

    Kept apart from the baselines on purpose: after it, most choices of baseline look alike. Off in MAGRPO's paper, on
    by default in its later public code.

    References:
        Shao et al., 2024, "DeepSeekMath" (GRPO), arXiv:2402.03300.
    """
    spread = advantages.std(dim=-1, keepdim=True, correction=0)
    return torch.where(spread > epsilon, advantages / spread.clamp_min(epsilon), torch.zeros_like(advantages))


def standard_score(returns: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """GRPO's advantage: deviations from the group's mean in units of its population standard deviation.

        A_k = (R_k - mean(R)) / std(R)

    A row without spread is 0. Any two groups give gradients of the same size, however small their spread.

    Raises:
        ValueError: if K < 2.

    References:
        Shao et al., 2024, "DeepSeekMath", arXiv:2402.03300.
    """
    return standardise(group_mean(returns))


def active_score(
    returns: Float[Tensor, " B"], *, remove_std: bool = False, epsilon: float = 1e-6
) -> Float[Tensor, " B"]:
    """Compares the steps in which one agent was active with each other, and with nobody else's.

        A_b = (R_b - mu_k) / (sigma_k + epsilon)          mu_k, sigma_k over agent k's own steps, sigma with ddof 1

    With the mean and deviation of everybody's steps instead, the second moment of agent k's gradient is multiplied by
    (sigma_k^2 + (mu_k - mu)^2) / sigma^2: an agent that is called mainly in hard or in easy episodes gets inflated
    gradients. One row per step, so that an agent that acts twice in an episode counts twice. A single step has nothing
    to be compared with and gets 0; the public code credits it with its raw return.

        >>> active_score(torch.tensor([1.0, 1.0, 4.0]), remove_std=True)
        tensor([-1., -1.,  2.])

    Args:
        returns: of the steps in which the agent was active, in the rollouts of one example.
        remove_std: leave out the division.

    References:
        Feng et al., 2026, "Dr. MAS", Lemma 4.2, arXiv:2602.08847.
    """
    if len(returns) < 2:
        return torch.zeros_like(returns)
    centred = returns - returns.mean()
    return centred if remove_std else centred / (returns.std(correction=1) + epsilon)


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


def mean_over_partners(
    returns: Sequence[float], choices: Sequence[tuple[int, ...]], seat: int
) -> tuple[list[int], list[float]]:
    """Returns of one agent's answers when joint actions are crossed.

        R(a_i^k) = mean over the joint actions that contain a_i^k

    The mean, not the sum that the later public code takes: a sum would scale the gradient by the number of partners.
    For aligned joint actions every answer is in one joint action and keeps its return.

        >>> mean_over_partners([1.0, 3.0, 5.0, 9.0], [(0, 0), (0, 1), (1, 0), (1, 1)], seat=0)
        ([0, 1], [2.0, 7.0])

    Args:
        returns: one per joint action.
        choices: for each joint action, which of its answers each agent contributed.
        seat: the agent's position in a choice.

    Returns:
        The agent's answers, in order, and the mean return of each.
    """
    mine: dict[int, list[float]] = {}
    for value, choice in zip(returns, choices, strict=True):
        mine.setdefault(choice[seat], []).append(value)
    answers = sorted(mine)
    return answers, [sum(mine[k]) / len(mine[k]) for k in answers]


def _needs_siblings(returns: Tensor) -> None:
    if returns.shape[-1] < 2:
        raise ValueError(f"a group baseline needs at least 2 siblings, got {returns.shape[-1]}; raise the width")
