"""A Ray cluster of three nodes on this machine, the same for all tests; its processes are used again."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fakes.nodes import remembered, three_nodes
from madrigal.cluster.ray import RayHost, RayRemote


@pytest.fixture(scope="session")
def nodes() -> Iterator[Any]:
    if not importlib.util.find_spec("ray"):
        pytest.skip("no Ray on this machine; pip install 'madrigal[ray]'")
    with three_nodes() as cluster:
        yield cluster


@pytest.fixture
def begun(nodes: Any) -> Iterator[list[RayRemote]]:
    """What is started in a test."""
    with remembered() as started:
        yield started


@pytest.fixture
def reused(begun: list[RayRemote], monkeypatch: pytest.MonkeyPatch) -> list[RayRemote]:
    """What is started in a test, in processes that others have left: importing torch takes seconds."""
    fresh = RayHost.process

    def process(host: RayHost, options: Mapping[str, Any]) -> Any:
        key = tuple(sorted(options.get("resources", {})))
        spare = SPARE.setdefault(key, [])
        return spare.pop() if spare else fresh(host, options | {"max_concurrency": 2})

    monkeypatch.setattr(RayHost, "process", process)
    return begun


@pytest.fixture
def warm(reused: list[RayRemote], monkeypatch: pytest.MonkeyPatch) -> list[RayRemote]:
    """The same; and an object that ends leaves its process to the next one."""

    def end(remote: RayRemote) -> None:
        if not remote.ended:
            remote.ended = True
            with contextlib.suppress(remote.ray.exceptions.RayError):
                remote.ray.get(remote.actor.make.remote(dict, ()))
                SPARE.setdefault((), []).append(remote.actor)

    monkeypatch.setattr(RayRemote, "end", end)
    return reused


SPARE: dict[tuple[str, ...], list[Any]] = {}
