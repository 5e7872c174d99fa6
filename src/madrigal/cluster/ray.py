"""Ray as the host of objects: connects, checks what is there, starts actors. The only file that imports it.

Everything that can reach Ray's ports may run code there. So Ray asks for a token here, has no dashboard, and a cluster
that is started for a run listens on 127.0.0.1 alone; to join another one, `cluster.open` is to be set.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from madrigal.cluster.host import LostError, Place, Remote
from madrigal.settings import ClusterConfig
from madrigal.types import ConfigError, EngineError

NAMESPACE = "madrigal"
CLIENT = "ray://"  # addresses of a server that connects for others
PATIENCE = 5.0  # seconds that an address has to answer
SEATED = 120.0  # seconds in which a process must have started
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" is Ray's word for listening on 127.0.0.1 alone


@contextmanager
def ray_cluster(config: ClusterConfig, run: str, learners: int, version: str) -> Iterator[RayHost]:
    """Starts or joins a cluster for as long as the context lasts, and checks that a run can have what it asks for.

    Args:
        run: its name, which no other run on the cluster may have.
        learners: how many there will be.
        version: of this package, which every machine must have.

    Raises:
        ConfigError: in one line, before anything is loaded.
    """
    if config.address not in ("local", "auto"):
        _check_address(config)
    ray = _imported(config)
    joined = ray.is_initialized()
    if not joined:
        _connect(ray, config)
    host = RayHost(ray)
    try:
        host.check_room(config, learners)
        with nullcontext() if config.address == "local" else host.named(run):  # that one is this run's alone
            if config.address != "local":
                host.check_versions(version)
            yield host
    finally:
        host.end()
        if not joined:
            ray.shutdown()


def _imported(config: ClusterConfig) -> Any:
    """Ray, which reads when it is imported that it is to ask for a token, and on one machine to listen on 127.0.0.1.

    Raises:
        ConfigError: if it is not there, or was imported without this and did not join a cluster itself.
    """
    wanted = {"RAY_AUTH_MODE": "token"}
    if config.address == "local":
        wanted[LOOPBACK] = "0"
    before: Any = sys.modules.get("ray")
    if before is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # no GPU asked for, none seen
        os.environ |= {name: value for name, value in wanted.items() if not (name in os.environ and config.open)}
        if config.address == "local":
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif not before.is_initialized() and any(os.environ.get(name) != value for name, value in wanted.items()):
        raise ConfigError(
            "cluster: Ray was imported before, without a token and for all addresses; set "
            f"{' '.join(f'{name}={value}' for name, value in wanted.items())} before python starts, or call ray.init "
            "yourself"
        )
    try:
        ray = importlib.import_module("ray")
        if config.address.startswith(CLIENT):
            importlib.import_module("grpc")
    except ImportError as error:
        missing = "Ray is not installed; pip install 'madrigal[ray]'"
        if error.name == "grpc":
            missing = f"addresses with {CLIENT} need Ray's client; pip install 'ray[client]', name HOST:PORT"
        raise ConfigError(f"cluster: {missing}, or leave --cluster out") from error
    return ray


def _connect(ray: Any, config: ClusterConfig) -> None:
    quiet = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "error"}
    if config.address == "local":
        devices = {"num_gpus": 0} if not (config.gpus_per_learner or config.gpus_per_worker) else {}
        with _one_line("local"):
            ray.init(address="local", include_dashboard=False, **devices, **quiet)
        return
    with _one_line(config.address):
        ray.init(address=config.address, **quiet)
    if config.address == "auto" and not config.open and not _is_here(str(ray.get_runtime_context().gcs_address)):
        ray.shutdown()
        raise _closed("auto")


def _check_address(config: ClusterConfig) -> None:
    host, _, port = config.address.removeprefix(CLIENT).rpartition(":")
    if not config.open and not _is_here(config.address):
        raise _closed(config.address)
    try:
        with socket.create_connection((host, int(port)), PATIENCE):
            pass
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cluster.address: nothing answers at {config.address} ({error}); start Ray there with ray start --head, "
            "or take --cluster local"
        ) from error


def _is_here(address: str) -> bool:
    host = address.removeprefix(CLIENT).rpartition(":")[0]
    return host == "localhost" or host.startswith("127.")


def _closed(address: str) -> ConfigError:
    return ConfigError(
        f"cluster.address: {address} is a cluster that other machines can reach; what is sent there is not encrypted, "
        "and who has its token can run code: add --cluster.open if its network is yours alone"
    )


@contextmanager
def _one_line(address: str) -> Iterator[None]:
    """What Ray says when it cannot be joined, as one line."""
    try:
        yield
    except Exception as error:  # Ray raises what comes from below it
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"cluster.address: {address} cannot be joined ({type(error).__name__}: {text}); is its token "
            "the one here (~/.ray/auth_token, RAY_AUTH_TOKEN), and its Ray of the same version?"
        ) from error


class RayHost:
    """A cluster; `ray` is the module, connected."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._started = list[RayRemote]()

    def nodes(self) -> int:
        return len(self._alive())

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def check_versions(self, version: str) -> None:
        """Refuses a cluster with a machine where this package, or this version of it, is not installed."""

        def probe() -> str:
            import madrigal

            return madrigal.__version__

        task = self.ray.remote(probe)
        found: dict[str, Any] = {}
        for node in self._alive():
            pinned = {"scheduling_strategy": _affinity(self.ray, node["NodeID"]), "num_cpus": 0, "max_retries": 0}
            found[node["NodeName"]] = task.options(**pinned).remote()
        for name, answer in found.items():
            try:
                there = self.ray.get(answer, timeout=SEATED)
            except self.ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                raise ConfigError(
                    f"cluster: madrigal cannot be imported on the node {name} ({' '.join(str(cause).split())[:200]}); "
                    f"install madrigal {version} there"
                ) from error
            if there != version:
                raise ConfigError(
                    f"cluster: the node {name} has madrigal {there}, here it is {version}; install the same version"
                )

    def check_room(self, config: ClusterConfig, learners: int) -> None:
        """Refuses more seats than devices, and seats on nodes that are not there."""
        have: Mapping[str, float] = self.ray.cluster_resources()
        wanted = learners * config.gpus_per_learner + config.workers * config.gpus_per_worker
        if wanted > have.get("GPU", 0.0):
            raise ConfigError(
                f"cluster: {learners} learners with {config.gpus_per_learner:g} GPUs and {config.workers} workers with "
                f"{config.gpus_per_worker:g} need {wanted:g}, the cluster has {have.get('GPU', 0.0):g}; let them share "
                "(cluster.gpus_per_learner 0.5), or lower cluster.workers"
            )
        for name, seat in config.seats.items():
            if seat.node and not _resource(seat.node, have):
                there = sorted({node["NodeName"] for node in self._alive()})
                raise ConfigError(
                    f"cluster.seats.{name}.node: there is no node {seat.node}, nor one with such a resource; there are "
                    f"{', '.join(there)}"
                )

    @contextmanager
    def named(self, run: str) -> Iterator[None]:
        """Holds a run's name on the cluster; it is free again when this process has ended, however it ends."""
        with contextlib.suppress(ValueError):
            self.ray.get_actor(f"run {run}", namespace=NAMESPACE)
            raise ConfigError(
                f"cluster: a run of the name {run} is on this cluster already; wait for it, or choose another --name"
            )
        holder = self.ray.remote(_Holder).options(name=f"run {run}", namespace=NAMESPACE, num_cpus=0, max_concurrency=1)
        try:
            actor = holder.remote()
        except ValueError as error:
            raise ConfigError(
                f"cluster: a run of the name {run} is on this cluster already; wait for it, or choose another --name"
            ) from error
        try:
            yield
        finally:
            self.ray.kill(actor)

    def start(self, place: Place, make: Callable[..., Any], *args: Any) -> Remote:
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": place.gpus, "max_concurrency": place.calls}
        if place.node:
            options["resources"] = {_resource(place.node, self.ray.cluster_resources()) or place.node: 0.001}
        else:
            options["scheduling_strategy"] = "SPREAD"
        remote = RayRemote(self.ray, self.process(options), place.name)
        self._started = [one for one in self._started if not one.ended] + [remote]
        remote.make(make, args)
        return remote

    def process(self, options: Mapping[str, Any]) -> Any:
        """A new actor that holds nothing yet."""
        return self.ray.remote(_Holder).options(**options).remote()

    def share(self, value: Any) -> RayShared:
        return RayShared(self.ray.put(value))

    def end(self) -> None:
        """Ends everything that was started here."""
        for remote in self._started:
            remote.end()


