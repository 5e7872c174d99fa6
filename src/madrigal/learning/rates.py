"""The learning rate of a model where the user names none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from madrigal.policies.local import LocalPolicy
from madrigal.settings import OptimizerConfig

TINY, TINY_RATE = 10_000_000, 1e-3  # trials on the starter models of 1 and 2 M parameters (docs/results.md)
MEASURED, MEASURED_RATE = 135_000_000, 2e-5  # SmolLM2-135M on tldr, every weight trained
LEAST_RATE = 5e-6  # of the authors of MAGRPO for Qwen3-1.7B (arXiv:2508.04652, configurations of August 2025)
ADAPTER_RATE = 1e-4  # about ten times the rate of whole models, as LoRA needs (arXiv:2106.09685, table 12: 2e-4)


def learning_rate(parameters: int, adapter: bool = False) -> float:
    """The peak learning rate of AdamW for a model of so many parameters.

        1e-3                                 up to 10 M, the starter models
        2e-5 sqrt(135 M / parameters)        above, between 5e-6 and 2e-5: every weight is trained
        1e-4                                 at least, of an adapter

    The root goes through what was measured at 135 M and what the authors of MAGRPO use at 1.7 B.

    >>> [f"{learning_rate(int(size)):.1e}" for size in (1e6, 135e6, 0.6e9, 1.7e9, 7e9)]
    ['1.0e-03', '2.0e-05', '9.5e-06', '5.6e-06', '5.0e-06']
    >>> learning_rate(1_700_000_000, adapter=True)
    0.0001
    """
    if parameters <= TINY:
        return TINY_RATE
    if adapter:
        return ADAPTER_RATE
    return max(LEAST_RATE, MEASURED_RATE * math.sqrt(MEASURED / max(parameters, MEASURED)))


def with_rate(config: OptimizerConfig, body: LocalPolicy) -> OptimizerConfig:
    """The settings with the rate that follows from a model, where they name none."""
    return config if config.lr is not None else replace(config, lr=_rate_of(body))


def rates_in_words(policies: Iterable[LocalPolicy]) -> str:
    """The rates that are chosen for policies, and from what, in one line."""
    by_reason: dict[str, list[str]] = {}
    for policy in policies:
        kind = "an adapter" if policy.adapter else "every weight trained"
        reason = f"{_rate_of(policy):.2g} for {{}} ({_size(policy) / 1e6:.3g} M parameters, {kind})"
        by_reason.setdefault(reason, []).append(policy.name)
    return "; ".join(reason.format(", ".join(names)) for reason, names in by_reason.items())


def _rate_of(body: LocalPolicy) -> float:
    return learning_rate(_size(body), bool(body.adapter))


def _size(body: LocalPolicy) -> int:
    """The number of a model's parameters without those of adapters; tied ones count once."""
    named: Mapping[str, int] = {name: value.numel() for name, value in body.model.named_parameters()}
    return sum(count for name, count in named.items() if "lora_" not in name)
