"""The learner of one policy: samples in, better weights out; blind to the algorithm.

Knows: token ids, advantages, a loss, an optimiser. Does not know: agents, tasks, how advantages came about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from madrigal.learning.optimizer import Descent
from madrigal.learning.optimizer import Optimiser as Optimiser
from madrigal.maths.batch import Batch, PolicyOutput, make_batch, micro_batches, total_weight, weighted_tokens
from madrigal.maths.losses import Chosen, k3
from madrigal.maths.sampling import Sampling, check_finite, warp
from madrigal.policies.forward import Reader, logits_before_actions, logits_in_one_pass
from madrigal.policies.local import LocalPolicy
from madrigal.types import ConfigError, Sample, TrainingError, Turn

R = TypeVar("R")
LossFunction = Callable[[PolicyOutput, Batch], Tensor]


class Learner:
    """Owns the optimiser of one trainable policy."""

    def __init__(
        self,
        policy: LocalPolicy,
        config: Optimiser,
        sampling: Sampling,
        *,
        reference: Literal["", "loss", "credit"] = "",
    ) -> None:
        """Prepares updates of `policy`.

        Args:
            reference: who reads the log-probs of the policy as it is now: nobody, the loss, or credit.
        """
        self.policy, self.config, self.sampling, self.reference = policy, config, sampling, reference
        self.descent = Descent(f"policy {policy.name}", policy.parameters(), config)
        if reference:
            policy.keep_reference()
        check_recomputing(policy.model, config, f"policy {policy.name}")

    def update(
        self,
        stages: Sequence[Sequence[Sample]],
        loss: LossFunction,
        totals: Sequence[float] = (),
        scale: float = 1.0,
    ) -> dict[str, float]:
        """Makes one optimiser step per stage and returns means over the stages.

        Of `stale` it returns the first stage's: later log-probs also differ by what the earlier stages have moved.

        Args:
            totals: for each stage, what its weights would sum up to if all siblings that started had spoken: the
                number of examples and agents in its mean. () takes the sum of the weights that there are.
            scale: the learning rate as a share of the peak.

        Raises:
            TrainingError: if the loss or gradient is not finite, or the samples did not come from these weights; says
                how many steps were made before.
        """
        with recomputing(self.policy.model, self.config):
            given = zip(stages, totals or map(total_weight, stages), strict=True)
            spoken = [(stage, total) for stage, total in given if _tokens(stage)]
            rows = list[dict[str, float]]()
            for stage, total in spoken:
                try:
                    rows.append(self._step(stage, total, loss, scale, first=not rows))
                except TrainingError as error:
                    raise TrainingError(f"{error} ({len(rows)} of {len(spoken)} optimizer steps were made)") from error
        return means(rows) | {"stale": rows[0]["stale"]} if rows else {}

    def _step(
        self, samples: Sequence[Sample], total: float, loss: LossFunction, scale: float, *, first: bool
    ) -> dict[str, float]:
        total = total or total_weight(samples)
        tokens, weighted = _tokens(samples), weighted_tokens(samples) / total
        self.descent.forget()
        sums = {"loss": 0.0, "entropy": 0.0, "stale": 0.0}
        for piece in micro_batches(samples, self.config.token_budget):
            pad, device = self.policy.tokenizer.pad_token_id, self.policy.device
            batch = make_batch(piece, pad, device, total=total, tokens=weighted)
            if self.reference == "loss":
                batch = replace(batch, reference_logprobs=self._reference(batch))
            output = self.score(batch)
            value = loss(output, batch)
            value.backward()  # type: ignore[no-untyped-call]
            self.descent.collect()
            sums["loss"] += float(value.detach())
            sums["entropy"] += float((output.entropy * batch.mask).sum()) / tokens
            moved = (output.logprobs.detach() - batch.old_logprobs).abs()
            sums["stale"] += float((moved * batch.mask).sum()) / tokens
            if batch.reference_logprobs is not None:
                drift = k3(output.logprobs.detach(), batch.reference_logprobs)
                sums["kl"] = sums.get("kl", 0.0) + float((drift * batch.mask).sum()) / tokens
        if first:
            self._check_fresh(sums["stale"])
        moved_by = self.descent.move(sums["loss"], scale)
        self.policy.version += 1
        sequences = sum(1 for sample in samples if sample.turn.completion.token_ids)
        return {**sums, **moved_by, "sequences": sequences, "tokens": tokens}

    def _check_fresh(self, stale: float) -> None:
        """The sampler must hold these very weights: the same tokens must have the same log-probs here as there."""
        usual = 0.01 if self.policy.model.dtype == torch.float32 else 0.1
        tolerance = usual if self.config.stale_tolerance is None else self.config.stale_tolerance
        if stale > tolerance:
            self.descent.forget()
            raise TrainingError(
                f"policy {self.policy.name}: log-probs at sampling and at training differ by {stale:.4f} nats a token "
                f"(at most {tolerance} expected); the sampler does not hold the trained weights"
            )

    def score(self, batch: Batch, model: Any = None) -> PolicyOutput:
        """Log-probs and entropies of the sampled tokens under the policy's (or the given model's) weights."""
        model = self.policy.activate() if model is None else model
        actions = batch.actions[batch.mask]
        warped = warp(reader(self.config)(model, batch), self.sampling, keep=actions)
        logprobs, entropies = Chosen.apply(warped, actions)  # type: ignore[no-untyped-call]
        check_finite(logprobs.detach(), f"policy {self.policy.name}")
        blank = torch.zeros(batch.mask.shape, dtype=logprobs.dtype, device=logprobs.device)
        return PolicyOutput(*(blank.masked_scatter(batch.mask, part) for part in (logprobs, entropies)))

    def _reference(self, batch: Batch) -> Tensor:
        """[B T] log-probs under the reference policy."""
        with torch.no_grad(), self.policy.reference() as model:
            return self.score(batch, model).logprobs

    def reference_of(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Log-probs of each turn's tokens under the reference policy, in nats, for credit to read."""
        return read_each(turns, self.policy, self.config, self._reference)

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return {**self.descent.state(), "version": self.policy.version}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state`.

        Raises:
            ConfigError: if its parameters are not those of this policy.
        """
        self.descent.restore(state)
        self.policy.version = state["version"]


def read_each(
    turns: Sequence[Turn], body: LocalPolicy, config: Optimiser, read: Callable[[Batch], Tensor]
) -> list[tuple[float, ...]]:
    """What a model says of every token of every turn, one number each; `read` gives [B T] of a batch."""
    found: dict[int, tuple[float, ...]] = {}
    samples = [Sample(turn, 0.0, 0.0) for turn in turns]
    for piece in micro_batches(samples, config.token_budget):
        batch = make_batch(piece, body.tokenizer.pad_token_id, body.device)
        for sample, row in zip(piece, read(batch).tolist(), strict=True):
            found[id(sample)] = tuple(row[: len(sample.turn.completion.token_ids)])
    return [found.get(id(sample), ()) for sample in samples]


def reader(config: Optimiser) -> Reader:
    """How a model is called; recomputing activations and keeping a cache of them exclude each other."""
    return logits_in_one_pass if config.gradient_checkpointing else logits_before_actions


@contextmanager
def recomputing(model: Any, config: Optimiser) -> Iterator[None]:
    """Within it, each layer stores only what goes in, and computes again what it needs for the gradient.

    The library's own switch works in training mode only, which also switches dropout on: log-probs would then differ
    from those at sampling.
    """
    layers = _layers(model) if config.gradient_checkpointing else []
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def check_recomputing(model: Any, config: Optimiser, owner: str) -> None:
    """Refuses to recompute activations of a model of which the library marks no layers for that.

    Raises:
        ConfigError: naming its owner, "policy ann".
    """
    if config.gradient_checkpointing and not _layers(model):
        raise ConfigError(
            f"{owner}: optimiser.gradient_checkpointing is set, but activations of a {model.config.model_type} model "
            "cannot be recomputed; leave it out, or take another model"
        )


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def side_by_side(do: Callable[[str], R], bodies: Mapping[str, LocalPolicy]) -> dict[str, R]:
    """Does something with each of several models by name: at the same time on a CPU where no two share one copy."""
    models = {id(body.model) for body in bodies.values()}
    beside = len(models) == len(bodies) and all(body.device.type == "cpu" for body in bodies.values())
    with ThreadPoolExecutor(max(1, len(bodies)) if beside else 1) as pool:
        return dict(zip(bodies, pool.map(do, bodies), strict=True))


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over the stages of a step."""
    return {key: sum(row.get(key, 0.0) for row in rows) / len(rows) for key in rows[0]}


def _tokens(samples: Sequence[Sample]) -> int:
    return sum(len(sample.turn.completion.token_ids) for sample in samples)
