"""Group-relative policy gradients: eleven published methods that are one record with other settings.

    A = (X - baseline) / scale            X is what an answer is credited with

The presets stand at the end of this file, each with its equation and paper:

    method               siblings are         X: rewards, over        baseline  scale   loss
    MAGRPO               G chains (or tree)   joint, to go            mean      -       plain
    REINFORCE            G chains             joint, to go            none      -       plain
    RLOO                 G chains             joint, to go            others    -       plain
    REMAX                G chains             joint, to go            greedy    -       plain
    COMA                 a crossed tree       joint, to go            others    -       plain
    INDEPENDENT_GRPO     G chains             own, to go              mean      group   clipped
    AT_GRPO              a round's answers    joint, of the round     mean      group   clipped
    MULTI_TURN_GRPO      whole chains         joint, of all rounds    mean      group   clipped
    MATPO                whole chains         joint, of the last      mean      group   clipped
    DR_MAS               an agent's steps     joint, of all rounds    mean      group   clipped
    LEAVE_ONE_OUT_TEAM   G chains             joint, to go + added    mean      batch   clipped
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.checks import check_finite, check_least, check_usual
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import (
    Siblings,
    Updates,
    advantages_of,
    broadcast_return,
    optimizer_steps,
    returns_of,
    siblings,
)
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
        name: of the preset that it started from.
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
        clip: PPO's range on the ratio to the log-probs at sampling; None is the plain policy gradient.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        updates: one optimizer step per "turn", last round first (Algorithm 1 of MAGRPO), or one per "episode".
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
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
    clip: float | None = None
    kl: float = 0.0
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
        compared = list(self._compared(groups))
        rows = [self._advantages(each) for each in compared]
        if self.scale == "batch":
            rows = on_one_scale(rows, self.ddof, self.epsilon)
        samples = [sample for each, row in zip(compared, rows, strict=True) for sample in each.credited(row)]
        return optimizer_steps(samples, self.updates), memory

    def _compared(self, groups: Sequence[Group[object]]) -> Iterator[Siblings]:
        if not self._whole:
            return siblings(groups, self._credited)
        by_step = self.among == "own_steps"
        return broadcast_return(groups, self._credited, step_by_step=by_step, average_turns=self.average_turns)

    def _credited(self, episode: Episode[object], agent: AgentId) -> Sequence[float]:
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

    def _advantages(self, each: Siblings) -> list[float]:
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

    def _greedy(self, each: Siblings) -> float:
        """What greedy play came to from the round of these answers on; 0 where it had ended: nothing was left."""
        if each.group.greedy is None:
            raise ValueError("baseline greedy: this group has no greedy episode; play it with greedy=True")
        values = self._credited(each.group.greedy, each.agent)
        return dict(enumerate(values, start=each.group.origin.round)).get(each.round, 0.0)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def on_one_scale(rows: Sequence[Sequence[float]], ddof: int = 1, epsilon: float = EPSILON) -> list[list[float]]:
    """Divides all advantages by their common deviation; without spread in any row all are 0.

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


MAGRPO = GroupRelative()
"""MAGRPO, multi-agent group-relative policy optimization: every default is the paper's choice.

    Eq. 1   A_t^(g) = R_t^(g) - 1/G * sum_g' R_t^(g')              the same advantage for every agent, no std
    Eq. 2   J(theta_i) = E[ 1/G * sum_g A_t^(g) * log pi_i(a_i,t^(g) | h_i,t^(g)) ]      no ratio, no clip, no KL

With one agent this is GRPO's group baseline without the division by the standard deviation.

References:
    Liu, Chen, Liang, Lyu, Amato, 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652:
    Algorithm 1 (chains: AAAI text) and the Eq. 2 of its second version (`tree`).
"""

REINFORCE = replace(MAGRPO, name="reinforce", baseline="none")
"""MA-REINFORCE: A_t^(g) = R_t^(g). Unbiased and noisy: where all rewards are positive every answer is pushed up.

References:
    Williams, 1992, "Simple statistical gradient-following algorithms"; as MA-REINFORCE beside MAGRPO in the public code
    of arXiv:2508.04652.
"""

RLOO = replace(MAGRPO, name="rloo", baseline="others")
"""MA-RLOO: A_t^(g) = R_t^(g) - 1/(G-1) * sum_{g' != g} R_t^(g').

MAGRPO's baseline contains the answer that it judges and shrinks the gradient by (G-1)/G; this one does not. With equal
groups the two differ by that factor only, and where episodes end early by one factor per round.

References:
    Ahmadian et al., 2024, "Back to Basics", arXiv:2402.14740; as MARLOO in the public code of arXiv:2508.04652.
"""

REMAX = replace(MAGRPO, name="remax", baseline="greedy")
"""MA-ReMax: A_t^(g) = R_t^(g) - R_t^greedy, the return of the same round of an episode of the most likely words.

Where that episode ended earlier R_t^greedy is 0. Leaving such rounds out would be a biased gradient, because answers
that are worth something there would never be credited. The paper has a width of 1; 4 is ours.
Not the MAREMAX of the public code of arXiv:2508.04652, which subtracts the best return of the group.

References:
    Li et al., 2023, "ReMax", arXiv:2310.10505.
"""

