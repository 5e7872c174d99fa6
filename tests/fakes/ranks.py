"""Learners on several ranks: this process is rank 0, the others are its children."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from madrigal.learning.ranks import Ranks, joined, serve_rank
from madrigal.types import EngineError

CHILDREN = multiprocessing.get_context("forkserver")  # each a fork of one process that has imported what takes seconds
CHILDREN.set_forkserver_preload(["madrigal.training.train"])


def spawned(rank: int, count: int, address: str) -> BaseProcess:
    child = CHILDREN.Process(target=_serve, args=(rank, count, address), daemon=True)
    child.start()
    return child


def _serve(rank: int, count: int, address: str) -> None:
    raise SystemExit(serve_rank(rank, count, address))


@contextmanager
def group(folder: Path, count: int) -> Iterator[Ranks]:
    """`count` ranks on this processor, all of which have ended well when the context is left."""
    address = f"file://{folder}/meeting-{count}"
    children = [spawned(rank, count, address) for rank in range(1, count)]
    with joined(0, count, address) as ranks:
        ranks.place(torch.device("cpu"))
        yield ranks
    for child in children:
        child.join(30)
        assert child.exitcode == 0


def alone(function: Callable[..., Any], folder: Path, *args: Any) -> Any:
    """What a function returns in a process of its own, as rank 0 has one: torch's groups end with their process."""
    file = folder / f"{function.__name__}.pt"
    child = CHILDREN.Process(target=_write, args=(file, function, folder, *args))
    child.start()
    child.join(170)
    assert child.exitcode == 0
    return torch.load(file, weights_only=False)


def _write(file: Path, function: Callable[..., Any], *args: Any) -> None:
    torch.set_num_threads(1)
    torch.save(function(*args), file)


# What ranks are told to do; each is called as (ranks, own, *args).


def refuse_on(ranks: Ranks, own: Any, rank: int) -> str:
    """One rank cannot do what it is told."""
    if ranks.rank == rank:
        raise EngineError("no such model here")
    return f"done by {ranks.rank}"


def seen(ranks: Ranks, own: Any, value: Any) -> list[Any]:
    """What every rank was given."""
    return ranks.gathered((ranks.rank, own, value))


def end_at_once(ranks: Ranks, own: Any, which: Sequence[int]) -> list[Any]:
    """As a kill does."""
    if ranks.rank in which:
        os._exit(9)
    return ranks.gathered(ranks.rank)


def lead_and_end(count: int, address: str) -> None:
    """Rank 0 of a process of its own, which is killed in the middle of a call."""
    with joined(0, count, address) as ranks:
        ranks.call(end_at_once, [0])
