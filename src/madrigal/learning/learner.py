"""The learner of one policy: samples and a loss in, better weights out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from madrigal.learning.optimizer import Optimizer
from madrigal.learning.rates import with_rate
from madrigal.maths.batch import (
    Batch,
    PolicyOutput,
    Tokens,
    make_batch,
    micro_batch_places,
    micro_batches,
    scattered,
    token_batch,
    total_weight,
    weighted_tokens,
)
from madrigal.maths.losses import k3
from madrigal.maths.sampling import check_finite
from madrigal.policies.forward import check_recomputing, forward_fn, gradient_checkpointing, sampled_logprobs
from madrigal.policies.internals import output_logits
from madrigal.policies.local import LocalPolicy
from madrigal.policies.machine import release
from madrigal.settings import OptimizerConfig, Sampling
from madrigal.types import Sample, TrainingError, Turn

LossFunction = Callable[[PolicyOutput, Batch], Tensor]


class Learner:
    """Owns the optimizer of one trainable policy.

    Of the algorithm it knows the loss, and what has to be known to call it and to report on it: `reference` and `clip`.
    """

    def __init__(
        self,
        policy: LocalPolicy,
        config: OptimizerConfig,
        sampling: Sampling,
        *,
        reference: Literal["", "loss", "credit"] = "",
        clip: float | None = None,
    ) -> None:
        """Prepares updates of `policy`.

        Args:
            reference: who reads the log-probs of the policy as it is now: nobody, the loss, or credit.
            clip: the loss's range on the ratio to the log-probs at sampling, to count the tokens beyond it.
        """
        config = with_rate(config, policy)
        self.policy, self.config, self.sampling, self.reference = policy, config, sampling, reference
        self.clip = clip
        self.optimizer = Optimizer(f"policy {policy.name}", policy.parameters(), config)
        if reference:
            policy.keep_reference()
        check_recomputing(policy.model, config, f"policy {policy.name}")

    def update(
        self,
        stages: Sequence[Sequence[Sample]],
        loss: LossFunction,
        totals: Sequence[float] = (),
        scale: float = 1.0,
        *,
        sampled: bool = True,
    ) -> dict[str, float]:
        """Makes one optimizer step per stage and returns means over the stages.

        The log-probs of the first stage are compared with those at sampling, `logprob_mismatch`. This proves that the
        sampler held these weights: all stages of a training step were sampled before it, with the same ones. Those of
        later stages differ by what the earlier ones have moved, which is no fault (`approx_kl` measures it).

        Args:
            totals: for each stage, what its weights would sum up to if all siblings that started had spoken: the
                number of examples and agents in its mean. () takes the sum of the weights that there are.
            scale: the learning rate as a share of the peak.
            sampled: whether these weights are said to have sampled the first stage, which is checked.

        Raises:
            TrainingError: if the loss or gradient is not finite, or the samples did not come from these weights; says
                how many steps were made before.
        """
        with gradient_checkpointing(self.policy.model, self.config):
            weighted = zip(stages, totals or map(total_weight, stages), strict=True)
            spoken = [(stage, total) for stage, total in weighted if _tokens(stage)]
            rows = list[dict[str, float]]()
            for stage, total in spoken:
                try:
                    rows.append(self._step(stage, total, loss, scale, first=sampled and not rows))
                except TrainingError as error:
                    raise TrainingError(f"{error} ({len(rows)} of {len(spoken)} optimizer steps were made)") from error
        release()
        return means(rows) | {"logprob_mismatch": rows[0]["logprob_mismatch"]} if rows else {}

    def _step(
        self, samples: Sequence[Sample], total: float, loss: LossFunction, scale: float, *, first: bool
    ) -> dict[str, float]:
        total = total or total_weight(samples)
        tokens = _tokens(samples)
        self.optimizer.zero_grad()
        value, sums = 0.0, dict[str, Tensor]()
        for batch in self._batches(samples, total):
            if self.reference == "loss":
                batch = replace(batch, reference_logprobs=self._reference(batch))
            output = self.score(batch)
            value += self.optimizer.accumulate(loss(output, batch))
            sums = {name: sums.get(name, 0) + number for name, number in self._measures(output, batch).items()}
        value, summed = self._summed(value, {name: float(number) for name, number in sums.items()})
        measures = {name: number / tokens for name, number in summed.items()}
        if first:
            self._check_fresh(measures["logprob_mismatch"])
        step = self.optimizer.step(value, scale)
        self.policy.version += 1
        sequences = sum(1 for sample in samples if sample.turn.completion.token_ids)
        return {"loss": value, **measures, **step, "sequences": sequences, "tokens": tokens}

    def _batches(self, samples: Sequence[Sample], total: float) -> Iterator[Batch]:
        """The micro-batches of an optimizer step."""
        weighted, pad = weighted_tokens(samples) / total, self.policy.tokenizer.pad_token_id
        for piece in micro_batches(samples, self.config.token_budget):
            yield make_batch(piece, pad, self.policy.device, total=total, tokens=weighted)

    def _summed(self, value: float, sums: dict[str, float]) -> tuple[float, dict[str, float]]:
        """Loss and measures of all that learn together: this one alone (others: `learning.sharded`)."""
        return value, sums

    def _measures(self, output: PolicyOutput, batch: Batch) -> dict[str, Tensor]:
        """Sums over tokens: entropy; how far log-probs are from those at sampling, and from the reference policy's.

        `approx_kl` estimates KL(policy at sampling || policy) by (r - 1) - log r, with r the ratio of the two;
        `clip_fraction` counts tokens whose ratio is out of the clip range (Schulman, 2020; Huang et al., 2022, "The 37
        Implementation Details of PPO").
        """
        logprobs = output.logprobs.detach()
        delta = torch.where(batch.mask, logprobs - batch.old_logprobs, 0.0)
        measures = {
            "entropy": output.entropy * batch.mask,
            "logprob_mismatch": delta.abs(),
            "approx_kl": delta.expm1() - delta,
        }
        if self.clip is not None:
            measures["clip_fraction"] = (delta.expm1().abs() > self.clip).float()
        if batch.reference_logprobs is not None:
            measures["kl"] = k3(logprobs, batch.reference_logprobs) * batch.mask
        return {name: table.sum() for name, table in measures.items()}

    def _check_fresh(self, mismatch: float) -> None:
        """Refuses tokens that were not sampled with these very weights: of other log-probs there than here."""
        usual = 0.01 if self.policy.model.dtype == torch.float32 else 0.1
        tolerance = usual if self.config.mismatch_tolerance is None else self.config.mismatch_tolerance
        if mismatch > tolerance:
            self.optimizer.zero_grad()
            raise TrainingError(
                f"policy {self.policy.name}: log-probs at sampling and at training differ by {mismatch:.4f} nats a "
                f"token (at most {tolerance} expected); the sampler does not hold the trained weights"
            )

    def score(self, batch: Batch, model: Any = None) -> PolicyOutput:
        """Log-probs and entropies of the sampled tokens under the policy's (or the given model's) weights."""
        model = self.policy.activate() if model is None else model
        actions = batch.actions[batch.mask]
        hidden = forward_fn(self.config)(model, batch)
        logprobs, entropies = sampled_logprobs(partial(output_logits, model), hidden, actions, self.sampling)
        check_finite(logprobs.detach(), f"policy {self.policy.name}")
        return PolicyOutput(scattered(batch.mask, logprobs), scattered(batch.mask, entropies))

    def _reference(self, batch: Batch) -> Tensor:
        """[B T] log-probs under the reference policy."""
        with torch.no_grad(), self.policy.reference() as model:
            return self.score(batch, model).logprobs

    def reference_logprobs(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Log-probs of each turn's tokens under the reference policy, in nats, for credit to read."""
        return read_each([turn.completion for turn in turns], self.policy, self.config, self._reference)

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return {**self.optimizer.state(), "version": self.policy.version}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state`.

        Raises:
            ConfigError: if its parameters are not those of this policy.
        """
        self.optimizer.restore(state)
        self.policy.version = state["version"]


def read_each(
    rows: Sequence[Tokens], body: LocalPolicy, config: OptimizerConfig, read: Callable[[Batch], Tensor]
) -> list[tuple[float, ...]]:
    """One number of every token of every row, in order of the rows; `read` gives them as [B T] of a batch."""
    numbers: list[tuple[float, ...]] = [()] * len(rows)
    for places in micro_batch_places(rows, config.token_budget):
        batch = token_batch([rows[place] for place in places], body.tokenizer.pad_token_id, body.device)
        for place, row in zip(places, read(batch).tolist(), strict=True):
            numbers[place] = tuple(row[: len(rows[place].token_ids)])
    return numbers


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over the stages of a step."""
    return {key: sum(row.get(key, 0.0) for row in rows) / len(rows) for key in rows[0]}


def _tokens(samples: Sequence[Sample]) -> int:
    return sum(len(sample.turn.completion.token_ids) for sample in samples)
