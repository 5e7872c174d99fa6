"""Learners of policies and of critics whose weights, gradients and optimizer are sharded over several ranks.

Rank 0 calls a `ShardedLearner` or a `ShardedCritic` like any other; `learning.shards` says what the ranks do.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from madrigal.algorithms import CriticNeed
from madrigal.learning.critic_learner import CriticLearner, Lesson
from madrigal.learning.learner import Gap, Learner, LossFunction
from madrigal.learning.ranks import Ranks
from madrigal.learning.shards import Share, Shares, blank_of, company, shard, take_over
from madrigal.maths.batch import Batch, PolicyOutput, Tokens, make_batch, scattered, token_batch, weighted_tokens
from madrigal.policies.critic import Critic, ScalarHead, load_critic
from madrigal.policies.forward import hidden_in_one_pass, sampled_logprobs
from madrigal.policies.internals import adapters_off, recomputable_layers
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.settings import OptimizerConfig, PolicyConfig, Sampling
from madrigal.types import Sample, Turn

CPU = torch.device("cpu")
Who = Literal["", "loss", "credit"]


@dataclass(frozen=True, slots=True)
class Part:
    """What a rank is told to make its share of a policy's or a critic's learner: settings, but no weights.

    Attributes:
        model: the settings that the policy, or the model of the critic, was loaded by.
        dtype: that it computes in.
        threads: of a rank on the processor.
        sampling, reference, clip, staleness: of a policy.
        need: of a critic; None is a policy.
    """

    name: str
    model: PolicyConfig
    dtype: torch.dtype
    optimizer: OptimizerConfig
    threads: int
    sampling: Sampling = field(default_factory=Sampling)
    reference: Who = ""
    clip: float | None = None
    staleness: int = 0
    need: CriticNeed | None = None


class ShardedLearner(Shares):
    """A `Learner` on several ranks, as rank 0 calls it.

    Attributes:
        policy: a whole copy of the weights in this process, which speaks and is saved.
    """

    def __init__(
        self,
        policy: LocalPolicy,
        model: PolicyConfig,
        config: OptimizerConfig,
        sampling: Sampling,
        ranks: Ranks,
        *,
        reference: Who = "",
        clip: float | None = None,
        staleness: int = 0,
    ) -> None:
        """Prepares updates of `policy`, whose weights all ranks take over.

        Args:
            model: the settings that it was loaded by; each rank reads the model itself.
            reference, clip, staleness: as of `Learner`.
        """
        super().__init__(policy.name, ranks)
        self.policy, self.reference = policy, reference
        threads, dtype = torch.get_num_threads(), policy.model.dtype
        part = Part(policy.name, model, dtype, config, threads, sampling, reference, clip, staleness)
        ranks.call(_load, part)
        self.lead: PolicyShare = ranks.call(_make, part, own=policy.parameters())
        self.config = self.lead.config

    def update(
        self,
        stages: Sequence[Sequence[Sample]],
        loss: LossFunction,
        totals: Sequence[float] = (),
        scale: float = 1.0,
        *,
        sampled: bool = True,
    ) -> dict[str, float]:
        """As `Learner.update`; the policy of this process has the new weights after it."""
        report: dict[str, float] = self.call("learn", stages, loss, totals, scale, sampled)
        self._hand_over()
        return report

    def reference_logprobs(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """As `Learner.reference_logprobs`."""
        rows: list[tuple[float, ...]] = self.call("read_reference", turns)
        return rows

    def state(self) -> dict[str, Any]:
        """See `Shares.state`."""
        return {**super().state(), "version": self.policy.version}

    def whole_state(self) -> dict[str, Any]:
        """See `Shares.whole_state`."""
        return {**super().whole_state(), "version": self.policy.version}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Shares.restore`."""
        super().restore(state)
        self._hand_over()

    def _hand_over(self) -> None:
        self.call("give", own=self.policy.parameters())
        self.policy.version = self.lead.policy.version


