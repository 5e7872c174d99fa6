"""Critics in training: what each says of a turn, and how it learns.

Knows: turns and the company they were taken in, critics and their optimisers. Does not know: tasks, how credit is
given, which algorithm asked.

A critic reads a turn like an answer to a prompt: the prompt is the history that it may see, the answer what was said,
token by token. One that is asked once per turn reads the history alone. Critics serve training only: no team has one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from madrigal.algorithms import CriticNeed
from madrigal.algorithms.siblings import all_groups
from madrigal.learning.histories import as_shown, company, joint_history
from madrigal.learning.learner import check_recomputing, means, read_each, reader, recomputing, side_by_side
from madrigal.learning.optimizer import Descent, Optimiser
from madrigal.maths.batch import make_batch, micro_batches
from madrigal.maths.losses import mean_per_token, value_error
from madrigal.policies.critic import Critic
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.types import AgentId, EngineError, Group, Readings, Sample, Turn

CENTRAL = "critic-joint"  # no policy can bear this name


class CriticLearner:
    """Owns the optimiser of one critic."""

    def __init__(self, critic: Critic, config: Optimiser, need: CriticNeed) -> None:
        self.critic, self.config, self.need = critic, config, need
        self.descent = Descent(f"critic {critic.name}", critic.parameters(), config)
        check_recomputing(critic.body.model, config, f"critic {critic.name}")

    @torch.no_grad()
    def read(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """The values before each token of each turn, in units of reward."""
        read = reader(self.config)
        return read_each(turns, self.critic.body, self.config, lambda batch: self.critic.values(batch, read))

    def update(self, stages: Sequence[Sequence[Sample]], scale: float = 1.0) -> dict[str, float]:
        """Makes one optimiser step per stage and returns means over the stages.

        Args:
            stages: samples whose `token_returns` are what should have been said, and whose `token_advantages` are
                these minus what was said when the turns were read.
            scale: the learning rate as a share of the peak.

        Raises:
            TrainingError: if the loss or gradient is not finite; the optimiser has not moved then.
        """
        with recomputing(self.critic.body.model, self.config):
            rows = [self._step(stage, scale) for stage in stages if stage]
        return means(rows) if rows else {}

    def _step(self, samples: Sequence[Sample], scale: float) -> dict[str, float]:
        body, count = self.critic.body, sum(len(sample.token_returns) for sample in samples)
        self.descent.forget()
        total, said, wanted = 0.0, list[Tensor](), list[Tensor]()
        for piece in micro_batches(samples, self.config.token_budget):
            batch = make_batch(piece, body.tokenizer.pad_token_id, body.device)
            values, returns = self.critic.values(batch, reader(self.config)), torch.zeros_like(batch.advantages)
            returns[batch.mask] = returns.new_tensor([value for sample in piece for value in sample.token_returns])
            terms = value_error(values, returns, returns - batch.advantages, self.need.clip)
            loss = self.need.weight * mean_per_token(terms, batch.mask, count)
            loss.backward()  # type: ignore[no-untyped-call]
            self.descent.collect()
            total += float(loss.detach())
            said.append(values.detach()[batch.mask])
            wanted.append(returns[batch.mask])
        before, target = torch.cat(said), torch.cat(wanted)
        report = {"loss": total, "value": float(before.mean()), "explained_variance": explained(before, target)}
        return {**report, **self.descent.move(total, scale), "sequences": len(samples), "tokens": count}

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return self.descent.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state`.

        Raises:
            ConfigError: if its parameters are not those of this critic.
        """
        self.descent.restore(state)


