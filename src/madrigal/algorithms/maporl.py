"""MAPoRL: multi-agent PPO on discussions, where an answer is paid for what the others make of it.

    reward of an answer      influence-aware score + incentives, or a penalty for an answer that is none
    reward of token i        r_i = -kl * (log pi - log pi_ref), and the answer's reward on its last token
    advantages               GAE along the tokens of that answer alone, then whitened per round and agent
    loss                     the clipped surrogate; critics learn the returns beside it

Nothing is bootstrapped from round to round: what later rounds owe to an answer is in its reward. Where every round has
a policy of its own (`team.rounds`), each is trained on its round.

References:
    Park, Han, Guo, Ozdaglar, Zhang, Kim, 2025, "MAPoRL: Multi-Agent Post-Co-Training for Collaborative Large Language
    Models with Reinforcement Learning", arXiv:2502.18439, and its public code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from madrigal.algorithms import CriticNeed, Name, Needs
from madrigal.algorithms.checks import check_finite, check_least, check_share, check_usual
from madrigal.algorithms.objective import Reduction, in_minibatches, objective
from madrigal.algorithms.scores import needed
from madrigal.maths.returns import gae
from madrigal.rollouts.branching import Branching
from madrigal.types import Episode, Group, Sample, TrainingError, Turn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, int]
RIGHT = 0.5  # a score above it counts as right where the task does not say what was right; the code's threshold


@dataclass(frozen=True, slots=True)
class Maporl:
    """MAPoRL with the settings of the public code as defaults.

    Attributes:
        width: discussions of each example; they are not compared with each other, so one will do.
        score_discount: `rule_discount`, the weight of the next round's scores in an answer's reward.
        horizon: which scores count: a "discounted_sum" of this and later rounds, those of the "last" round, or those of
            the "current" one.
        share: whose later scores count: those of "all" agents, or the "individual" agent's own.
        alpha0, alpha1: pay for mending one's own answer against a wrong majority, and for following a right one.
        beta0, beta1: pay for a wrong answer after which the others improve, and for a right one that persuades them.
            The code's sweeps try 0, 0.5, 1 and 2; the defaults of 0 are ours.
        penalty: the reward of an answer that the task calls no proper one (too short, repetitive, without a result);
            None pays it like any other.
        penalty_spreads: put the penalty in the place of the score, as the public code does, so that it weighs on
            teammates and earlier rounds too; False keeps it with the answer.
        kl: weight of log pi - log pi_ref in the reward of each token, nats.
        token_discount, trace: gamma and lambda of GAE along the tokens of one answer.
        value_weight, value_clip: of the critics' loss, and how far a value may move from the one before the update.
        whiten: give the advantages of each round and agent mean 0 and variance 1.
        clip: PPO's range on the ratio to the log-probs at sampling.
        epochs: how often a step's answers are learned from.
        minibatches: optimizer steps per epoch; the discussions of a step are dealt out to them whole.
        first_round: the first round, from 0, whose answers are learned from; 1 trains the rebuttals only.
        focus_steps: train one round at a time, so many steps each, the last round first; 0 trains all of them in every
            step. The code has 40.
        focus_start: where `focus_steps` is set, steps before that in which only `first_round` is trained.
    """

    name: Name = "maporl"
    width: int = 1
    score_discount: float = 0.3
    horizon: Literal["discounted_sum", "last", "current"] = "discounted_sum"
    share: Literal["all", "individual"] = "all"
    alpha0: float = 0.0
    alpha1: float = 0.0
    beta0: float = 0.0
    beta1: float = 0.0
    penalty: float | None = -10.0
    penalty_spreads: bool = False
    kl: float = 0.002
    token_discount: float = 1.0
    trace: float = 0.95
    value_weight: float = 0.1
    value_clip: float | None = 0.2
    whiten: bool = True
    clip: float | None = 0.2
    epochs: int = 4
    minibatches: int = 8
    first_round: int = 0
    focus_steps: int = 0
    focus_start: int = 20
    reduction: Reduction = "token"

    def __post_init__(self) -> None:
        check_usual(self.width, clip=self.clip, kl=self.kl, least=1)
        check_share("score_discount", self.score_discount, "the public code has 0.3")
        check_share("token_discount", self.token_discount, "the public code has 1")
        check_share("trace", self.trace, "the public code has 0.95")
        check_finite(alpha0=self.alpha0, alpha1=self.alpha1, beta0=self.beta0, beta1=self.beta1, penalty=self.penalty)
        check_least(1, "the public code has 4 and 8", epochs=self.epochs, minibatches=self.minibatches)
        check_least(0, first_round=self.first_round, focus_steps=self.focus_steps, focus_start=self.focus_start)

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        critic = CriticNeed(sees="own", at="token", weight=self.value_weight, clip=self.value_clip)
        reference: Literal["", "credit"] = "credit" if self.kl > 0 else ""
        return Needs(
            reference=reference,
            critic=critic,
            rewards="own",
            rounds=self.first_round + 1,
            minibatches=self.minibatches,
            reads_own=True,
        )

    def begin(self) -> Memory:
        return {"steps": 0}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Credits every token of the answers of the rounds that are trained in this step.

        Answers that no critic judges are those of policies that do not learn.

        Raises:
            TrainingError: if a critic or the reference policy did not give one number for each token.
        """
        episodes = [(group, episode) for group in groups for episode in group.episodes]
        trained = self.trained_rounds(memory["steps"], max(len(episode.steps) for _, episode in episodes))
        samples = [list(self._samples(group, episode, trained)) for group, episode in episodes]
        stages = in_minibatches(samples, whiten=self.whiten, minibatches=self.minibatches, epochs=self.epochs)
        return stages, {"steps": memory["steps"] + 1}

    def trained_rounds(self, step: int, rounds: int) -> Collection[int]:
        """The rounds whose answers are learned from in a step.

        >>> each = Maporl(first_round=1, focus_steps=40, focus_start=20)
        >>> [list(each.trained_rounds(step, 3)) for step in (0, 19, 20, 59, 60, 100)]
        [[1], [1], [2], [2], [1], [2]]
        """
        every = range(self.first_round, rounds)
        if not self.focus_steps or len(every) < 2:
            return every
        if step < self.focus_start:
            return every[:1]
        last = rounds - 1 - (step - self.focus_start) // self.focus_steps % len(every)
        return range(last, last + 1)

    def _samples(self, group: Group[object], episode: Episode[object], trained: Collection[int]) -> Iterator[Sample]:
        rewards = self.rewards(episode, group.agents).tolist()
        for turn in episode.turns:
            if turn.round not in trained:
                continue
            if values := needed(turn.scores.values, "a critic's values", self.name, turn):
                reward = rewards[turn.round - episode.start.round][group.agents.index(turn.agent)]
                yield self._sample(turn, reward, values)

    def rewards(self, episode: Episode[object], agents: Sequence[str]) -> Float[Tensor, "H A"]:
        """What each answer of a discussion earns, before the KL term."""
        import torch

        from madrigal.algorithms.influence import incentives, influence_aware

        paid = [[step.rewards[agent] for agent in agents] for step in episode.steps]
        scores = torch.tensor(paid, dtype=torch.float64)  # as exact as the rewards are
        right, flawed = _right(episode, agents, scores), _flawed(episode, agents)
        if self.penalty is not None and self.penalty_spreads:
            scores = scores.masked_fill(flawed, self.penalty)
        rewards = influence_aware(scores, self.score_discount, self.horizon, self.share)
        rewards = rewards + incentives(right, (self.alpha0, self.alpha1), (self.beta0, self.beta1))
        return rewards if self.penalty is None else rewards.masked_fill(flawed, self.penalty)

    def _sample(self, turn: Turn, reward: float, values: Sequence[float]) -> Sample:
        answer = turn.completion
        _check_length("values", values, turn)
        rewards = [0.0] * len(answer.token_ids)
        if self.kl > 0:
            reference = needed(turn.scores.ref_logprobs, "the reference policy's log-probs", self.name, turn)
            _check_length("log-probs of the reference policy", reference, turn)
            rewards = [-self.kl * (now - ref) for now, ref in zip(answer.logprobs, reference, strict=True)]
        rewards[-1] += reward
        advantages = gae(rewards, values, self.token_discount, self.trace)
        returns = tuple(a + value for a, value in zip(advantages, values, strict=True))
        mean = sum(advantages) / len(advantages)
        return Sample(turn, mean, reward, token_advantages=tuple(advantages), token_returns=returns)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=0.0, reduction=self.reduction)


def _right(episode: Episode[object], agents: Sequence[str], scores: Tensor) -> Tensor:
    """Which answers were right: as the task's details say, else by their scores."""
    import torch

    marks = [step.details.get("right") for step in episode.steps]
    if any(row is None for row in marks):
        return scores > RIGHT
    return torch.tensor([[bool(row[agent]) for agent in agents] for row in marks if row is not None])


def _flawed(episode: Episode[object], agents: Sequence[str]) -> Tensor:
    """Which answers the task's details call no proper ones."""
    import torch

    flaws = [step.details.get("flaws", {}) for step in episode.steps]
    return torch.tensor([[bool(row.get(agent)) for agent in agents] for row in flaws])


def _check_length(what: str, scores: Sequence[float], turn: Turn) -> None:
    tokens = len(turn.completion.token_ids)
    if len(scores) != tokens:
        raise TrainingError(
            f"algorithm maporl: expected {what} for each of the {tokens} tokens that {turn.agent} said in round "
            f"{turn.round}, got {len(scores)}"
        )
