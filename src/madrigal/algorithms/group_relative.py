"""Group-relative policy gradients: an answer is compared with its siblings.

    A = (X - baseline) / scale            X is what an answer is credited with

The published methods that are settings of this record stand in `group`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.answer_groups import AnswerGroup, advantages_of, by_episode, by_round, returns_of
from madrigal.algorithms.checks import check_finite, check_least, check_usual
from madrigal.algorithms.objective import Clip, Kl, Reduction, Updates, objective, optimizer_steps
from madrigal.rollouts.branching import Branching
from madrigal.settings import EPSILON
from madrigal.types import AgentId, ConfigError, Episode, Group, Sample, Step, TrainingError, joint_reward

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class GroupRelative:
    """A policy gradient whose advantages compare answers with their siblings; as it comes, MAGRPO.

    Attributes:
        width: G, the answers of each agent that are compared with each other; 1 will do where `baseline` compares
            nothing.
        tree: False plays G parallel chains; True parts again after every joint action, G ** H leaves, and bootstraps
            with the mean over the children.
        follow: in a tree, "all" siblings go on, or only the "best", whose round earned most: K * H joint actions.
        crossed: judge all G ** A combinations of answers; an answer's X is the mean over those it is in.
        leaf_limit: the most episodes that one example may turn into.
        stop_above: a branch whose reward in a round exceeds this ends there, before the shift; None plays on. The
            later public code of MAGRPO ends a branch when the mean over its siblings does.
        joint_weight: of the joint reward in X.
        own_weight: of the agent's own reward in X; the same number where the task's reward is joint.
        difference_weight: in X, of what an agent's words add to their round: the joint reward minus the same with that
            agent silent (`Step.counterfactual_rewards`). Whatever `over`, it counts for its own round.
        over: X is the return "to_go" from the answer's round on, the reward of its "round", the return of the whole
            "episode", or the reward of its "final" round; every turn of a chain gets the last two.
        baseline: X is compared with the "mean" of the siblings, with that of the "others", with what the most likely
            words came to ("greedy"), or with "none". Siblings that ended earlier are no baseline for later rounds.
        among: siblings are the "siblings" of one round, or episodes where `over` is of whole ones; with "own_steps"
            every turn of the agent in any episode of the example is one.
        scale: divide advantages by the deviation of their "group"; by that of the "batch", one number for all agents
            and examples of the step, which keeps groups with little spread small; or not ("none"). TRL's "batch" is
            the deviation of raw rewards.
        ddof: 1 takes the sample's deviation, 0 the population's.
        epsilon: added to the deviation: A / (std + epsilon).
        average_turns: count every turn 1/T of its episode of T rounds, as ReMA does; breeds lazy agents.
        discount: of later rounds' rewards.
        reward_shift: added to every reward. With several rounds and positive rewards an early success would earn less
            than a late one; later configs of MAGRPO shift coding rewards by -4, so that the best is 0.
    """

    name: Name = "magrpo"
    width: int = 4
    tree: bool = False
    follow: Literal["all", "best"] = "all"
    crossed: bool = False
    leaf_limit: int = 256
    stop_above: float | None = None
    joint_weight: float = 1.0
    own_weight: float = 0.0
    difference_weight: float = 0.0
    over: Literal["to_go", "round", "episode", "final"] = "to_go"
    baseline: Literal["none", "mean", "others", "greedy"] = "mean"
    among: Literal["siblings", "own_steps"] = "siblings"
    scale: Literal["none", "group", "batch"] = "none"
    ddof: Literal[0, 1] = 1
    epsilon: float = EPSILON
    average_turns: bool = False
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: Clip = None
    kl: Kl = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        alone = self.baseline in ("none", "greedy") and self.scale != "group"
        check_usual(self.width, self.discount, self.reward_shift, self.clip, self.kl, least=1 if alone else 2)
        check_finite(stop_above=self.stop_above)
        check_least(1, leaf_limit=self.leaf_limit)
        check_least(0, "TRL has 1e-4", epsilon=self.epsilon)
        check_least(0, joint_weight=self.joint_weight, own_weight=self.own_weight)
        check_least(0, difference_weight=self.difference_weight)
        if not (self.joint_weight or self.own_weight or self.difference_weight):
            raise ConfigError(
                "algorithm.joint_weight: expected a positive weight such as 1.0 here, or as algorithm.own_weight or "
                "algorithm.difference_weight; all are 0, which leaves no reward to credit"
            )
        for name, wrong, expected in self._conflicts():
            if wrong:
                raise ConfigError(f"algorithm.{name}: {expected}; change one of them")

    @property
    def _whole(self) -> bool:
        return self.over in ("episode", "final")

    def _conflicts(self) -> Iterator[tuple[str, bool, str]]:
        """Settings that exclude each other: which, whether they do, what was expected."""
        best, whole = self.follow == "best", self._whole
        yield "follow", best and not self.tree, "best expected algorithm.tree, chains all go on"
        yield "follow", best and self.over != "round", "best expected algorithm.over round, the others go no further"
        chains = f"{self.over} expected chains, with algorithm.tree and algorithm.crossed off"
        yield "over", whole and (self.tree or self.crossed), chains
        together = "expected algorithm.over episode or final, where all turns of an episode come to the same"
        yield "among", self.among == "own_steps" and not whole, f"own_steps {together}"
        yield "average_turns", self.average_turns and not whole, together
        rounds = "expected algorithm.over to_go or round, since what words add is judged round by round"
        yield "difference_weight", self.difference_weight > 0 and whole, rounds

    @property
    def branching(self) -> Branching:
        return Branching(
            self.width,
            at="round" if self.tree else "start",
            crossed=self.crossed,
            limit=self.leaf_limit,
            stop_above=self.stop_above,
            greedy=self.baseline == "greedy",
            follow=self.follow,
        )

    @property
    def needs(self) -> Needs:
        own = self.own_weight > 0
        optional = own and (self.joint_weight > 0 or self.difference_weight > 0)
        return Needs(
            reference="loss" if self.kl > 0 else "",
            rewards="own" if own else "any",
            otherwise="leave algorithm.own_weight at 0" if optional else "",
            reads_own=own,
            counterfactual_rewards=self.difference_weight > 0,
        )

    def begin(self) -> Memory:
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Compares every answer with its siblings."""
        answers = list(self._answer_groups(groups))
        rows = [self._advantages(each) for each in answers]
        if self.scale == "batch":
            rows = on_one_scale(rows, self.ddof, self.epsilon)
        samples = [sample for each, row in zip(answers, rows, strict=True) for sample in each.samples(row)]
        return optimizer_steps(samples, self.updates), memory

    def _answer_groups(self, groups: Sequence[Group[object]]) -> Iterator[AnswerGroup]:
        if not self._whole:
            return by_round(groups, self._returns)
        each_turn = self.among == "own_steps"
        return by_episode(groups, self._returns, each_turn=each_turn, average_turns=self.average_turns)

    def _returns(self, episode: Episode[object], agent: AgentId) -> Sequence[float]:
        """X of an agent's answers, round by round."""
        if self.over in ("to_go", "episode"):
            values = returns_of(self._reward, self.discount)(episode, agent)
        else:
            values = [self._reward(step, agent) for step in episode.steps]
        if self.over == "final":
            values = values[-1:]
        if not self.difference_weight:
            return values
        added = [self.difference_weight * difference(step, agent) for step in episode.steps]
        return [value + part for value, part in zip(values, added, strict=True)]

    def _reward(self, step: Step[object], agent: AgentId) -> float:
        reward = self.joint_weight * (joint_reward(step) + self.reward_shift)
        return reward + self.own_weight * (step.rewards[agent] + self.reward_shift) if self.own_weight else reward

    def _advantages(self, each: AnswerGroup) -> list[float]:
        import torch

        from madrigal.maths.advantages import greedy, group_mean, leave_one_out

        match self.baseline:
            case "mean":
                row = advantages_of(each.returns, group_mean)
            case "others":
                row = advantages_of(each.returns, leave_one_out)
            case "greedy":
                most_likely = torch.tensor([self._greedy(each)], dtype=torch.float64)
                row = greedy(torch.tensor([each.returns], dtype=torch.float64), most_likely)[0].tolist()
            case "none":
                row = list(each.returns)
        return on_one_scale([row], self.ddof, self.epsilon)[0] if self.scale == "group" else row

    def _greedy(self, each: AnswerGroup) -> float:
        """What greedy play came to from the round of these answers on; 0 where it had ended: nothing was left."""
        if each.group.greedy is None:
            raise ValueError("baseline greedy: this group has no greedy episode; play it with greedy=True")
        values = self._returns(each.group.greedy, each.agent)
        return dict(enumerate(values, start=each.group.origin.round)).get(each.round, 0.0)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def on_one_scale(rows: Sequence[Sequence[float]], ddof: int = 1, epsilon: float = EPSILON) -> list[list[float]]:
    """Advantages divided by one standard deviation, that of all rows together; all 0 where nothing differs.

    >>> on_one_scale([[2.0, -2.0], [0.0, 0.0, 0.0]], epsilon=0.0)[0]
    [1.414213562373095, -1.414213562373095]
    """
    import torch

    from madrigal.maths.advantages import standardize

    together = torch.tensor([[advantage for row in rows for advantage in row]], dtype=torch.float64)
    scaled = iter(standardize(together, ddof, epsilon)[0].tolist())
    return [[next(scaled) for _ in row] for row in rows]


def difference(step: Step[object], agent: AgentId) -> float:
    """What an agent's words add to a round, r - r without them; 0 for an agent that said nothing.

    Raises:
        TrainingError: if nobody judged the round without its speakers, or the result is no finite number.
    """
    if not step.counterfactual_rewards:
        raise TrainingError(
            "algorithm.difference_weight: expected rounds that were also judged without each agent, got none; play "
            "them with the judge of madrigal.rollouts.rewards.with_counterfactuals"
        )
    added = joint_reward(step) - step.counterfactual_rewards.get(agent, joint_reward(step))
    if not math.isfinite(added):
        raise TrainingError(
            f"algorithm.difference_weight: expected a finite reward without {agent}, got "
            f"{step.counterfactual_rewards[agent]}; mend the reward"
        )
    return added
