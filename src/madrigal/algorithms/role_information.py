"""Roles by information: a bonus for answers that tell who gave them, over MAGRPO's group mean.

    R'_i = R + weight * ( ln q(z_i | u_i) + ln Z )           u_i: what agent i said in the round, z_i: its role

The second part is in the mean at most the mutual information of role and answer (`role_classifier`): what is paid for
is behavior that differs by role. The reward of the task says which behavior; the bonus only that it be told apart. A
team of one policy starts from a place where no single agent gains by being another, and has to leave it by chance.

The role of an agent is the one that the task says (`details["roles"]` of a step, see `tasks.roles`), else its name:
then it is the seats that are to be told apart. The bonus is each agent's own. Siblings have the same role, so that ln Z
does not move their advantages; it makes the reported number a bound. The classifier judges answers that it has not
learned from, and then learns from them.

References:
    Eysenbach et al., 2018, "Diversity is All You Need", arXiv:1802.06070. Wang et al., 2020, "ROMA: Multi-Agent
    Reinforcement Learning with Emergent Roles", arXiv:2003.08039. Li et al., 2021, "Celebrating Diversity in Shared
    Multi-Agent Reinforcement Learning", arXiv:2106.02195: information between agent and behavior, beside the reward.
    Words in place of states, and MAGRPO's baseline, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.answer_groups import credit_by_round, returns_of
from madrigal.algorithms.checks import check_finite, check_least, check_positive, check_usual
from madrigal.algorithms.objective import Clip, Kl, Reduction, Updates, objective
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, ConfigError, Episode, Group, Sample, joint_reward

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, Any]
ROLES = "roles"  # where the details of a step say the role of each agent


@dataclass(frozen=True, slots=True)
class RoleInformation:
    """A bonus for being told apart, over MAGRPO's group mean. All numbers are ours.

    Attributes:
        width: G, the episodes of each example, as in MAGRPO.
        weight: of the bonus, in units of reward per nat; with 0 this is MAGRPO, and the bound is still measured. Where
            it is large beside the task's reward, nonsense that tells who said it pays best.
        floor: the share of q that every role has, whatever was said.
        fits: steps of the classifier in a training step.
        classifier_lr: of these steps; the classifier is convex, and up to 1 is stable.
        decay: pulls the classifier's weights towards 0, that is to knowing nothing.
        discount: of later rounds' rewards and bonuses.
        reward_shift: added to every reward.
    """

    name: Name = "role_information"
    width: int = 4
    weight: float = 0.3
    floor: float = 0.05
    fits: int = 10
    classifier_lr: float = 1.0
    decay: float = 0.01
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: Clip = None
    kl: Kl = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_usual(self.width, self.discount, self.reward_shift, self.clip, self.kl)
        check_finite(weight=self.weight)
        check_least(1, fits=self.fits)
        check_least(0, decay=self.decay)
        check_positive(classifier_lr=self.classifier_lr)
        if not 0 < self.floor < 1:
            raise ConfigError(f"algorithm.floor: expected more than 0 and less than 1, got {self.floor}; 0.05 is usual")

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        reference: Literal["", "loss"] = "loss" if self.kl > 0 else ""
        return Needs(reference, agents=2)

    def begin(self) -> Memory:
        """No classifier yet."""
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Pays the bonus, compares siblings as MAGRPO does, then lets the classifier learn of these answers.

        Memory holds the classifier, and `last`, what `report` says of this step.
        """
        from madrigal.algorithms.role_classifier import loaded
        from madrigal.maths.advantages import group_mean

        classifier = loaded(memory.get("classifier", {}))
        said = [answers_of(episode) for group in groups for episode in group.episodes]
        every = [answer for answers in said for answer in answers]
        roles, texts = [answer.role for answer in every], [answer.text for answer in every]
        parts = classifier.information(roles, texts, self.floor)
        paid = [{} for _ in said] if not self.weight else _by_episode(said, [self.weight * part for part in parts])
        samples = credit_by_round(
            with_own_bonuses(groups, paid),
            returns_of(lambda step, agent: step.rewards[agent] + self.reward_shift, self.discount),
            group_mean,
            self.updates,
        )
        fitted = classifier.fitted(roles, texts, self.fits, self.classifier_lr, self.decay)
        last = {"information": fmean(parts), "bonus": self.weight * fmean(parts), "roles": float(len(fitted.roles))}
        return samples, {"classifier": fitted.to_json(), "last": last}

    def report(self, memory: Memory) -> dict[str, float]:
        """What was paid in the last step.

        `information` is the mean of b in nats, a lower bound on the mutual information of role and words, at most ln
        `roles`; `bonus` is what was paid for it, in units of reward.
        """
        return dict(memory.get("last", {}))

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """What an agent said in a round, as one text, and the role that it had.

    Attributes:
        place: of the round among those of its episode.
    """

    agent: AgentId
    place: int
    role: str
    text: str


def answers_of(episode: Episode[object]) -> list[RoleAnswer]:
    """What each agent said in each round; who was silent has none."""
    found = []
    for place, step in enumerate(episode.steps):
        turns = [turn for turn in episode.turns if turn.round == episode.start.round + place]
        roles = step.details.get(ROLES, {})
        for agent in dict.fromkeys(turn.agent for turn in turns):
            text = "\n".join(turn.completion.text for turn in turns if turn.agent == agent)
            found.append(RoleAnswer(agent, place, roles.get(agent, agent), text))
    return found


Bonuses = dict[tuple[AgentId, int], float]  # of an episode, by agent and place of the round


def _by_episode(said: Sequence[Sequence[RoleAnswer]], bonuses: Sequence[float]) -> list[Bonuses]:
    paid = iter(bonuses)
    return [{(answer.agent, answer.place): next(paid) for answer in answers} for answers in said]


def with_own_bonuses(groups: Sequence[Group[object]], bonuses: Sequence[Bonuses]) -> list[Group[object]]:
    """The same groups in which every agent's reward is the joint one and its own bonus; one entry per episode."""
    paid = iter(bonuses)

    def rewarded(episode: Episode[object], own: Bonuses) -> Episode[object]:
        steps = tuple(
            replace(step, rewards={agent: joint_reward(step) + own.get((agent, n), 0.0) for agent in step.rewards})
            for n, step in enumerate(episode.steps)
        )
        return replace(episode, steps=steps)

    return [replace(group, episodes=tuple(rewarded(each, next(paid)) for each in group.episodes)) for group in groups]