class ShardedCritic(Shares):
    """A `CriticLearner` on several ranks, as rank 0 calls it.

    Attributes:
        critic: with its tokenizer, but for an adapter's model without weights: it is read on the ranks.
    """

    def __init__(self, critic: Critic, model: PolicyConfig, config: OptimizerConfig, need: CriticNeed, ranks: Ranks):
        """Prepares updates of a critic, whose weights all ranks take over.

        Args:
            model: the settings that its model was loaded by; each rank reads it itself.
        """
        super().__init__(critic.name, ranks)
        self.critic, self.need = critic, need
        part = Part(critic.name, model, critic.body.model.dtype, config, torch.get_num_threads(), need=need)
        ranks.call(_load, part)
        self.lead: CriticShare = ranks.call(_make, part, own=critic.parameters())
        self.config = self.lead.config
        if not critic.body.adapter:
            critic.body.model.to("meta")

    def read(self, rows: Sequence[Tokens]) -> list[tuple[float, ...]]:
        """As `CriticLearner.read`."""
        values: list[tuple[float, ...]] = self.call("read_values", rows)
        return values

    def update(self, stages: Sequence[Sequence[Lesson]], scale: float = 1.0) -> dict[str, float]:
        """As `CriticLearner.update`."""
        report: dict[str, float] = self.call("learn", stages, scale)
        return report


def _load(ranks: Ranks, own: None, part: Part) -> None:
    """Reads the model of a part; by itself, for a rank that cannot must not leave others waiting for its weights."""
    torch.set_num_threads(part.threads)
    kind: Literal["float32", "bfloat16"] = "float32" if part.dtype == torch.float32 else "bfloat16"
    load = load_policy if part.need is None else load_critic
    ranks.parts[part.name] = load(part.name, replace(part.model, dtype=kind, trainable=True), CPU)


def _make(ranks: Ranks, own: Mapping[str, Tensor] | None, part: Part) -> PolicyShare | CriticShare:
    """Makes a share of what `_load` has read; `own` are rank 0's weights, which all take over."""
    read: LocalPolicy | Critic = ranks.parts[part.name]
    take_over(read.parameters(), own)
    share = PolicyShare(read, part, ranks) if isinstance(read, LocalPolicy) else CriticShare(read, part, ranks)
    ranks.parts[part.name] = share
    return share


