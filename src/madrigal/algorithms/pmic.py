"""PMIC: a bonus for what state and joint action share in good episodes, a malus for what they share in poor ones.

    R'_t = R_t + alpha * L_t - beta * C_t           then MAGRPO's group mean over returns to go of R'

    s   what the team was shown before anybody spoke in the round
    u   what all agents said in the round, one after the other
    L   a lower bound on I(s; u), learned from superior episodes       (mutual_information.jsd_parts)
    C   an upper bound on it, learned from inferior ones               (mutual_information.club_parts)

A team that always answers alike, whatever it is shown, shares nothing with the state; one that answers well is taught
to be predictable in the way in which good rounds were, and to leave the ways of poor ones. Which episodes are superior
is said by a bar that rises with the team (`buffers`).

Two tasks that ask for different things make s and u share the task, in any team. Compared within one round of one
example nothing of that is left; but then a task of one round has nothing to share at all, since all siblings were shown
the same.

References:
    Li et al., 2022, "PMIC: Improving Multi-Agent Reinforcement Learning with Progressive Mutual Information
    Collaboration", arXiv:2203.08553, and its public code, on MADDPG with vectors for states and actions. Its use for
    language models, MAGRPO's baseline instead of a critic among it, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.answer_groups import credit_by_round, joint_returns, whole_return
from madrigal.algorithms.buffers import Buffers, Entry, Within, comparable, entries_of
from madrigal.algorithms.checks import check_finite, check_least, check_positive, check_usual
from madrigal.algorithms.objective import Clip, Kl, Reduction, Updates, objective
from madrigal.rollouts.branching import Branching
from madrigal.types import ConfigError, Episode, Group, Sample, Step, joint_reward

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from madrigal.algorithms.mutual_information import Dual
    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pmic:
    """PMIC over MAGRPO's group mean.

    Attributes:
        width: G, the episodes of each example, as in MAGRPO.
        alpha: weight of the lower bound, in units of reward per nat; the public demo has 0.01.
        beta: weight of the upper bound; the public demo has 0.1.
        within: with what a round is compared to see what is shared: "task" with the same round of the same example, so
            that the task's identity counts for nothing; "all" with everything, as in the paper's single task. The
            default is ours.
        normalize: divide the parts of a bound by their root mean square over the step where that is more than 1 nat.
            They are never made larger: where the bounds know nothing, noise stays small. Ours.
        bonus_clip: the largest part of a bound, either way, after that; None does not clip. Ours.
        start: the bonus is paid from this number of entries of the positive buffer on; the public code has 500.
        capacity: entries of each buffer, one per round; the public code has 1000.
        window: returns whose mean is part of the bar; the public code has 1000.
        fits: steps of each estimator in a training step. Not comparable with the public code, which makes one every
            100 steps of its environment; the default is ours.
        batch: the most entries of one such step. The public code has 1024, drawn with repetition; every entry is
            compared with every other, and 1024 of them would cost as much as the rest of a small team's step.
        estimator_lr: of both estimators; the public code has 1e-4.
        discount: of later rounds' rewards and bonuses.
        reward_shift: added to every reward.
    """

    name: Name = "pmic"
    width: int = 4
    alpha: float = 0.01
    beta: float = 0.1
    within: Within = "task"
    normalize: bool = True
    bonus_clip: float | None = 3.0
    start: int = 500
    capacity: int = 1000
    window: int = 1000
    fits: int = 20
    batch: int = 256
    estimator_lr: float = 1e-4
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: Clip = None
    kl: Kl = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_usual(self.width, self.discount, self.reward_shift, self.clip, self.kl)
        check_finite(alpha=self.alpha, beta=self.beta)
        check_least(2, start=self.start, capacity=self.capacity, batch=self.batch)
        check_least(1, window=self.window, fits=self.fits)
        check_positive(estimator_lr=self.estimator_lr, bonus_clip=self.bonus_clip)
        if self.start > self.capacity:
            raise ConfigError(
                f"algorithm.start: expected at most algorithm.capacity ({self.capacity}), or no bonus is ever paid, "
                f"got {self.start}"
            )

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        reference: Literal["", "loss"] = "loss" if self.kl > 0 else ""
        if self.within == "all":
            return Needs(reference, embeddings=True)
        # In the first round of an example all siblings are shown the same: within the task, nothing can be shared.
        return Needs(reference, rounds=2, embeddings=True, otherwise="set algorithm.within to all")

    def begin(self) -> Memory:
        """No buffers and no estimators yet; see `credit` for what is kept."""
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Pays the bonus, compares siblings as MAGRPO does, then files the episodes and lets the estimators learn.

        So the estimators judge rounds that they have not learned from. They are kept in memory with both buffers and
        the recent returns; `last` is what `report` says of this step.

        Raises:
            TrainingError: if a turn was not embedded.
        """
        from madrigal.maths.advantages import group_mean

        measure = whole_return(self.discount, self.reward_shift)
        entries = [entries_of(group, e, measure(e)) for group in groups for e in group.episodes]
        buffers, dual = _buffers(memory), self._dual(entries[0][0], memory)
        bonuses, last = self._bonuses(list(chain(*entries)), buffers, dual)
        returns = joint_returns(self.discount, self.reward_shift)
        samples = credit_by_round(with_bonuses(groups, bonuses), returns, group_mean, self.updates)
        for rounds in entries:
            buffers = buffers.with_episode(rounds, self.capacity, self.window)
        dual.fit(buffers, self.within, self.fits, self.batch)
        kept = {"positive": buffers.positive, "negative": buffers.negative, "recent": buffers.recent}
        return samples, {**kept, "lower": dual.lower.to_json(), "upper": dual.upper.to_json(), "last": last}

    def report(self, memory: Memory) -> dict[str, float]:
        """What the bonus was made of in the last step, and what is kept.

        `lower` and `upper` are the mean parts of both bounds in nats, `bonus` the mean bonus in units of reward, all
        three over the `rounds` that could be compared; `paid` is 1 once the bonus is paid, 0 before. `positive` and
        `negative` count the entries of both buffers; `bar` is the return that is superior from now on.
        """
        buffers = _buffers(memory)
        bar = {"bar": buffers.bar} if buffers.positive else {}
        return {**memory.get("last", {}), "positive": len(buffers.positive), "negative": len(buffers.negative), **bar}

    def _dual(self, entry: Entry, memory: Memory) -> Dual:
        """The estimators that memory holds, or new ones for vectors of an entry's size."""
        from madrigal.algorithms.mutual_information import new_dual

        dual = new_dual(len(entry["state"]), len(entry["action"]), self.estimator_lr)
        if memory:
            dual.lower.load(memory["lower"])
            dual.upper.load(memory["upper"])
        return dual

    def _bonuses(self, entries: Sequence[Entry], buffers: Buffers, dual: Dual) -> tuple[list[float], dict[str, float]]:
        """The bonus of each round, and what `report` says of the step."""
        from madrigal.algorithms.mutual_information import standardized

        bonuses, places = [0.0] * len(entries), comparable(entries, self.within)
        last = {"lower": 0.0, "upper": 0.0, "bonus": 0.0, "rounds": float(len(places)), "paid": 0.0}
        if buffers.recent and places:
            lower, upper = dual.parts(standardized([entries[n] for n in places], buffers, self.within))
            on = float(len(buffers.positive) >= self.start)
            bonus = on * (self.alpha * self._tempered(lower) - self.beta * self._tempered(upper))
            for place, value in zip(places, bonus.tolist(), strict=True):
                bonuses[place] = value
            means = {"lower": lower, "upper": upper, "bonus": bonus}
            last |= {**{name: float(parts.mean()) for name, parts in means.items()}, "paid": on}
        return bonuses, last

    def _tempered(self, parts: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The parts of a bound, normalized and clipped."""
        if self.normalize:
            parts = parts / parts.square().mean().sqrt().clamp_min(1.0)
        return parts if self.bonus_clip is None else parts.clamp(-self.bonus_clip, self.bonus_clip)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def _buffers(memory: Memory) -> Buffers:
    return Buffers(*(memory.get(name, ()) for name in ("positive", "negative", "recent")))


def with_bonuses(groups: Sequence[Group[object]], bonuses: Sequence[float]) -> list[Group[object]]:
    """The same groups in which every round's reward is the joint one and a bonus; one bonus per round, in order."""
    paid = iter(bonuses)

    def rewarded(step: Step[object]) -> Step[object]:
        reward = joint_reward(step) + next(paid)
        return replace(step, rewards=dict.fromkeys(step.rewards, reward))

    def within(episode: Episode[object]) -> Episode[object]:
        return replace(episode, steps=tuple(map(rewarded, episode.steps)))

    return [replace(group, episodes=tuple(map(within, group.episodes))) for group in groups]
