"""All that learns in a run, policies and critics: the scores of turns before credit, and the update after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from madrigal.learning.critic_learner import CriticLearner
from madrigal.learning.critics import Critics
from madrigal.learning.embeddings import Embedder
from madrigal.learning.learner import Learner, LossFunction
from madrigal.learning.rates import with_rate
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.maths.losses import mean_per_token, negative_log_likelihood
from madrigal.policies.local import LocalPolicy, map_policies
from madrigal.policies.team import Team
from madrigal.rollouts.tree import walk, with_scores
from madrigal.types import AgentId, ConfigError, Group, Sample, TrainingError, Turn

R = TypeVar("R")
LIKELIHOOD = ("loss", "entropy", "gradient_norm", "lr", "sequences", "tokens")  # what is reported of such a step


@dataclass(frozen=True, slots=True)
class Learners:
    """The learners of a run.

    Attributes:
        team: who took a turn.
        policies: one learner for each trainable policy, by its name.
        critics: one for each policy, or one for all; none where the algorithm needs none.
        loss: what policies minimize.
        reads_reference: whether credit reads log-probs of the reference policies.
        embedder: makes vectors of prompts and answers, where credit reads them.
        in_turn: whether policies that could learn side by side do so one after the other, which takes less memory.
        elsewhere: whether each learns on a machine or in a process of its own, so that all do at once.
    """

    team: Team
    policies: Mapping[str, Learner]
    critics: Critics
    loss: LossFunction
    reads_reference: bool = False
    embedder: Embedder | None = None
    in_turn: bool = False
    elsewhere: bool = False

    @property
    def by_name(self) -> dict[str, Learner | CriticLearner]:
        return {**self.policies, **self.critics.learners}

    def read(self, groups: Sequence[Group[Any]]) -> list[Group[Any]]:
        """The groups with the scores of every turn: values, reference log-probs, embeddings, if credit reads them.

        Greedy and solo episodes are not read.
        """
        scores, turns = self.critics.read(groups), [turn for _, _, turn in walk(groups)]
        if self.reads_reference:
            logprobs = self._reference_logprobs(turns)
            scores = [replace(each, ref_logprobs=row) for each, row in zip(scores, logprobs, strict=True)]
        if self.embedder:
            pairs = self.embedder.read(turns)
            scores = [
                replace(each, prompt_embedding=prompt, answer_embedding=answer)
                for each, (prompt, answer) in zip(scores, pairs, strict=True)
            ]
        return with_scores(groups, scores)

    def _reference_logprobs(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Of each turn's tokens, under its policy's reference; () of turns from which no policy learns."""
        places = {name: [n for n, turn in enumerate(turns) if self._spoke(name, turn)] for name in self.policies}

        def read(body: LocalPolicy) -> list[tuple[float, ...]]:
            return self.policies[body.name].reference_logprobs([turns[n] for n in places[body.name]])

        logprobs: list[tuple[float, ...]] = [()] * len(turns)
        for body, rows in zip(self._bodies, self._map(read, self._bodies), strict=True):
            for place, row in zip(places[body.name], rows, strict=True):
                logprobs[place] = row
        return logprobs

    def update(
        self, groups: Sequence[Group[Any]], stages: Sequence[Sequence[Sample]], scale: float = 1.0
    ) -> dict[str, dict[str, float]]:
        """Every policy learns from its own agents' turns, every critic from its own lessons; returns a report of each.

        On a CPU they work side by side, unless memory is short.

        Args:
            scale: the learning rate of this training step as a share of the peak.

        Raises:
            TrainingError: before anything has moved, if an advantage or a return is not finite.
        """
        check_finite([sample for stage in stages for sample in stage])
        shares = {n: [[s for s in stage if self._spoke(n, s.turn)] for stage in stages] for n in self.policies}
        lessons = self.critics.lessons(stages)

        def update(body: LocalPolicy) -> dict[str, float]:
            name = body.name
            if name in lessons:
                return self.critics.learners[name].update(lessons[name], scale)
            totals = [examples_in(groups, stage) for stage in shares[name]]
            return self.policies[name].update(shares[name], self.loss, totals, scale)

        bodies = [*self._bodies, *self.critics.bodies]
        reports = self._map(update, bodies, in_turn=self.in_turn)
        return {body.name: report for body, report in zip(bodies, reports, strict=True)}

    def imitate(self, turns: Sequence[Turn], lr: float | None) -> dict[str, dict[str, float]]:
        """Every policy makes one optimizer step of maximum likelihood on its own agents' turns; a report of each.

        Args:
            lr: the learning rate; None is one that fits each model.
        """
        samples = [Sample(turn, 0.0, 0.0) for turn in turns]

        def fit(body: LocalPolicy) -> dict[str, float]:
            learner = self.policies[body.name]
            own = [sample for sample in samples if self._spoke(body.name, sample.turn)]
            rate = with_rate(replace(learner.config, lr=lr), body).lr or 0.0
            report = learner.update([own], likelihood, scale=rate / learner.optimizer.peak, sampled=False)
            return {key: value for key, value in report.items() if key in LIKELIHOOD}

        return dict(zip(self.policies, self._map(fit, self._bodies, in_turn=self.in_turn), strict=True))

    def begin_anew(self) -> None:
        """Drops the moments of all policies' optimizers; their weights stay."""
        for learner in self.policies.values():
            learner.optimizer.forget()

    def _map(
        self, work: Callable[[LocalPolicy], R], bodies: Sequence[LocalPolicy], *, in_turn: bool = False
    ) -> list[R]:
        if not (self.elsewhere and bodies):
            return map_policies(work, bodies, in_turn=in_turn)
        with ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(work, bodies))

    @property
    def _bodies(self) -> list[LocalPolicy]:
        return [learner.policy for learner in self.policies.values()]

    def _spoke(self, name: str, turn: Turn) -> bool:
        return self.team.spoke(self.policies[name].policy, turn)

    def states(self) -> dict[str, dict[str, Any]]:
        """By name all that a later process needs to go on with the very same numbers."""
        return {name: learner.state() for name, learner in self.by_name.items()}

    def restore(self, states: dict[str, dict[str, Any]]) -> None:
        """Takes up what `states` wrote, and empties it.

        Raises:
            ConfigError: if others have learned there, or they had other parameters.
        """
        if set(states) != set(self.by_name):
            raise ConfigError(
                f"the checkpoint holds {', '.join(states)}, this run trains {', '.join(self.by_name)}; resume with "
                "the settings that it was started with"
            )
        for name, learner in self.by_name.items():
            learner.restore(states.pop(name))  # one after the other leaves memory


