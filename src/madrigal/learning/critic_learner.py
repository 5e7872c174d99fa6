"""The learner of one critic: rows with their returns in, better values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from madrigal.algorithms import CriticNeed
from madrigal.learning.learner import means, read_each
from madrigal.learning.optimizer import Optimizer
from madrigal.learning.rates import with_rate
from madrigal.maths.batch import Batch, Tokens, in_place, micro_batch_places, token_batch
from madrigal.maths.losses import mean_per_token, value_error
from madrigal.policies.critic import Critic
from madrigal.policies.forward import check_recomputing, forward_fn, gradient_checkpointing
from madrigal.settings import OptimizerConfig
from madrigal.types import ValueRow

ROUNDING = 1e-5  # of returns that were summed up from values, in units of reward or as a share of the largest


@dataclass(frozen=True, slots=True)
class Lesson:
    """One row that a critic learns from.

    Attributes:
        row: what it is shown.
        values: [T] when the turn was read.
        returns: [T] the targets.
    """

    row: ValueRow
    values: tuple[float, ...]
    returns: tuple[float, ...]


class CriticLearner:
    """Owns the optimizer of one critic."""

    def __init__(self, critic: Critic, config: OptimizerConfig, need: CriticNeed) -> None:
        config = with_rate(config, critic.body)
        self.critic, self.config, self.need = critic, config, need
        self.optimizer = Optimizer(f"critic {critic.name}", critic.parameters(), config)
        check_recomputing(critic.body.model, config, f"critic {critic.name}")

    @torch.no_grad()
    def read(self, rows: Sequence[Tokens]) -> list[tuple[float, ...]]:
        """The values before each token of each row, in units of reward."""
        return read_each(rows, self.critic.body, self.config, self.values)

    def values(self, batch: Batch) -> Tensor:
        """[B T] The value before each token, in units of reward; 0 in padding."""
        return self.critic.values(batch, forward_fn(self.config))

    def update(self, stages: Sequence[Sequence[Lesson]], scale: float = 1.0) -> dict[str, float]:
        """Makes one optimizer step per stage and returns means over the stages.

        Args:
            scale: the learning rate as a share of the peak.

        Raises:
            TrainingError: if the loss or gradient is not finite; the optimizer has not moved then.
        """
        with gradient_checkpointing(self.critic.body.model, self.config):
            rows = [self._step(stage, scale) for stage in stages if stage]
        return means(rows) if rows else {}

    def _step(self, lessons: Sequence[Lesson], scale: float) -> dict[str, float]:
        count = sum(len(lesson.returns) for lesson in lessons)
        self.optimizer.zero_grad()
        total, predicted, targets = 0.0, list[Tensor](), list[Tensor]()
        for piece, batch in self._batches(lessons):
            values = self.values(batch)
            returns = in_place(batch.mask, [lesson.returns for lesson in piece])
            old_values = in_place(batch.mask, [lesson.values for lesson in piece])
            terms = value_error(values, returns, old_values, self.need.clip)
            total += self.optimizer.accumulate(self.need.weight * mean_per_token(terms, batch.mask, count))
            predicted.append(values.detach()[batch.mask])
            targets.append(returns[batch.mask])
        total, value, target = self._of_all(total, torch.cat(predicted), torch.cat(targets))
        report = {"loss": total, "value": float(value.mean()), "explained_variance": explained(value, target)}
        return {**report, **self.optimizer.step(total, scale), "sequences": len(lessons), "tokens": count}

    def _batches(self, lessons: Sequence[Lesson]) -> Iterator[tuple[Sequence[Lesson], Batch]]:
        """The micro-batches of an optimizer step, and the lessons in each."""
        body, rows = self.critic.body, [lesson.row for lesson in lessons]
        for places in micro_batch_places(rows, self.config.token_budget):
            batch = token_batch([rows[place] for place in places], body.tokenizer.pad_token_id, body.device)
            yield [lessons[place] for place in places], batch

    def _of_all(self, total: float, value: Tensor, target: Tensor) -> tuple[float, Tensor, Tensor]:
        """Loss, values and returns of all that learn together: this one alone (others: `learning.sharded`)."""
        return total, value, target

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return self.optimizer.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state`.

        Raises:
            ConfigError: if its parameters are not those of this critic.
        """
        self.optimizer.restore(state)


def explained(values: Tensor, returns: Tensor) -> float:
    """The share of the variance of returns that values explain; 0 where returns differ by no more than rounding.

        1 - Var(R - V) / Var(R)

    1 is a critic that is right but for a constant. Below 0 it adds noise to the advantages instead of taking it away.

    >>> explained(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0]))
    1.0
    >>> explained(torch.tensor([1.0, 2.0]), torch.tensor([1e-4, 1.001e-4]))
    0.0
    """
    spread = float(returns.var(correction=0))
    if spread <= (ROUNDING * max(1.0, float(returns.abs().max()))) ** 2:
        return 0.0
    return 1 - float((returns - values).var(correction=0)) / spread