class Scorer(nn.Module):
    """A model and what is read of it, in one call: FSDP gathers the parameters of a module where that is called."""

    def __init__(self, model: Any, sampling: Sampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the sampled tokens, packed."""
        hidden = hidden_in_one_pass(self.model, batch)
        return sampled_logprobs(self.model, hidden, batch.actions[batch.mask], self.sampling)


class Valuer(nn.Module):
    """A critic's model and head, in one call."""

    def __init__(self, model: Any, head: ScalarHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, batch: Batch) -> Tensor:
        """[M 1] Values before the sampled tokens, packed."""
        values: Tensor = self.head(hidden_in_one_pass(self.model, batch))
        return values


def _scorer(model: Any, part: Part, ranks: Ranks) -> Any:
    """A model's `Scorer` with parameters sharded over the ranks, layer by layer."""
    scorer = Scorer(model, part.sampling)
    shard((*recomputable_layers(model), scorer), ranks, part.dtype)
    return scorer


class PolicyShare(Learner, Share):
    """One rank's share of the learner of a policy."""

    def __init__(self, policy: LocalPolicy, part: Part, ranks: Ranks) -> None:
        tolerance = part.optimizer.mismatch_tolerance
        if tolerance is None and part.dtype == torch.bfloat16:  # the shards themselves are float32
            tolerance = 0.1
        self.ranks, frozen = ranks, None
        if part.reference and not policy.adapter:
            frozen = copy.deepcopy(policy.model).requires_grad_(False)
        self.scorer = _scorer(policy.activate(), part, ranks)
        self.frozen = self.scorer if frozen is None else _scorer(frozen, part, ranks)
        config = replace(part.optimizer, mismatch_tolerance=tolerance)
        super().__init__(policy, config, part.sampling, clip=part.clip, staleness=part.staleness)
        self.reference = part.reference

    @property
    def body(self) -> LocalPolicy:
        return self.policy

    def learn(self, own: None, *args: Any) -> dict[str, float]:
        """`update`."""
        *given, sampled = args
        return self.update(*given, sampled=sampled)

    def _batches(self, samples: Sequence[Sample], total: float) -> Iterator[tuple[Sequence[Sample], Batch]]:
        """This rank's part of the micro-batches: as many as every rank has, a blank one where there are too few."""
        weighted, pad = weighted_tokens(samples) / total, self.policy.tokenizer.pad_token_id
        for places, blank in self.shared_out(samples):
            piece = [samples[place] for place in places]
            batch = make_batch(piece, pad, self.policy.device, total=total, tokens=weighted)
            yield ([], blank_of(batch)) if blank else (piece, batch)

    def _of_all(
        self, value: float, sums: dict[str, float], gaps: list[Gap]
    ) -> tuple[float, dict[str, float], list[Gap]]:
        values, parts, found = zip(*self.ranks.gathered((value, sums, gaps)), strict=True)
        return sum(values), {name: sum(part[name] for part in parts) for name in sums}, [*chain.from_iterable(found)]

    def score(self, batch: Batch, model: Any = None) -> PolicyOutput:
        """Log-probs and entropies of the sampled tokens; numbers that are not finite are found by the optimizer.

        An error of one rank would leave the others waiting for it.
        """
        seen = company(batch)
        logprobs, entropies = (self.scorer if model is None else model)(seen)
        return PolicyOutput(scattered(seen.mask, logprobs), scattered(seen.mask, entropies))

    def _reference(self, batch: Batch) -> Tensor:
        with torch.no_grad(), adapters_off(self.policy.model) if self.policy.adapter else nullcontext():
            logprobs = self.score(batch, self.frozen).logprobs
        self.frozen.reshard()  # else the next pass would read these weights again, after an optimizer step too
        return logprobs

    def read_reference(self, own: None, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """`reference_logprobs`, of which each rank reads a part."""
        return self.read_shared([turn.completion for turn in turns], self._reference)


class CriticShare(CriticLearner, Share):
    """One rank's share of the learner of a critic."""

    def __init__(self, critic: Critic, part: Part, ranks: Ranks) -> None:
        assert part.need is not None
        self.ranks = ranks
        model = critic.body.activate()
        self.valuer: Any = Valuer(model, critic.head)
        shard((critic.head,), ranks, torch.float32)
        shard((*recomputable_layers(model), self.valuer), ranks, part.dtype)
        super().__init__(critic, part.optimizer, part.need)

    @property
    def body(self) -> LocalPolicy:
        return self.critic.body

    def learn(self, own: None, stages: Sequence[Sequence[Lesson]], scale: float) -> dict[str, float]:
        """`update`."""
        return self.update(stages, scale)

    def read_values(self, own: None, rows: Sequence[Tokens]) -> list[tuple[float, ...]]:
        """`read`, of which each rank reads a part."""
        with torch.no_grad():
            values = self.read_shared(rows, self.values)
        self.valuer.reshard()  # else the next pass would read these weights again, after an optimizer step too
        return values

    def values(self, batch: Batch) -> Tensor:
        """[B T] The value before each token; numbers that are not finite are found by the optimizer."""
        seen = company(batch)
        return scattered(seen.mask, self.valuer(seen)[:, 0])

    def _batches(self, lessons: Sequence[Lesson]) -> Iterator[tuple[Sequence[Lesson], Batch]]:
        """This rank's part of the micro-batches, as of a policy."""
        rows = [lesson.row for lesson in lessons]
        for places, blank in self.shared_out(rows):
            batch = token_batch([rows[place] for place in places], self.body.tokenizer.pad_token_id, self.body.device)
            yield ([], blank_of(batch)) if blank else ([lessons[place] for place in places], batch)

    def _of_all(self, total: float, value: Tensor, target: Tensor) -> tuple[float, Tensor, Tensor]:
        totals, values, targets = zip(*self.ranks.gathered((total, value.cpu(), target.cpu())), strict=True)
        return sum(totals), torch.cat(values), torch.cat(targets)