def likelihood(output: PolicyOutput, batch: Batch) -> Tensor:
    """The cross entropy of answers, in nats, mean over the tokens of the optimizer step; prompts are not learned."""
    terms = negative_log_likelihood(output.logprobs) * batch.weights[:, None]
    return mean_per_token(terms, batch.mask, batch.tokens)


def examples_in(groups: Sequence[Group[Any]], stage: Sequence[Sample]) -> float:
    """The number of examples in the mean of one policy's stage, once for each agent that the policy speaks for.

        J = 1/N sum_n  1/G sum_g  sum_t A log pi          for each agent; the mean over its agents

    All siblings that started count, ended or not: `Turn.weight` holds the 1/G. An example in which somebody who shows
    no tokens sat in an agent's seat has nothing to say of this policy.
    """
    agents = {sample.turn.agent for sample in stage if sample.turn.completion.token_ids}
    return float(sum(not _hides(group, agent) for group in groups for agent in agents))


def _hides(group: Group[Any], agent: AgentId) -> bool:
    """Whether an agent took a turn in an example without showing its tokens."""
    return any(turn.agent == agent and not turn.completion.token_ids for _, _, turn in walk([group]))


def check_finite(samples: Sequence[Sample]) -> None:
    """Refuses credit that is not a number, before any policy or critic has moved.

    Raises:
        TrainingError: naming agent and round.
    """
    for sample in samples:
        numbers = (sample.advantage, sample.return_, *sample.token_advantages, *sample.token_returns)
        if not all(map(math.isfinite, numbers)):
            raise TrainingError(
                f"agent {sample.turn.agent}, round {sample.turn.round}: an advantage is {sample.advantage} and its "
                f"return {sample.return_}, expected finite numbers; no weights were changed; look at the rewards"
            )
