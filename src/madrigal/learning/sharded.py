"""A learner whose weights, gradients and optimizer are sharded over several ranks, by PyTorch's FSDP2.

Every rank holds a share of each parameter in float32 and reads its share of the micro-batches; a layer's parameters are
gathered, in the type that the model computes in, for as long as they are needed, and gradients are summed in float32.
All ranks divide by the totals of the whole update, so that their number matters to rounding only.

References:
    Zhao et al., 2023, "PyTorch FSDP", arXiv:2304.11277; Rajbhandari et al., 2020, "ZeRO", arXiv:1910.02054.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from madrigal.learning.learner import Gap, Learner, LossFunction
from madrigal.learning.optimizer import whole
from madrigal.learning.ranks import Ranks
from madrigal.maths.batch import (
    Batch,
    PolicyOutput,
    Tokens,
    make_batch,
    micro_batch_places,
    scattered,
    token_batch,
    weighted_tokens,
)
from madrigal.policies.forward import hidden_in_one_pass, sampled_logprobs
from madrigal.policies.internals import adapters_off, recomputable_layers
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.settings import OptimizerConfig, PolicyConfig, Sampling
from madrigal.types import Sample, TrainingError, Turn

CPU = torch.device("cpu")
Who = Literal["", "loss", "credit"]


@dataclass(frozen=True, slots=True)
class Part:
    """What a rank is told to make its part of a learner: settings, but no weights.

    Attributes:
        model: the settings that the policy was loaded by.
        dtype: that it computes in.
        threads: of a rank on the processor.
    """

    name: str
    model: PolicyConfig
    dtype: torch.dtype
    optimizer: OptimizerConfig
    sampling: Sampling
    reference: Who
    clip: float | None
    staleness: int
    threads: int


class ShardedLearner:
    """A `Learner` on several ranks, as rank 0 calls it.

    Attributes:
        policy: a whole copy of the weights in this process, which speaks and is saved.
        optimizer: the peak of the rate, and how many steps were made.
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
        self.policy, self.ranks, self.reference = policy, ranks, reference
        threads = torch.get_num_threads()
        part = Part(policy.name, model, policy.model.dtype, config, sampling, reference, clip, staleness, threads)
        ranks.call(_load, part)
        self.lead: Shard = ranks.call(_make, part, own=policy.parameters())
        self.config, self.optimizer = self.lead.config, _Steps(self)

    def call(self, method: str, *args: Any, own: Any = None) -> Any:
        """Calls a method of the shards of all ranks; returns what this rank's returns."""
        return self.ranks.call(_do, self.policy.name, method, *args, own=own)

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
        """As `Learner.state`, but that tensors are not in it: `shards`, called with a folder, writes them there.

        Each rank writes its own; `runs.shards` reads all of them, on any number of ranks.
        """
        groups = self.lead.optimizer.adamw.state_dict()["param_groups"]
        rest = {"optimizer": {"param_groups": groups}, "version": self.policy.version}
        return {**rest, "shards": lambda folder: self.call("save", folder)}

    def whole_state(self) -> dict[str, Any]:
        """As `Learner.state`: all of it, in this process."""
        state: dict[str, Any] = self.call("gather")
        return {**state, "version": self.policy.version}

    def restore(self, state: dict[str, Any]) -> None:
        """As `Learner.restore`, of the whole state of a learner on any number of ranks."""
        self.lead.optimizer.check_fits(state["parameters"])
        moments = {n: {k: None if v.dim() else v for k, v in s.items()} for n, s in state["optimizer"]["state"].items()}
        skeleton = {**state, "parameters": {}, "optimizer": {**state["optimizer"], "state": moments}}
        self.call("load", skeleton, own=state)
        self._hand_over()

    def _hand_over(self) -> None:
        self.call("give", own=self.policy.parameters())
        self.policy.version = self.lead.policy.version


class _Steps:
    """What a run asks of an optimizer that is on several ranks."""

    def __init__(self, learner: ShardedLearner) -> None:
        self._learner = learner

    @property
    def steps(self) -> int:
        return self._learner.lead.optimizer.steps

    @property
    def peak(self) -> float:
        return self._learner.lead.optimizer.peak

    def forget(self) -> None:
        """See `Optimizer.forget`."""
        self._learner.call("forget")


def _load(ranks: Ranks, own: None, part: Part) -> None:
    """Reads the model of a part; by itself, for a rank that cannot must not leave others waiting for its weights."""
    torch.set_num_threads(part.threads)
    kind: Literal["float32", "bfloat16"] = "float32" if part.dtype == torch.float32 else "bfloat16"
    ranks.parts[part.name] = load_policy(part.name, replace(part.model, dtype=kind, trainable=True), CPU)