def explained(values: Tensor, returns: Tensor) -> float:
    """The share of the variance of returns that values explain; 0 where returns have none.

        1 - Var(R - V) / Var(R)

    1 is a critic that is right but for a constant. Below 0 it adds noise to the advantages instead of taking it away.

    >>> explained(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0]))
    1.0
    """
    spread = float(returns.var(correction=0))
    return 1 - float((returns - values).var(correction=0)) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Critics:
    """All critics of a run.

    Attributes:
        need: what the algorithm asks of them.
        learners: by name: `CENTRAL`, or "critic-" and the name of the policy that each judges. None for an algorithm
            that learns without: nothing is read then, and nothing learned.
        team: who took a turn; only what trainable policies said is judged.
        fluent: for each critic the policies that have its vocabulary, whose prompts it reads as they were given;
            other prompts are encoded for it.
    """

    need: CriticNeed
    learners: Mapping[str, CriticLearner]
    team: Team
    fluent: Mapping[str, Collection[str]]

    @property
    def bodies(self) -> dict[str, LocalPolicy]:
        """The models that they are made of, by name."""
        return {name: learner.critic.body for name, learner in self.learners.items()}

    def read(self, groups: Sequence[Group[Any]]) -> dict[int, tuple[float, ...]]:
        """By identity of the turn what its critic says: [T] values of its tokens, or [1] of its history.

        Raises:
            EngineError: if a critic is shown more than fits its context.
        """
        shown = self.histories(groups)
        rows = {name: list({id(row): row for _, row in pairs}.values()) for name, pairs in shown.items()}
        found = side_by_side(lambda name: self.learners[name].read(rows[name]), self.bodies)
        said = {id(row): v for name in rows for row, v in zip(rows[name], found[name], strict=True)}
        return {id(turn): said[id(row)] for pairs in shown.values() for turn, row in pairs}

    def lessons(
        self, groups: Sequence[Group[Any]], stages: Sequence[Sequence[Sample]], readings: Readings
    ) -> dict[str, list[list[Sample]]]:
        """For each critic what it learns from, in the stages of the policies: one step of each critic per stage.

        Turns that a critic sees as one are one sample: a central critic that is asked once per joint action has one row
        for it, however many agents learn from it. Its target is the mean of theirs, which all have the same where the
        reward is joint.
        """
        shown = {name: {id(turn): row for turn, row in pairs} for name, pairs in self.histories(groups).items()}
        return {name: [_lesson(stage, row_of, readings) for stage in stages] for name, row_of in shown.items()}

    def histories(self, groups: Sequence[Group[Any]]) -> dict[str, list[tuple[Turn, Turn]]]:
        """For each critic the turns that it judges, each with the turn as it is shown: one object where it sees one.

        Raises:
            EngineError: if a history is longer than the critic's context.
        """
        pairs: dict[str, list[tuple[Turn, Turn]]] = {name: [] for name in self.learners}
        for group in all_groups(groups):
            for episode in group.episodes:
                rows: dict[object, Turn] = {}
                for turn in episode.turns:
                    name = self.critic_of(turn)
                    if name in self.learners:
                        row = self.shown(name, turn, company(episode, turn), group.agents)
                        self.check_length(name, row, episode.start.example)
                        same = row.completion.prompt_ids if self._asked_together else id(turn)
                        pairs[name].append((turn, rows.setdefault((turn.round, same), row)))
        return pairs

    @property
    def _asked_together(self) -> bool:
        """Whether one value serves all agents of a round."""
        return (self.need.sees, self.need.at) == ("joint", "turn")

    def critic_of(self, turn: Turn) -> str:
        """The name of the critic that judges a turn; "" for a turn from which nobody learns."""
        policy = self.team.policy_of(turn.agent, turn.round)
        if not policy.trainable:
            return ""
        return CENTRAL if self.need.sees == "joint" else f"critic-{policy.name}"

    def shown(self, name: str, turn: Turn, others: Mapping[AgentId, Turn], agents: Sequence[AgentId]) -> Turn:
        """A turn as a critic is shown it; `others` are the last turns asked for by then, by agent, itself included."""
        tokenizer = self.learners[name].critic.body.tokenizer
        if self.need.sees == "own":
            return as_shown(turn, self._prompt(name, turn), self.need.at)
        present = [others[agent] for agent in agents if agent in others]
        last = turn.agent if self.need.at == "token" else None
        history = joint_history(present, lambda one: self._prompt(name, one), tokenizer.eos_token_id, last)
        return as_shown(turn, history, self.need.at)

    def _prompt(self, name: str, turn: Turn) -> tuple[int, ...]:
        given, policy = turn.completion.prompt_ids, self.team.policy_of(turn.agent, turn.round)
        known = bool(given) and policy.name in self.fluent[name]
        return given if known else self.learners[name].critic.body.encode(turn.prompt)

    def check_length(self, name: str, row: Turn, example: str, room: int = 0) -> None:
        """Refuses a turn that is longer than its critic can read, with `room` for an answer still to come.

        Raises:
            EngineError: naming example, critic and both lengths.
        """
        body, said = self.learners[name].critic.body, row.completion
        length = len(said.prompt_ids) + max(room, len(said.token_ids))
        if length > body.context:
            raise EngineError(
                f"example {example}, round {row.round}: the {self.need.sees} history that {name} is to read, with the "
                f"answer where it reads that too, is {length} tokens and does not fit its context of {body.context}; "
                "name a model with a longer context as critic.model, leave the example out, or lower "
                "sampling.max_new_tokens"
            )


def _lesson(stage: Sequence[Sample], row_of: Mapping[int, Turn], readings: Readings) -> list[Sample]:
    """The samples of a stage as one critic learns from them."""
    targets: dict[int, list[tuple[float, ...]]] = {}
    rows = {}
    for sample in stage:
        row = row_of.get(id(sample.turn))
        if row is not None:
            rows[id(row)] = row, readings[sample.turn].values
            targets.setdefault(id(row), []).append(sample.token_returns or (sample.ret,))
    return [_taught(*rows[key], targets[key]) for key in rows]


def _taught(row: Turn, values: Sequence[float], targets: Sequence[Sequence[float]]) -> Sample:
    returns = tuple(map(fmean, zip(*targets, strict=True)))
    errors = tuple(target - value for target, value in zip(returns, values, strict=True))
    return Sample(row, fmean(errors), fmean(returns), token_advantages=errors, token_returns=returns)
