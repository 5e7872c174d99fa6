"""Whole weights sent by a process group of two: from the learner to a worker of vLLM, without files.

NCCL where both hold them on GPUs (two: it takes no two members on one), else gloo. A group lives for one hand-over, so
that one that broke leaves nothing behind. What comes, and how, stands in the store of its rendezvous.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

GROUPS: Any = distributed  # which of its names are there depends on the build
PAUSE = 0.02  # seconds between two looks whether the worker is there


def offered(near: str, seconds: float) -> tuple[Any, str]:
    """A store for one hand-over, and its address.

    Args:
        near: a host that is to reach it; the address is the one from which this machine reaches that host.
        seconds: for each thing that is waited for.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((near, 9))  # sends nothing
        own = str(probe.getsockname()[0])
    store = GROUPS.TCPStore(own, 0, is_master=True, timeout=timedelta(seconds=seconds), wait_for_workers=False)
    return store, f"{own}:{store.port}"


def send(
    store: Any, name: str, weights: Sequence[tuple[str, torch.Tensor]], seconds: float, over: Callable[[], bool]
) -> None:
    """Sends tensors as soon as a worker is there.

    Args:
        name: `files.hosted_name`: policy, version and process.
        over: whether whoever was to bring the worker here has ended; raises if that was a failure.

    Raises:
        RuntimeError: if nobody comes, the group cannot be made, or it breaks.
    """
    listed = [(key, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)) for key, tensor in weights]
    store.set("weights", json.dumps({"name": name, "tensors": listed}))
    while not store.check(["there"]):
        if over():
            raise RuntimeError("nobody joined it")
        time.sleep(PAUSE)
    kinds = {store.get("there").decode(), *(tensor.device.type for _, tensor in weights)}
    kind = "cuda" if kinds == {"cuda"} else "cpu"
    store.set("kind", kind)
    share = _group(store, 0, kind, seconds)
    for _, tensor in weights:
        here = tensor.detach().contiguous()
        share(here.cpu() if kind == "cpu" else here)
    while not (store.check(["done"]) or over()):  # the store is this process's: it stays until the worker has read it
        time.sleep(PAUSE)


def received(place: str, name: str, device: torch.device, seconds: float) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that `send` sends, in turn.

    Raises:
        ValueError: if what waits at this place has another name.
        RuntimeError: if nobody is there, or the group breaks.
    """
    host, _, port = place.rpartition(":")
    store = GROUPS.TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=seconds))
    listed = json.loads(store.get("weights"))
    if listed["name"] != name:
        raise ValueError(f"expected {name} at {place}, found {listed['name']}")
    store.set("there", device.type)
    kind = store.get("kind").decode()
    share = _group(store, 1, kind, seconds)
    for key, dtype, shape in listed["tensors"]:
        tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=device if kind == "cuda" else "cpu")
        share(tensor)
        yield key, tensor
    store.set("done", "1")


def _group(store: Any, rank: int, kind: str, seconds: float) -> Callable[[torch.Tensor], None]:
    """Joins a group apart from the process's own, which vLLM has; returns what shares the tensor of rank 0."""
    make = GROUPS.ProcessGroupNCCL if kind == "cuda" else GROUPS.ProcessGroupGloo
    group, options = make(store, rank, 2, timedelta(seconds=seconds)), GROUPS.BroadcastOptions()
    options.rootRank = options.rootTensor = 0

    def share(tensor: torch.Tensor) -> None:
        group.broadcast([tensor], options).wait()
        if tensor.is_cuda:
            torch.cuda.current_stream(tensor.device).synchronize()  # before its memory is read, or used again

    return share
