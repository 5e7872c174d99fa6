"""Processes that hold one learner together: how they meet, what rank 0 has them do, and how they end.

Rank 0 plays, gives credit and writes the run folder. Whatever concerns weights that are sharded it calls by name, and
every rank then calls the same: `Ranks.call` on rank 0, `serve` on all others. Ranks trust each other.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Lock
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from madrigal.types import ConfigError, MadrigalError, TrainingError


class RankLostError(TrainingError):
    """A process that holds a share of a learner has ended."""


PATIENCE = timedelta(days=30)  # between two calls: a rank that has ended is noticed by its connection
END = b""


class Ranks:
    """A group of processes, one of which this is.

    Attributes:
        rank, count: the number of this one, and how many there are.
        mesh: the processes as torch's sharding sees them.
        control: the group that calls travel in, through the processor's memory.
        parts: what this rank holds, by name.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self.control: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        self.parts: dict[str, Any] = {}
        self.lost = ""
        self._lock = Lock()  # policies that learn side by side take turns here

    def place(self, device: torch.device) -> None:
        """Decides, on every rank, on which device shards lie.

        Raises:
            ConfigError: if a rank has no GPU of its own, or they cannot talk to each other.
        """
        self.call(_place, device.type)

    def set_device(self, kind: str) -> None:
        """`place`, of this rank."""
        local, beside = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if kind == "cuda":
            if not dist.is_nccl_available():
                raise ConfigError(
                    "team.device: several ranks on GPUs need a torch with NCCL; take it, or --team.device cpu"
                )
            if beside > torch.cuda.device_count():
                raise ConfigError(
                    f"--nproc-per-node: {beside} ranks need a GPU each and this machine has "
                    f"{torch.cuda.device_count()}; start fewer, or take --team.device cpu"
                )
            torch.cuda.set_device(local)
        self.mesh: DeviceMesh = init_device_mesh(kind, (self.count,))

    def call(self, function: Callable[..., Any], *args: Any, own: Any = None) -> Any:
        """Calls function(ranks, own, *args) on every rank; returns what it returns on this one, which is rank 0.

        Args:
            own: what is not sent to other ranks; their `own` is None.

        Raises:
            MadrigalError: whatever the function raised; all ranks go on to serve after it.
            RankLostError: if a rank has ended, now or before.
        """
        with self._lock:
            if self.lost:
                raise RankLostError(self.lost)
            message = pickle.dumps((function, args))
            self.lost = "a call on the ranks of the learner was broken off; go on with --resume"
            try:
                self._broadcast(message)
                answer, failure, others = self._answer(function, own, args)
            except RuntimeError as error:
                if not is_lost(error):
                    raise
                self.lost = "a rank of the learner has ended; see what it printed, then go on with --resume"
                raise RankLostError(self.lost) from error
            self.lost = ""
        if failure is not None:
            raise failure
        if others:
            raise others[0]
        return answer

    def _broadcast(self, message: bytes | None) -> bytes:
        packed = [message]
        dist.broadcast_object_list(packed, src=0, group=self.control)
        received = packed[0]
        assert received is not None
        return received

    def _answer(
        self, function: Callable[..., Any], own: Any, args: tuple[Any, ...]
    ) -> tuple[Any, MadrigalError | None, list[MadrigalError]]:
        """What a function returns here, or raises; and what it raised on other ranks."""
        answer, failure = None, None
        try:
            answer = function(self, own, *args)
        except MadrigalError as error:
            failure = error
        failures = self.gathered(failure)
        return answer, failure, [error for n, error in enumerate(failures) if n != self.rank and error is not None]

    def serve(self) -> int:
        """Does what rank 0 calls until it ends, and returns the exit code of this process."""
        # Who stops a run tells all of its processes. Rank 0 ends its step first, and needs the others for that.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with suppress(ValueError):  # not the main thread
                signal.signal(signum, signal.SIG_IGN)
        try:
            while (message := self._broadcast(None)) != END:
                function, args = pickle.loads(message)
                self._answer(function, None, args)
        except RuntimeError as error:
            self.lost = "rank 0 has ended"
            if not is_lost(error):  # else rank 0 has said why
                print(f"madrigal: error: rank {self.rank}: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
        return 0

    def end(self) -> None:
        """Ends the other ranks, from rank 0."""
        if not self.rank and not self.lost:
            with suppress(RuntimeError):
                self._broadcast(END)

    def gathered(self, value: Any) -> list[Any]:
        """What every rank has, in their order."""
        rows: list[Any] = [None] * self.count
        dist.all_gather_object(rows, value, group=self.control)
        return rows


def _place(ranks: Ranks, own: None, kind: str) -> None:
    ranks.set_device(kind)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process has ended, or cannot be reached."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection"))


@contextmanager
def joined(rank: int, count: int, address: str = "env://") -> Iterator[Ranks]:
    """The group of all ranks, for as long as the context lasts; when rank 0 leaves it, the others are ended.

    Args:
        address: where they meet: "tcp://HOST:PORT" of rank 0, "file:///PATH", or "env://" where torchrun has said it.

    Raises:
        ConfigError: if they do not meet.
    """
    both = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if both else "gloo", init_method=address, rank=rank, world_size=count
        )
        ranks = Ranks(rank, count)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"rank {rank} of {count} did not meet the others at {address}: {reason}") from error
    try:
        yield ranks
    finally:
        ranks.end()
        if not (ranks.lost and both):  # NCCL would wait for who has ended
            dist.destroy_process_group()


def serve_rank(rank: int, count: int, address: str) -> int:
    """Serves as one rank above 0 of a learner, until rank 0 leaves its `joined`; returns an exit code."""
    with joined(rank, count, address) as ranks:
        return ranks.serve()
