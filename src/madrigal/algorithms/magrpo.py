"""MAGRPO: multi-agent group-relative policy optimisation.

Knows: groups of episodes with a joint reward. Does not know: models, tasks, how groups were played.

    Eq. 1   A_t^(g) = R_t^(g) - 1/G * sum_g' R_t^(g')              the same advantage for every agent, no std
    Eq. 2   J(theta_i) = E[ 1/G * sum_g A_t^(g) * log pi_i(a_i,t^(g) | h_i,t^(g)) ]      no ratio, no clip, no KL

With one agent this is GRPO's group baseline without the division by the standard deviation.

References:
    Liu, Chen, Liang, Lyu, Amato, 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652:
    Algorithm 1 (chains: AAAI text) and the Eq. 2 of its second version (tree).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from madrigal import losses
from madrigal.advantages import group_mean, mean_over_partners, returns_to_go, standardise
from madrigal.batch import Batch, PolicyOutput
from madrigal.branching import Branching
from madrigal.types import ConfigError, Episode, Group, Sample, joint_reward

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class Magrpo:
    """MAGRPO with the paper's choices as defaults; every departure is a visible option.

    Attributes:
        width: G, the answers of each agent that are compared with each other.
        tree: False plays G parallel chains (AAAI text); True parts again after every joint action, G ** H leaves, and
            bootstraps with the mean over the children (arXiv v2).
        crossed: judge all G ** A combinations of answers; an answer's return is the mean over those it is in.
        leaf_limit: the most episodes that one example may turn into.
        discount: of later rounds' rewards; the paper has none.
        reward_shift: added to every reward. With several rounds and positive rewards an early success would earn less
            than a late one; the authors' later configs shift coding rewards by -4, so that the best is 0.
        stop_above: a branch whose reward in a round exceeds this ends there, before the shift; None plays on. The
            later public code ends a branch when the mean over its siblings does.
        standardise: divide advantages by the group's standard deviation (on by default in the later public code).
        clip: PPO's clip range on the ratio to the log-probs at sampling; None is the paper's plain policy gradient.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token; the paper has 0.
        updates: one optimiser step per "turn", last turn first (Algorithm 1), or one per "episode".
        reduction: "sequence" sums log-probs over an answer (the paper); "token" averages over tokens.
    """

    width: int = 4
    tree: bool = False
    crossed: bool = False
    leaf_limit: int = 256
    discount: float = 1.0
    reward_shift: float = 0.0
    stop_above: float | None = None
    standardise: bool = False
    clip: float | None = None
    kl: float = 0.0
    updates: Literal["turn", "episode"] = "turn"
    reduction: Literal["sequence", "token"] = "sequence"

    def __post_init__(self) -> None:
        if self.width < 2:
            raise ConfigError(
                f"algorithm.width: a group needs at least 2 answers to compare, got {self.width}; the paper has 4"
            )
        if self.leaf_limit < 1:
            raise ConfigError(f"algorithm.leaf_limit: expected at least 1, got {self.leaf_limit}")
        if not 0 <= self.discount <= 1:
            raise ConfigError(f"algorithm.discount: expected 0 to 1, got {self.discount}; the paper has 1.0")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ConfigError(f"algorithm.clip: expected a positive range such as 0.2, got {self.clip}")
        if not 0 <= self.kl < math.inf:
            raise ConfigError(f"algorithm.kl: expected 0 or more, got {self.kl}")
        if not math.isfinite(self.reward_shift):
            raise ConfigError(f"algorithm.reward_shift: expected a finite number, got {self.reward_shift}")
        if self.stop_above is not None and not math.isfinite(self.stop_above):
            raise ConfigError(f"algorithm.stop_above: expected None or a finite number, got {self.stop_above}")

    @property
    def branching(self) -> Branching:
        at: Literal["start", "round"] = "round" if self.tree else "start"
        return Branching(self.width, at, self.crossed, self.leaf_limit, self.stop_above)

    @property
    def needs_reference(self) -> bool:
        return self.kl > 0

    def begin(self) -> Memory:
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Gives every answer its group-relative advantage; returns stages of samples, last round first."""
        stages: dict[int, list[Sample]] = defaultdict(list)
        for group in _nodes(groups):
            for sample in self._credit_group(group):
                stages[sample.turn.round].append(sample)
        ordered = [stages[index] for index in sorted(stages, reverse=True)]
        return ([_join(ordered)] if self.updates == "episode" else ordered), memory

    def _credit_group(self, group: Group[object]) -> Iterator[Sample]:
        returns = [self._returns(episode) for episode in group.episodes]
        for offset in range(max(map(len, returns))):
            # Siblings that ended earlier took no decision in this round: they are no baseline for it.
            live = [i for i, values in enumerate(returns) if len(values) > offset]
            for seat in range(len(group.agents)):
                yield from self._credit_seat(group, live, [returns[i][offset] for i in live], offset, seat)

    def _credit_seat(
        self, group: Group[object], live: list[int], returns: list[float], offset: int, seat: int
    ) -> Iterator[Sample]:
        # Only the first round's answers are shared between siblings; later ones belong to one chain each.
        choices = [group.episodes[i].choice if offset == 0 else (i,) * len(group.agents) for i in live]
        answers, values = mean_over_partners(returns, choices, seat)
        episode_of = {choice[seat]: group.episodes[i] for choice, i in zip(choices, live, strict=True)}
        for answer, value, advantage in zip(answers, values, self._advantages(values), strict=True):
            for turn in episode_of[answer].turns:
                if turn.agent == group.agents[seat] and turn.round == group.origin.round + offset:
                    yield Sample(turn, advantage, value)

    def _advantages(self, values: list[float]) -> list[float]:
        if len(values) < 2:
            return [0.0] * len(values)
        advantages = group_mean(torch.tensor([values], dtype=torch.float64))
        if self.standardise:
            advantages = standardise(advantages)
        row: list[float] = advantages[0].tolist()
        return row

    def _returns(self, episode: Episode[object]) -> list[float]:
        rewards = [joint_reward(step) + self.reward_shift for step in episode.steps]
        return returns_to_go(rewards, self.discount, self._tail(episode))

    def _tail(self, episode: Episode[object]) -> float:
        """The mean return of the children: what a tree bootstraps with."""
        if episode.then is None:
            return 0.0
        children = episode.then.episodes
        return sum(self._returns(child)[0] for child in children) / len(children)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        if self.clip is None:
            terms = losses.policy_gradient(output.logprobs, batch.advantages)
        else:
            terms = losses.clipped_surrogate(output.logprobs, batch.old_logprobs, batch.advantages, self.clip)
        if batch.reference_logprobs is not None:
            terms = terms + self.kl * losses.k3(output.logprobs, batch.reference_logprobs)
        if self.reduction == "token":
            return losses.mean_per_token(terms, batch.mask, batch.tokens)
        return losses.sum_per_sequence(terms, batch.mask, batch.sequences)


def _join(stages: list[list[Sample]]) -> list[Sample]:
    """All rounds in one stage that minimises the sum over rounds of each round's mean, however many samples it has."""
    total = sum(map(len, stages))
    return [replace(sample, weight=total / len(stage)) for stage in stages for sample in stage]


def _nodes(groups: Sequence[Group[object]]) -> Iterator[Group[object]]:
    """Every group of a forest, parents first."""
    for group in groups:
        yield group
        yield from _nodes([episode.then for episode in group.episodes if episode.then is not None])