COMA = replace(MAGRPO, name="coma", tree=True, crossed=True, baseline="others")
"""COMA's counterfactual baseline over crossed joint actions: what if I had answered otherwise, and nobody else?

    A_i(k | a_-i) = Q(a_i^k, a_-i) - 1/(K-1) * sum_{k' != k} Q(a_i^k', a_-i)        partners' words fixed
    A_i(k)        = mean over a_-i of A_i(k | a_-i)                                   the credit of answer k

Baseline and mean over partners are linear, so their order does not matter: this is leave-one-out on the mean over
partners (proved in tests/algorithms/test_coma.py), and with baseline "mean" MAGRPO over crossed trees. COMA asks a
critic for Q; here all K ** A joint actions of K answers each are judged, which is ours. COMA's sum over the policy
contains the answer that it judges; of K draws it must be left out. With one agent it is RLOO.

References:
    Foerster, Farquhar, Afouras, Nardelli, Whiteson, 2018, "Counterfactual Multi-Agent Policy Gradients", Eq. 4,
    arXiv:1705.08926.
"""

INDEPENDENT_GRPO = replace(MAGRPO, name="independent_grpo", joint_weight=0.0, own_weight=1.0, scale="group", clip=0.2)
"""GRPO for each agent by itself: A_{i,t} = (R_{i,t} - mean R_{i,t}) / (std R_{i,t} + epsilon), of its own rewards.

What a shared reward is measured against. Each agent may settle where it alone cannot gain, short of what all could
have: in the matrix game of appendix A of arXiv:2508.04652v2 own rewards reach 7 of 10.

References:
    Shao et al., 2024, "DeepSeekMath" (GRPO), arXiv:2402.03300, once per agent.
"""

AT_GRPO = replace(
    MAGRPO, name="at_grpo", tree=True, follow="best", over="round", scale="group", clip=0.2, updates="episode"
)
"""AT-GRPO: K candidates of each round from one state; play goes on from the best of them.

    r_{t,i}^(k) = alpha * r_team^(k) + r_loc,i^(k)          joint_weight alpha, 1 in the paper; own_weight 1 adds r_loc
    A_{t,i}^(k) = (r_{t,i}^(k) - mean_k r_{t,i}) / std_k r_{t,i}

Groups of plain GRPO hold chains whose later prompts differ; these are keyed by (example, agent, turn), at the cost of
K H joint actions, not K^H. Credit ends with the round, so an answer that pays only later is not credited for it. The
width was not found; 4 is ours.

References:
    "Stronger-MAS" (AT-GRPO), 2025, arXiv:2510.11062.
"""

MULTI_TURN_GRPO = replace(MAGRPO, name="multi_turn_grpo", over="episode", scale="group", clip=0.2, updates="episode")
"""Multi-turn GRPO: whole episodes are compared, and every turn gets the result.

    A_i = (R_i - mean_i R) / std_i R                         R_i the joint return of episode i
    J   = E[ 1/G sum_i  w_i  sum_t  A_i log pi(a_{i,t}) ]    w_i = 1, or with `average_turns` 1 / T_i

The 1/T_i is ReMA's. It makes agents lazy: of two equally good episodes the shorter one has the larger gradient in each
of its turns, so answers that skip the work are reinforced first. It is off here for that reason. Dr. MAMR, which found
this, adds a causal influence and a restart reward; their weights are not published and they are not built. ReMA takes
one ratio per turn, here it is one per token. The width is ours.

References:
    ReMA, 2025, arXiv:2503.09501; "Dr. MAMR", 2025, arXiv:2511.02303.
"""

MATPO = replace(MULTI_TURN_GRPO, name="matpo", width=8, over="final")
"""MATPO: A^(g) = (r_last^(g) - mean_g r_last) / std_g r_last for all turns of all agents of episode g.

r_last is the joint reward of the episode's last round, whenever that was; rewards of earlier rounds are not read. A
worker's turns are right whenever the final answer is, so episodes that ended early stay in the comparison.

References:
    "MATPO", 2025, arXiv:2510.04678: one model plays planner and workers; 8 rollouts of a query.
"""

DR_MAS = replace(MULTI_TURN_GRPO, name="dr_mas", width=8, among="own_steps", epsilon=1e-6)
"""Dr. MAS: every agent's steps are compared with its own steps only.

    A_{i,k} = (R_i - mu_k) / (sigma_k + epsilon)          R_i the joint return of episode i

mu_k and sigma_k (ddof 1) are over the steps in which agent k was active, in the rollouts of one example: an agent that
acts twice counts twice, one that is silent not at all. With the mean and deviation of everybody's steps instead, the
second moment of agent k's gradient is multiplied by (sigma_k^2 + (mu_k - mu)^2) / sigma^2 (Lemma 4.2): an agent that is
called mainly in hard or in easy episodes gets inflated gradients. A single step gets 0; the public code credits it with
its raw return. `scale` "none" is its `remove_std`. The paper has 8 rollouts for mathematics, 5 for search.

References:
    Feng, Zheng, He, Zhang, An, 2026, "Dr. MAS", arXiv:2602.08847.
"""

LEAVE_ONE_OUT_TEAM = replace(
    MAGRPO, name="leave_one_out_team", joint_weight=0.5, difference_weight=0.5, scale="batch", clip=0.2
)
"""Leave-one-out team credit: an answer is worth what the round would have lost without it.

    X_{i,t} = joint_weight * R_t + difference_weight * (r_t - r_t^{-i})       R_t the joint return to go
    A_{i,t} = (X_{i,t} - mean X_{i,t}) / sigma                                sigma over the batch

A teammate's good answer raises R_t of everybody and no difference but its own. What an answer moves others to say in
later rounds is in R_t only, which is why the two are mixed.

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: group-relative advantages, leave-one-out team credit "without the current move",
    batch-scaled rewards. How the move is taken away, how the credits are joined and what is scaled is not published: a
    silent agent (the action ""), the mixture, the deviation over the batch and all numbers are ours.
"""