def _affinity(ray: Any, node: str) -> Any:
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _resource(node: str, have: Mapping[str, float]) -> str:
    """The resource that stands for a node; "" where there is none."""
    return next((name for name in (f"node:{node}", node) if name in have), "")


class _Holder:
    """An actor: a process that holds one object."""

    def __init__(self) -> None:
        self.held: Any = None

    def make(self, make: Callable[..., Any], args: tuple[Any, ...]) -> int:
        self.held = make(*args)
        return os.getpid()

    def address(self) -> str:
        return str(importlib.import_module("ray.util").get_node_ip_address())

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return getattr(self.held, method)(*args, **kwargs)


class RayRemote:
    """An object in an actor.

    Attributes:
        pid: of its process, on its own machine.
    """

    def __init__(self, ray: Any, actor: Any, name: str) -> None:
        self.ray, self.actor, self.name = ray, actor, name
        self.pid, self.ended = 0, False

    def make(self, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Makes the object, in the actor."""
        timeouts = self.ray.exceptions.GetTimeoutError
        ready, answer = self.actor.__ray_ready__.remote(), self.actor.make.remote(make, args)
        try:
            self.ray.get(ready, timeout=SEATED)
        except timeouts as error:
            self.end()
            raise EngineError(
                f"cluster: no machine had room for {self.name} within {SEATED:g} s; are all nodes there that it needs?"
            ) from error
        except self.ray.exceptions.RayError as error:
            raise LostError(_reason(error)) from error
        self.pid = self._get(answer)

    def address(self) -> str:
        return str(self._get(self.actor.address.remote()))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._get(self.actor.call.remote(method, args, kwargs))

    def _get(self, answer: Any) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(answer)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, LostError | errors.RayError):
                raise LostError(_reason(cause)) from error
            if not isinstance(cause, Exception):
                raise EngineError(f"{self.name}: {' '.join(str(error).split())[:500]}") from error
            raise cause from None
        except errors.RayError as error:
            raise LostError(_reason(error)) from error

    def end(self) -> None:
        self.ended = True
        with contextlib.suppress(Exception):  # it has ended already
            self.ray.kill(self.actor)


def _reason(error: BaseException) -> str:
    """The first line of what Ray says of a loss."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


@dataclass(frozen=True, slots=True)
class RayShared:
    """A value in the object store."""

    reference: Any

    def get(self) -> Any:
        ray: Any = importlib.import_module("ray")
        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError as error:
            raise LostError(_reason(error)) from error
