"""A learner sharded over ranks: one rank's share of weights, gradients and optimizer, and what rank 0 calls of all.

Every rank holds a share of each parameter in float32 and reads its share of the micro-batches; a layer's parameters are
gathered, in the type that the model computes in, for as long as they are needed, and gradients are summed in float32.
All ranks divide by the totals of the whole update, so that their number matters to rounding only.

References:
    Zhao et al., 2023, "PyTorch FSDP", arXiv:2304.11277; Rajbhandari et al., 2020, "ZeRO", arXiv:1910.02054.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from madrigal.learning.optimizer import Optimizer, whole
from madrigal.learning.ranks import Ranks
from madrigal.maths.batch import Batch, Tokens, micro_batch_places, token_batch
from madrigal.policies.local import LocalPolicy
from madrigal.settings import OptimizerConfig
from madrigal.types import TrainingError


class Shares:
    """What rank 0 holds in place of a learner: it calls methods of the shares of all ranks.

    Attributes:
        name: of the policy or critic.
        lead: the share of this rank, which has to be set by who makes them all.
        optimizer: the peak of the rate, and how many steps were made.
    """

    def __init__(self, name: str, ranks: Ranks) -> None:
        self.name, self.ranks = name, ranks
        self.lead: Any
        self.optimizer = _Steps(self)

    def call(self, method: str, *args: Any, own: Any = None) -> Any:
        """Calls a method of the shares of all ranks; returns what this rank's returns."""
        return self.ranks.call(_do, self.name, method, *args, own=own)

    def state(self) -> dict[str, Any]:
        """The state of the learner but for its tensors: `shards`, called with a folder, writes them there.

        Each rank writes its own; `runs.shards` reads all of them, on any number of ranks.
        """
        groups = self.lead.optimizer.adamw.state_dict()["param_groups"]
        return {"optimizer": {"param_groups": groups}, "shards": lambda folder: self.call("save", folder)}

    def whole_state(self) -> dict[str, Any]:
        """The state of the learner: all of it, in this process."""
        state: dict[str, Any] = self.call("gather")
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up the whole state of a learner on any number of ranks.

        Raises:
            ConfigError: if its parameters are not those of this learner.
        """
        self.lead.optimizer.check_fits(state["parameters"])
        moments = {n: {k: None if v.dim() else v for k, v in s.items()} for n, s in state["optimizer"]["state"].items()}
        skeleton = {**state, "parameters": {}, "optimizer": {**state["optimizer"], "state": moments}}
        self.call("load", skeleton, own=state)


class _Steps:
    """What a run asks of an optimizer that is on several ranks."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares

    @property
    def steps(self) -> int:
        return int(self._shares.lead.optimizer.steps)

    @property
    def peak(self) -> float:
        return float(self._shares.lead.optimizer.peak)

    def forget(self) -> None:
        """See `Optimizer.forget`."""
        self._shares.call("forget")


def _do(ranks: Ranks, own: Any, name: str, method: str, *args: Any) -> Any:
    return getattr(ranks.parts[name], method)(own, *args)


class Share(ABC):
    """One rank's share of a learner, which is mixed into its class.

    All ranks call the same methods with the same arguments at the same time. `own` is what rank 0 alone is given; None
    on all others.

    Attributes:
        ranks: those that hold the learner together.
        body: the model that is read.
    """

    ranks: Ranks
    config: OptimizerConfig
    optimizer: Optimizer

    @property
    @abstractmethod
    def body(self) -> LocalPolicy: ...

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Of the learner."""

    def shared_out(self, rows: Sequence[Tokens]) -> Iterator[tuple[list[int], bool]]:
        """Places of the rows of each of this rank's micro-batches, and whether it only keeps the others company."""
        pieces = even_places(rows, self.config.token_budget, self.ranks.count)
        for first in range(0, len(pieces), self.ranks.count):
            n = first + self.ranks.rank
            yield pieces[min(n, len(pieces) - 1)], n >= len(pieces)

    def read_shared(self, rows: Sequence[Tokens], read: Callable[[Batch], Tensor]) -> list[tuple[float, ...]]:
        """One number of every token of every row, of which each rank reads a part; `read` gives [B T] of a batch."""
        numbers = dict[int, tuple[float, ...]]()
        for places, blank in self.shared_out(rows):
            piece = [rows[place] for place in places]
            table = read(token_batch(piece, self.body.tokenizer.pad_token_id, self.body.device)).tolist()
            for place, row in zip(places, table, strict=True) if not blank else ():
                numbers[place] = tuple(row[: len(rows[place].token_ids)])
        read_by_all = {place: row for part in self.ranks.gathered(numbers) for place, row in part.items()}
        return [read_by_all.get(place, ()) for place in range(len(rows))]

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
                f"{found[0]} of {self.body.name} holds numbers that are not finite; resume with a lower optimizer.lr"
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


def take_over(parameters: Mapping[str, nn.Parameter], own: Mapping[str, Tensor] | None) -> None:
    """Gives parameters, on every rank, the values that rank 0 has, which are `own` there."""
    for name, parameter in parameters.items():
        if own is not None:
            parameter.data.copy_(own[name].data)
        value = parameter.data.contiguous()
        dist.broadcast(value, src=0)
        parameter.data.copy_(value)


def shard(modules: Sequence[nn.Module], ranks: Ranks, dtype: torch.dtype) -> None:
    """Shards the parameters of modules over the ranks, each by itself, what is within before what holds it.

    What learns becomes float32.

    Args:
        dtype: what the modules compute in.
    """
    mixed = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    policy = MixedPrecisionPolicy() if dtype == torch.float32 else mixed
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad and not isinstance(parameter, DTensor):
                parameter.data = parameter.data.float()
        unit: Any = fully_shard(module, mesh=ranks.mesh, mp_policy=policy)
        # Each rank's loss is divided by the totals of all: gradients are summed.
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def company(batch: Batch) -> Batch:
    """A batch of which something is read: the first token of each answer, where the loss sees nothing of it.

    A rank without a micro-batch of its own calls the layers all the same, for the others wait for its shares.
    """
    if bool(batch.mask.any()):
        return batch
    mask = torch.zeros_like(batch.mask)
    mask[:, 0] = True
    return replace(batch, mask=mask)


def blank_of(batch: Batch) -> Batch:
    """A batch of which the loss sees nothing."""
    return replace(batch, mask=torch.zeros_like(batch.mask))


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
