"""A Ray cluster of three nodes on this machine, the same for all tests; its processes are used again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from madrigal.cluster.ray import RayHost, RayRemote

STORE = 80 << 20


@pytest.fixture(scope="session")
def nodes() -> Iterator[Any]:
    """The cluster, with this process connected to it."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("no Ray on this machine; pip install 'madrigal[ray]'")
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED")
    os.environ |= dict(zip(names, ("token", secrets.token_hex(32), "0", "0"), strict=True))
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "_system_config": {"health_check_period_ms": 1000},  # a lost node is missed in 5 s instead of 15
        },
    )
    spec = {"num_cpus": 1, "object_store_memory": STORE, "wait": False, "resources": {"place": 1}}
    for _ in range(2):
        cluster.add_node(**spec)
    cluster.wait_for_nodes()
    cluster.ray = ray
    ray.init(address=cluster.address, namespace="madrigal", log_to_driver=False, logging_level="fatal")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def begun(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> list[RayRemote]:
    """What is started in a test."""
    started: list[RayRemote] = []
    begin = RayRemote.__init__

    def remember(remote: RayRemote, ray: Any, actor: Any, name: str) -> None:
        begin(remote, ray, actor, name)
        started.append(remote)

    monkeypatch.setattr(RayRemote, "__init__", remember)
    return started


@pytest.fixture
def warm(begun: list[RayRemote], monkeypatch: pytest.MonkeyPatch) -> list[RayRemote]:
    """What is started in a test, in processes that were started before: importing torch takes seconds.

    An object that ends frees its process for the next one.
    """
    fresh = RayHost.process

    def process(host: RayHost, options: Mapping[str, Any]) -> Any:
        key = tuple(sorted(options.get("resources", {})))
        spare = SPARE.setdefault(key, [])
        return spare.pop() if spare else fresh(host, options | {"max_concurrency": 2})

    def end(remote: RayRemote) -> None:
        if not remote.ended:
            remote.ended = True
            with contextlib.suppress(remote.ray.exceptions.RayError):
                remote.ray.get(remote.actor.make.remote(dict, ()))
                SPARE.setdefault((), []).append(remote.actor)

    monkeypatch.setattr(RayHost, "process", process)
    monkeypatch.setattr(RayRemote, "end", end)
    return begun


SPARE: dict[tuple[str, ...], list[Any]] = {}
