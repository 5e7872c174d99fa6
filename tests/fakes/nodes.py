"""A Ray cluster of three nodes on this machine, and how to lose one of them; pytest and benchmarks share it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madrigal.cluster.ray import RayRemote

NAMES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED")
STORE = 80 << 20  # bytes of shared objects
# A lost node is missed in 5 s instead of 15; workers are as good as the tests beside them, where Ray would nice them.
SYSTEM = {"health_check_period_ms": 1000, "worker_niceness": 0}


def node(cpus: int) -> dict[str, Any]:
    """Settings of a node that learners can ask for by `place`."""
    return {"num_cpus": cpus, "object_store_memory": STORE, "wait": False, "resources": {"place": 1}}


@contextmanager
def three_nodes(cpus: int = 1) -> Iterator[Any]:
    """The cluster, with this process connected to it; `cluster.ray` is Ray."""
    os.environ |= dict(zip(NAMES, ("token", secrets.token_hex(32), "0", "0"), strict=True))
    import ray
    from ray.cluster_utils import Cluster

    head = {**node(cpus), "wait": True, "resources": {}, "include_dashboard": False, "_system_config": SYSTEM}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)  # nodes join in any thread
    try:
        for _ in range(2):
            cluster.add_node(**node(cpus))
        cluster.wait_for_nodes()
        cluster.ray = ray
        ray.init(address=cluster.address, namespace="madrigal", log_to_driver=False, logging_level="fatal")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def lose_node(cluster: Any, pid: int) -> None:
    """Ends the node that a process lives on."""
    raylet = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    pids = {one: one.all_processes["raylet"][0].process.pid for one in cluster.worker_nodes}
    cluster.remove_node(next(one for one, its in pids.items() if its == raylet), allow_graceful=False)


@contextmanager
def remembered() -> Iterator[list[RayRemote]]:
    """A list of every object that is started on a cluster in the context."""
    started, begin = list[RayRemote](), RayRemote.__init__

    def remember(remote: RayRemote, *arguments: Any) -> None:
        begin(remote, *arguments)
        started.append(remote)

    RayRemote.__init__ = remember  # type: ignore[assignment, method-assign]
    try:
        yield started
    finally:
        RayRemote.__init__ = begin  # type: ignore[method-assign]
