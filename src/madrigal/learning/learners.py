"""All that learns in a run, policies and critics: what is asked of them before credit, and the update after it.

Knows: who learns from which turns. Does not know: how credit is given, what is minimised, when it is time to save.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.algorithms.siblings import all_groups
from madrigal.learning.critics import CriticLearner, Critics
from madrigal.learning.embeddings import Embedder
from madrigal.learning.learner import Learner, LossFunction, side_by_side
from madrigal.policies.team import Team
from madrigal.types import AgentId, ConfigError, Group, Reading, Readings, Sample, TrainingError, Turn


@dataclass(frozen=True, slots=True)
class Learning:
    """The learners of a run.

    Attributes:
        team: who took a turn.
        policies: one learner for each trainable policy, by its name.
        critics: theirs.
        loss: what policies minimise.
        past: whether credit reads what the policies would have said at the start of training.
        embedder: makes vectors of what was shown and said, where credit asks for them.
    """

    team: Team
    policies: Mapping[str, Learner]
    critics: Critics
    loss: LossFunction
    past: bool = False
    embedder: Embedder | None = None

    @property
    def everyone(self) -> dict[str, Learner | CriticLearner]:
        return {**self.policies, **self.critics.learners}

    def read(self, groups: Sequence[Group[Any]]) -> Readings:
        """What critics, reference policies and encoders say of the turns that were played, where credit asks for it."""
        values, past = self.critics.read(groups), dict[int, tuple[float, ...]]()
        turns = [turn for group in all_groups(groups) for episode in group.episodes for turn in episode.turns]
        if self.past:
            said = {name: [turn for turn in turns if self._spoke(name, turn)] for name in self.policies}
            found = side_by_side(
                lambda name: self.policies[name].reference_of(said[name]),
                {name: learner.policy for name, learner in self.policies.items()},
            )
            past = {id(turn): row for name in said for turn, row in zip(said[name], found[name], strict=True)}
        embedded = self.embedder.read(groups) if self.embedder else {}
        return Readings(
            (turn, Reading(values.get(id(turn), ()), past.get(id(turn), ()), *embedded.get(id(turn), ((), ()))))
            for turn in turns
        )

    def update(
        self, groups: Sequence[Group[Any]], stages: Sequence[Sequence[Sample]], readings: Readings, scale: float = 1.0
    ) -> dict[str, dict[str, float]]:
        """Every policy learns from what its own agents said, every critic from its own lessons; a report of each.

        On a CPU they work side by side. A critic takes one step per stage, however many agents it serves.

        Args:
            scale: the learning rate of this training step as a share of the peak.

        Raises:
            TrainingError: before anything has moved, if an advantage or a return is not finite.
        """
        check_finite([sample for stage in stages for sample in stage])
        shares = {n: [[s for s in stage if self._spoke(n, s.turn)] for stage in stages] for n in self.policies}
        lessons = self.critics.lessons(groups, stages, readings)

        def update(name: str) -> dict[str, float]:
            if name in lessons:
                return self.critics.learners[name].update(lessons[name], scale)
            totals = [examples_in(groups, stage) for stage in shares[name]]
            return self.policies[name].update(shares[name], self.loss, totals, scale)

        bodies = {name: learner.policy for name, learner in self.policies.items()}
        return side_by_side(update, bodies | self.critics.bodies)

    def _spoke(self, name: str, turn: Turn) -> bool:
        return self.team.spoke(self.policies[name].policy, turn)

    def states(self) -> dict[str, dict[str, Any]]:
        """By name all that a later process needs to go on with the very same numbers."""
        return {name: learner.state() for name, learner in self.everyone.items()}

    def restore(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Takes up what `states` wrote.

        Raises:
            ConfigError: if others have learned there, or they had other parameters.
        """
        if set(states) != set(self.everyone):
            raise ConfigError(
                f"the checkpoint holds {', '.join(states)}, this run trains {', '.join(self.everyone)}; resume with "
                "the settings that it was started with"
            )
        for name, learner in self.everyone.items():
            learner.restore(states[name])


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
    turns = (turn for each in all_groups([group]) for episode in each.episodes for turn in episode.turns)
    return any(turn.agent == agent and not turn.completion.token_ids for turn in turns)


def check_finite(samples: Sequence[Sample]) -> None:
    """Refuses credit that is not a number, before any policy or critic has moved.

    Raises:
        TrainingError: naming agent and round.
    """
    for sample in samples:
        numbers = (sample.advantage, sample.ret, *sample.token_advantages, *sample.token_returns)
        if not all(map(math.isfinite, numbers)):
            raise TrainingError(
                f"agent {sample.turn.agent}, round {sample.turn.round}: an advantage is {sample.advantage} and its "
                f"return {sample.ret}, expected finite numbers; no weights were changed; look at the rewards"
            )
