"""An engine with copies of weights in this process, and what may be wrong with one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from madrigal.policies.engines.engine import Answer, CopyingEngine, Request
from madrigal.policies.generate import sample
from madrigal.policies.local import LocalPolicy, put_weights
from madrigal.settings import EngineConfig

SERVER = EngineConfig("server", url="http://127.0.0.1:9")  # nobody listens there; errors name it
FAULTS = ("stale", "stale and says so", "swapped", "temperature", "tokenizer", "vocabulary", "truncated", "end", "nan")


class Copies(CopyingEngine):
    """Samples as the local engine does, from copies.

    Attributes:
        fault: what goes wrong; "" is nothing.
        since: hand-overs of a policy before it does.
    """

    def __init__(self, fault: str = "", since: int = 0, tolerance: float | None = None) -> None:
        super().__init__(SERVER.name, tolerance)
        self.fault, self.since = fault, since
        self.held: dict[str, LocalPolicy] = {}
        self.loads: dict[str, int] = {}

    def faulty(self, policy: str, fault: str) -> bool:
        return self.fault == fault and self.loads[policy] > self.since

    def load(self, policy: LocalPolicy) -> None:
        name = policy.name
        self.loads[name] = self.loads.get(name, 0) + 1
        if name not in self.held:
            self.held[name] = replace(policy, model=copy.deepcopy(policy.model))
        held, weights = self.held[name], dict(policy.parameters())
        if self.faulty(name, "stale") or self.faulty(name, "stale and says so"):
            return
        if self.faulty(name, "truncated"):
            old = held.parameters()
            half = sorted(weights)[: len(weights) // 2]
            weights = {key: weights[key] if key in half else old[key].detach().clone() for key in weights}
        put_weights(held, weights)
        held.version = policy.version

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        names = dict.fromkeys(request.policy for request in requests)
        rows = {name: iter(self._sample(name, [one for one in requests if one.policy == name])) for name in names}
        return [next(rows[request.policy]) for request in requests]

    def _sample(self, name: str, requests: list[Request]) -> list[Answer]:
        others = [other for other in self.held if other != name]
        held = self.held[others[0] if others and self.faulty(name, "swapped") else name]
        asked = requests
        if self.faulty(name, "temperature"):
            asked = [replace(one, sampling=replace(one.sampling, temperature=1.1)) for one in requests]
        answers = sample(held, asked)
        if not self.faulty(name, "stale and says so"):
            answers = [replace(one, version=self.handed[name]) for one in answers]
        return [self._spoilt(name, one) for one in answers]

    def _spoilt(self, name: str, answer: Answer) -> Answer:
        tokens, size = answer.token_ids, int(self.held[name].model.config.vocab_size)
        if self.faulty(name, "tokenizer"):  # the same words by other numbers
            ends = self.held[name].ends
            return replace(answer, token_ids=tuple(t if t in ends else 70 + (t + 1) % 20 for t in tokens))
        if self.faulty(name, "vocabulary"):
            return replace(answer, token_ids=(*tokens[:-1], size))
        if self.faulty(name, "end"):
            end = min(self.held[name].ends)
            return replace(answer, token_ids=(end, *tokens[1:]))
        if self.faulty(name, "nan"):
            return replace(answer, logprobs=(float("nan"), *answer.logprobs[1:]))
        return answer

    def hand_over(self, policy: LocalPolicy) -> bool:
        self.handed = {**getattr(self, "handed", {}), policy.name: policy.version}
        return super().hand_over(policy)

    def close(self) -> None:
        self.held.clear()


def opening(engine: CopyingEngine) -> Any:
    """What stands for `open_engines`: this engine for all policies."""

    @contextmanager
    def open_engines(policies: Sequence[LocalPolicy], tolerance: float | None = None) -> Iterator[dict[str, Any]]:
        yield {policy.name: engine for policy in policies}

    return open_engines


def shake(policy: LocalPolicy, seed: int, size: float = 0.02) -> None:
    """Other weights, and the next version."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    policy.version += 1
