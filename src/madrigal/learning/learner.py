"""The learner of one policy: samples and a loss in, better weights out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from madrigal.learning.importance import corrected, importance_weights
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
from madrigal.policies.engines.fresh import tolerances
from madrigal.policies.forward import check_recomputing, forward_fn, gradient_checkpointing, sampled_logprobs
from madrigal.policies.local import LocalPolicy
from madrigal.policies.machine import release
from madrigal.settings import OptimizerConfig, Sampling
from madrigal.types import Sample, TrainingError, Turn

MISMATCH = ("logprob_mismatch", "logprob_mismatch_max")  # of the first stage
LossFunction = Callable[[PolicyOutput, Batch], Tensor]
Gap = tuple[Turn, float, float]  # mean and largest difference of the log-probs of an answer


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
        staleness: int = 0,
    ) -> None:
        """Prepares updates of `policy`.

        Args:
            reference: who reads the log-probs of the policy as it is now: nobody, the loss, or credit.
            clip: the loss's range on the ratio to the log-probs at sampling, to count the tokens beyond it.
            staleness: how many updates the weights that sampled may lack; their version is checked then, and their
                log-probs, which are other ones, are not.
        """
        config = with_rate(config, policy)
        self.policy, self.config, self.sampling, self.reference = policy, config, sampling, reference
        self.clip, self.staleness = clip, staleness
        self._began = list[int]()  # the versions that the last updates began with
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

        The log-probs and versions of the first stage are compared with those at sampling, `logprob_mismatch` and
        `logprob_mismatch_max`. This proves that the sampler held these weights: all stages of a training step were
        sampled before it, with the same ones. Those of later stages differ by what the earlier ones have moved, which
        is no fault (`approx_kl` measures it).

        Args:
            totals: for each stage, what its weights would sum up to if all siblings that started had spoken: the
                number of examples and agents in its mean. () takes the sum of the weights that there are.
            scale: the learning rate as a share of the peak.
            sampled: whether these weights are said to have sampled the first stage, which is checked; else the loss is
                of given answers, and no reference is read.

        Raises:
            TrainingError: if the loss or gradient is not finite, or the samples did not come from these weights; says
                how many steps were made before.
        """
        ages = self._ages(stages) if self.staleness and sampled else {}
        with gradient_checkpointing(self.policy.model, self.config):
            weighted = zip(stages, totals or map(total_weight, stages), strict=True)
            spoken: Sequence[tuple[Sequence[Sample], float]] = [(s, total) for s, total in weighted if _tokens(s)]
            rows, report = list[dict[str, float]](), dict[str, float]()
            try:
                if spoken and sampled and self.config.importance_cap is not None:
                    spoken, report = self._weighed(spoken, self.config.importance_cap)
                for stage, total in spoken:
                    rows.append(self._step(stage, total, loss, scale, sampled=sampled, first=not rows and not report))
            except TrainingError as error:
                raise TrainingError(f"{error} ({len(rows)} of {len(spoken)} optimizer steps were made)") from error
        release()
        return means(rows) | {key: rows[0][key] for key in MISMATCH} | report | ages if rows else {}

    def _weighed(
        self, spoken: Sequence[tuple[Sequence[Sample], float]], cap: float
    ) -> tuple[Sequence[tuple[Sequence[Sample], float]], dict[str, float]]:
        """Stages with truncated importance weights, and what was found: `learning.importance`."""
        if not self.staleness:
            self._check_versions(spoken[0][0])
        said = {id(s.turn.completion): s.turn.completion for stage, _ in spoken for s in stage}
        with torch.no_grad():
            rows = read_each(list(said.values()), self.policy, self.config, lambda batch: self.score(batch).logprobs)
        found = dict(zip(said, rows, strict=True))
        first = [(s.turn, found[id(s.turn.completion)]) for s in spoken[0][0] if s.turn.completion.token_ids]
        gaps = [(turn, [abs(a - b) for a, b in zip(turn.completion.logprobs, row, strict=True)]) for turn, row in first]
        mismatch = fmean(chain.from_iterable(apart for _, apart in gaps))
        if not self.staleness:
            self._check_fresh(mismatch, [(turn, fmean(apart), max(apart)) for turn, apart in gaps])
        weights = [w for turn, row in first for w in importance_weights(row, turn.completion.logprobs, cap)]
        stages = [([corrected(s, found[id(s.turn.completion)], cap) for s in stage], total) for stage, total in spoken]
        return stages, {
            "logprob_mismatch": mismatch,
            "logprob_mismatch_max": max(max(apart) for _, apart in gaps),
            "importance_weight": fmean(weights),
            "importance_capped": fmean(weight >= cap * (1 - 1e-9) for weight in weights),
        }

    def _ages(self, stages: Sequence[Sequence[Sample]]) -> dict[str, float]:
        """How many updates the weights that answered lacked: the mean over answers, and the most.

        Raises:
            TrainingError: if that is more than may be.
        """
        self._began = [*self._began, self.policy.version][-self.staleness - 1 :]
        said = {id(s.turn): s.turn.completion.version for stage in stages for s in stage if s.token_ids}
        ages = [sum(begun > version for begun in self._began) for version in said.values()]
        if (oldest := max(ages, default=0)) > self.staleness:
            raise TrainingError(
                f"policy {self.policy.name}: an answer was sampled with version {min(said.values())} of the weights, "
                f"the learner holds version {self.policy.version}; at most {self.staleness} updates in between expected"
            )
        return {"age": fmean(ages), "age_max": float(oldest)} if ages else {}

    def _step(
        self, samples: Sequence[Sample], total: float, loss: LossFunction, scale: float, *, sampled: bool, first: bool
    ) -> dict[str, float]:
        total = total or total_weight(samples)
        tokens = _tokens(samples)
        self.optimizer.zero_grad()
        value, sums, gaps = 0.0, dict[str, Tensor](), list[Gap]()
        if sampled and first and not self.staleness:
            self._check_versions(samples)
        for piece, batch in self._batches(samples, total):
            if self.reference == "loss" and sampled:
                batch = replace(batch, reference_logprobs=self._reference(batch))
            output = self.score(batch)
            value += self.optimizer.accumulate(loss(output, batch))
            sums = {name: sums.get(name, 0) + number for name, number in self._measures(output, batch).items()}
            gaps += _gaps(piece, output, batch)
        value, summed, gaps = self._of_all(value, {name: float(number) for name, number in sums.items()}, gaps)
        measures = {name: number / tokens for name, number in summed.items()}
        measures["logprob_mismatch_max"] = max(largest for _, _, largest in gaps)
        if sampled and first and not self.staleness:
            self._check_fresh(measures["logprob_mismatch"], gaps)
        step = self.optimizer.step(value, scale)
        self.policy.version += 1
        sequences = sum(1 for sample in samples if sample.turn.completion.token_ids)
        return {"loss": value, **measures, **step, "sequences": sequences, "tokens": tokens}

    def _batches(self, samples: Sequence[Sample], total: float) -> Iterator[tuple[Sequence[Sample], Batch]]:
        """The micro-batches of an optimizer step, and the samples in each."""
        weighted, pad = weighted_tokens(samples) / total, self.policy.tokenizer.pad_token_id
        for piece in micro_batches(samples, self.config.token_budget):
            yield piece, make_batch(piece, pad, self.policy.device, total=total, tokens=weighted)

    def _of_all(
        self, value: float, sums: dict[str, float], gaps: list[Gap]
    ) -> tuple[float, dict[str, float], list[Gap]]:
        """Loss, measures and gaps of all that learn together: this one alone (others: `learning.sharded`)."""
        return value, sums, gaps

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

    def _check_versions(self, samples: Sequence[Sample]) -> None:
        """Refuses tokens of other weights by what their sampler says of itself."""
        for turn in (sample.turn for sample in samples if sample.turn.completion.token_ids):
            if turn.completion.version != self.policy.version:
                raise TrainingError(
                    f"policy {self.policy.name}: an answer of {turn.agent} was sampled by {self._engine} with version "
                    f"{turn.completion.version} of the weights, the learner holds version {self.policy.version}"
                )

    def _check_fresh(self, mismatch: float, gaps: Sequence[Gap]) -> None:
        """Refuses tokens that were not sampled with these very weights: of other log-probs there than here."""
        tolerance, single = tolerances(self.policy, self.config.mismatch_tolerance)
        worst, largest = max(gaps, key=lambda gap: gap[1])[0], max(largest for _, _, largest in gaps)
        if mismatch > tolerance or largest > single:
            self.optimizer.zero_grad()
            raise TrainingError(
                f"policy {self.policy.name}: log-probs at sampling and at training differ by {mismatch:.4f} nats a "
                f"token (at most {tolerance} expected) and by {largest:.4f} at most ({single:g} expected), most of all "
                f"in an answer of {worst.agent} by {self._engine}; the sampler does not hold the trained weights: it "
                f"says version {worst.completion.version}, the learner's is {self.policy.version}"
            )

    @property
    def _engine(self) -> str:
        return self.policy.config.engine.name

    def score(self, batch: Batch, model: Any = None) -> PolicyOutput:
        """Log-probs and entropies of the sampled tokens under the policy's (or the given model's) weights."""
        model = self.policy.activate() if model is None else model
        actions = batch.actions[batch.mask]
        hidden = forward_fn(self.config)(model, batch)
        logprobs, entropies = sampled_logprobs(model, hidden, actions, self.sampling)
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
        # A run that goes back to older weights gives them a new number: no engine may take them for what it holds.
        version, held = state["version"], self.policy.version
        self.policy.version = version if version >= held else held + 1
        self._began = []


def _gaps(samples: Sequence[Sample], output: PolicyOutput, batch: Batch) -> list[Gap]:
    """The mean and the largest difference of log-probs at sampling and now, of each answer."""
    if not samples:
        return []
    apart = torch.where(batch.mask, output.logprobs.detach() - batch.old_logprobs, 0.0).abs()
    rows = zip((apart.sum(-1) / batch.mask.sum(-1)).tolist(), apart.amax(-1).tolist(), strict=True)
    return [(sample.turn, mean, largest) for sample, (mean, largest) in zip(samples, rows, strict=True)]


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
