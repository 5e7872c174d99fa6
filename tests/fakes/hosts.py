"""Hosts for tests: one that keeps its objects in this process and loses them on demand."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import pytest

from madrigal.cluster.host import LostError, Place

LOADING = Lock()  # transformers loads one model at a time in a process

# An own task of two agents, for a file that workers open.
TASK = """
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

def reward(example, said):
    text = said["ann"] + said["bob"]
    return 2 * sum(ord(c) % 2 for c in text) / max(1, len(text))

words = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
train, test = (tuple(Example(f"{split}-{n}", {"word": w}) for n, w in enumerate(words)) for split in ("train", "test"))
task = SingleRound("odd", ("ann", "bob"), train, test, lambda example, agent: f"{agent}, {example.data['word']}!",
                   reward, best_return=2.0)
"""


@dataclass
class Here:
    """A value that went through a pickle, as on its way to another machine."""

    value: bytes

    def get(self) -> Any:
        return pickle.loads(self.value)


@dataclass
class Nearby:
    """An object that lives in this process, and knows none of what its callers hold."""

    host: InProcess
    place: Place
    held: Any
    lost: bool = False
    calls: list[str] = field(default_factory=list)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        name = args[0] if method == "do" else method
        self.calls.append(name)
        if self.lost or self.host.loses(self.place.name, name):
            self.lost = True
            raise LostError("pulled the plug")
        args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
        result = pickle.loads(pickle.dumps(getattr(self.held, method)(*args, **kwargs)))
        if self.host.loses(self.place.name, f"after {name}"):
            self.lost = True
            raise LostError("pulled the plug before the answer came")
        return result

    def address(self) -> str:
        return "127.0.0.1"

    def end(self) -> None:
        self.lost = True


@dataclass
class InProcess:
    """A host whose objects live here.

    Attributes:
        loses: whether an object is lost in a call of a method, given the names of both.
        started: the names of what was started.
    """

    loses: Callable[[str, str], bool] = lambda name, method: False
    started: list[str] = field(default_factory=list)

    def start(self, place: Place, make: Callable[..., Any], *args: Any) -> Nearby:
        self.started.append(place.name)
        make, args = pickle.loads(pickle.dumps((make, args)))
        with LOADING:
            return Nearby(self, place, make(*args))

    def share(self, value: Any) -> Here:
        return Here(pickle.dumps(value))

    def nodes(self) -> int:
        return 1


@contextmanager
def in_process(patch: pytest.MonkeyPatch, host: InProcess) -> Iterator[InProcess]:
    """Within, every cluster is this host."""

    @contextmanager
    def cluster(*_: Any) -> Iterator[InProcess]:
        yield host

    with patch.context() as within:
        within.setattr("madrigal.training.site.ray_cluster", cluster)
        yield host


def losing(times: int, name: str, method: str, *, every: int = 1) -> Callable[[str, str], bool]:
    """Loses an object in the n-th, 2n-th, ... call of a method, so many times."""
    calls, left = 0, times

    def loses(named: str, called: str) -> bool:
        nonlocal calls, left
        if (named, called) != (name, method):
            return False
        calls += 1
        if left and calls % every == 0:
            left -= 1
            return True
        return False

    return loses