def _make(ranks: Ranks, own: Mapping[str, Tensor] | None, part: Part) -> Shard:
    """Makes a shard of what `_load` has read; `own` are rank 0's weights, which all take over."""
    policy: LocalPolicy = ranks.parts[part.name]
    for name, parameter in policy.parameters().items():
        if own is not None:
            parameter.data.copy_(own[name].data)
        value = parameter.data.contiguous()
        dist.broadcast(value, src=0)
        parameter.data.copy_(value)
    ranks.parts[part.name] = shard = Shard(policy, part, ranks)
    return shard


def _do(ranks: Ranks, own: Any, name: str, method: str, *args: Any) -> Any:
    return getattr(ranks.parts[name], method)(own, *args)


class Scorer(nn.Module):
    """A model and what is read of it, in one call: FSDP gathers the parameters of a module where that is called."""

    def __init__(self, model: Any, sampling: Sampling) -> None:
        super().__init__()
        self.model, self.sampling = model, sampling

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the sampled tokens, packed."""
        hidden = hidden_in_one_pass(self.model, batch)
        return sampled_logprobs(self.model, hidden, batch.actions[batch.mask], self.sampling)


def sharded(model: Any, sampling: Sampling, ranks: Ranks, dtype: torch.dtype) -> Any:
    """A model's `Scorer` with parameters sharded over the ranks, layer by layer; what learns is float32.

    Args:
        dtype: what the model computes in.
    """
    scorer = Scorer(model, sampling)
    mixed = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    policy = MixedPrecisionPolicy() if dtype == torch.float32 else mixed
    for module in (*recomputable_layers(model), scorer):
        for parameter in module.parameters():
            if parameter.requires_grad and not isinstance(parameter, DTensor):
                parameter.data = parameter.data.float()
        unit: Any = fully_shard(module, mesh=ranks.mesh, mp_policy=policy)
        # Each rank's loss is divided by the totals of all: gradients are summed.
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)
    return scorer


class Shard(Learner):
    """One rank's part of a learner: all ranks call the same methods with the same arguments at the same time.

    `own` is what rank 0 alone is given; None on all others.
    """

    def __init__(self, policy: LocalPolicy, part: Part, ranks: Ranks) -> None:
        tolerance = part.optimizer.mismatch_tolerance
        if tolerance is None and part.dtype == torch.bfloat16:  # the shards themselves are float32
            tolerance = 0.1
        self.ranks, frozen = ranks, None
        if part.reference and not policy.adapter:
            frozen = copy.deepcopy(policy.model).requires_grad_(False)
        self.scorer = sharded(policy.activate(), part.sampling, ranks, part.dtype)
        self.frozen = self.scorer if frozen is None else sharded(frozen, part.sampling, ranks, part.dtype)
        config = replace(part.optimizer, mismatch_tolerance=tolerance)
        super().__init__(policy, config, part.sampling, clip=part.clip, staleness=part.staleness)
        self.reference = part.reference

    def learn(self, own: None, *args: Any) -> dict[str, float]:
        """`update`."""
        *given, sampled = args
        return self.update(*given, sampled=sampled)

    def _batches(self, samples: Sequence[Sample], total: float) -> Iterator[tuple[Sequence[Sample], Batch]]:
        """This rank's share of the micro-batches: as many as every rank has, a blank one where there are too few."""
        weighted, pad = weighted_tokens(samples) / total, self.policy.tokenizer.pad_token_id
        for places, blank in self._share(samples):
            piece = [samples[place] for place in places]
            batch = make_batch(piece, pad, self.policy.device, total=total, tokens=weighted)
            yield ([], replace(batch, mask=torch.zeros_like(batch.mask))) if blank else (piece, batch)

    def _share(self, rows: Sequence[Tokens]) -> Iterator[tuple[list[int], bool]]:
        """Places of the rows of each of this rank's micro-batches, and whether it only keeps the others company."""
        pieces = even_places(rows, self.config.token_budget, self.ranks.count)
        for first in range(0, len(pieces), self.ranks.count):
            n = first + self.ranks.rank
            yield pieces[min(n, len(pieces) - 1)], n >= len(pieces)

    def _of_all(
        self, value: float, sums: dict[str, float], gaps: list[Gap]
    ) -> tuple[float, dict[str, float], list[Gap]]:
        values, parts, found = zip(*self.ranks.gathered((value, sums, gaps)), strict=True)
        return sum(values), {name: sum(part[name] for part in parts) for name in sums}, [*chain.from_iterable(found)]

    def score(self, batch: Batch, model: Any = None) -> PolicyOutput:
        """Log-probs and entropies of the sampled tokens; numbers that are not finite are found by the optimizer.

        An error of one rank would leave the others waiting for it.
        """
        scorer, mask = self.scorer if model is None else model, batch.mask
        if not bool(mask.any()):  # blank: the loss sees nothing of it
            mask = torch.zeros_like(mask)
            mask[:, 0] = True
        logprobs, entropies = scorer(replace(batch, mask=mask))
        return PolicyOutput(scattered(mask, logprobs), scattered(mask, entropies))

    def _reference(self, batch: Batch) -> Tensor:
        with torch.no_grad(), adapters_off(self.policy.model) if self.policy.adapter else nullcontext():
            logprobs = self.score(batch, self.frozen).logprobs
        self.frozen.reshard()  # else the next pass would read these weights again, after an optimizer step too
        return logprobs

    def read_reference(self, own: None, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """`reference_logprobs`, of which each rank reads a share."""
        rows, numbers = [turn.completion for turn in turns], dict[int, tuple[float, ...]]()
        for places, blank in self._share(rows):
            pad, device = self.policy.tokenizer.pad_token_id, self.policy.device
            table = self._reference(token_batch([rows[place] for place in places], pad, device)).tolist()
            for place, row in zip(places, table, strict=True) if not blank else ():
                numbers[place] = tuple(row[: len(rows[place].token_ids)])
        read = {place: row for part in self.ranks.gathered(numbers) for place, row in part.items()}
        return [read.get(place, ()) for place in range(len(rows))]

    def forget(self, own: None) -> None:
        """Drops the moments of the optimizer."""
        self.optimizer.forget()

    def give(self, own: Mapping[str, Tensor] | None) -> None:
        """Gathers the whole parameters, one after the other, into those of rank 0's policy."""
        with torch.no_grad():
            for name, master in self.optimizer.masters.items():
                gathered = whole(master)
                if own is not None:
                    own[name].copy_(gathered)

    def gather(self, own: None) -> dict[str, Any]:
        """The whole state of the optimizer on rank 0, gathered tensor by tensor; nothing on all others."""
        state, first = self.optimizer.state(), self.ranks.rank == 0
        parameters = {name: _gathered(value, first) for name, value in self.optimizer.masters.items()}
        moments = {
            number: {name: _gathered(value, first) for name, value in each.items()}
            for number, each in state["optimizer"]["state"].items()
        }
        optimizer = {**state["optimizer"], "state": moments}
        return {"parameters": parameters, "optimizer": optimizer} if first else {}

    def save(self, own: None, folder: Path) -> None:
        """Writes this rank's shards of parameters and moments into a folder.

        Raises:
            TrainingError: on all ranks, if one could not write, or a number is not finite.
        """
        tensors: dict[str, Any] = {f"parameters.{name}": p.detach() for name, p in self.optimizer.masters.items()}
        for number, moments in self.optimizer.adamw.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        bad = [name for name, value in tensors.items() if not bool(torch.isfinite(_local(value)).all())]
        if found := sorted(name for names in self.ranks.gathered(bad) for name in names):
            raise TrainingError(
                f"{found[0]} of {self.policy.name} holds numbers that are not finite; resume with a lower optimizer.lr"
            )
        try:
            save(tensors, storage_writer=FileSystemWriter(folder), process_group=self.ranks.control)
        except CheckpointException as error:
            rank, (reason, _) = next(iter(error.failures.items()))
            raise TrainingError(f"rank {rank}: {reason}; free some space, or make the folder writable") from error

    def load(self, own: dict[str, Any] | None, skeleton: dict[str, Any]) -> None:
        """Takes up a state: `own` is all of it, the skeleton what is there without its tensors."""
        masters = self.optimizer.masters
        given = own or {"parameters": {}, "optimizer": {"state": {}}}
        parameters = {name: _scattered(given["parameters"].get(name), like) for name, like in masters.items()}
        likes, moments = list(masters.values()), dict[int, dict[str, Any]]()
        for number, each in skeleton["optimizer"]["state"].items():
            full, like = given["optimizer"]["state"].get(number, {}), likes[number]
            moments[number] = {k: _scattered(full.get(k), like) if v is None else v for k, v in each.items()}
        optimizer = {**skeleton["optimizer"], "state": moments}
        self.restore({**skeleton, "parameters": parameters, "optimizer": optimizer})


def even_places(rows: Sequence[Tokens], budget: int, ranks: int) -> list[list[int]]:
    """Places of rows in micro-batches, as many for each rank where that can be: large ones are halved for it."""
    pieces = list(micro_batch_places(rows, budget))
    while len(pieces) % ranks and max(map(len, pieces)) > 1:
        n = max(range(len(pieces)), key=lambda n: len(pieces[n]))
        half = len(pieces[n]) // 2
        pieces[n : n + 1] = [pieces[n][:half], pieces[n][half:]]
    return pieces


def _gathered(value: Any, wanted: bool) -> Any:
    """A tensor of which each rank has a share, whole on the processor where it is wanted; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    full = whole(value.detach())
    return full.cpu() if wanted else None


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _scattered(value: Tensor | None, like: Tensor) -> Tensor:
    """A whole tensor, which rank 0 has, sharded as another one is."""
    assert isinstance(like, DTensor)
    shape, device = like.shape, like.device
    full = torch.empty(shape, device=device) if value is None else value.to(device, torch.float32)
    return distribute_tensor(full, like.device_mesh, like.placements)
