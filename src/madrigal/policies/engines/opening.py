"""Opens the engines that policies ask for, and finds what cannot work before any weight is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from madrigal.policies.engines.engine import CopyingEngine, Engine
from madrigal.policies.engines.server import ServerEngine, check_server
from madrigal.policies.engines.vllm import VllmEngine, check_sampling, check_vllm, reserved_rank
from madrigal.policies.local import LocalPolicy, resolve_model
from madrigal.policies.outside import check_outside
from madrigal.settings import PolicyConfig, Sampling
from madrigal.types import ConfigError


def check_engines(policies: Iterable[PolicyConfig], sampling: Sampling) -> None:
    """Looks at every engine that is no local one: is it there, and does it take this model, its tokens, its adapters.

    Who speaks without a model of this process is looked for, too.

    Raises:
        ConfigError, EngineError: one line each.
    """
    for policy in dict.fromkeys(policies):
        if policy.outside:
            check_outside(policy)
        elif policy.engine.kind == "vllm":
            check_vllm()
            reserved_rank(policy.lora.rank)
        elif policy.engine.kind == "server":
            check_server(policy, sampling)
        if policy.engine.kind != "local":
            check_sampling(sampling, policy.engine.name)


@contextmanager
def open_engines(policies: Sequence[LocalPolicy], tolerance: float | None = None) -> Iterator[dict[str, Engine]]:
    """The engines of policies that do not answer in this process with their own weights, by policy; closes them.

    Args:
        tolerance: what settings say of the mean difference of log-probs between engine and learner.

    Raises:
        ConfigError: if two policies ask one engine for whole weights.
        EngineError: if an engine cannot be started or asked.
    """
    shares: dict[tuple[str, ...], list[LocalPolicy]] = {}
    for policy in policies:
        if policy.config.engine.kind != "local":
            shares.setdefault(_place(policy), []).append(policy)
    with ExitStack() as stack:
        found: dict[str, Engine] = {}
        for share in shares.values():
            engine = _opened(share, tolerance)
            stack.callback(engine.close)
            found |= dict.fromkeys((policy.name for policy in share), engine)
        yield found


def _place(policy: LocalPolicy) -> tuple[str, ...]:
    """What is the same for policies that share an engine."""
    config = policy.config
    if config.engine.kind == "server":
        return "server", config.engine.url
    return ("vllm", config.model, str(policy.model.dtype)) if policy.adapter else ("vllm", "", policy.name)


def _opened(share: Sequence[LocalPolicy], tolerance: float | None) -> CopyingEngine:
    first = share[0]
    if first.config.engine.kind == "vllm":
        return VllmEngine(share, resolve_model(first.config.model), tolerance)
    whole = [policy.name for policy in share if not policy.adapter and policy.trainable]
    if whole and len(share) > 1:
        raise ConfigError(
            f"engine.url: {first.config.engine.name} holds one model, and is to hold the weights of "
            f"{' and '.join(policy.name for policy in share)}; train adapters (lora.rank), or give {whole[0]} a server "
            f"of its own (--team.seats.{whole[0]}.engine.url)"
        )
    return ServerEngine(share, tolerance)
