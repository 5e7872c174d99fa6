"""The local engine: policies answer in this process, with the very weights that learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from madrigal.policies.engines.engine import Answer, Request
from madrigal.policies.generate import SAMPLING_TOKENS, sample
from madrigal.policies.local import LocalPolicy, map_policies


class LocalEngine:
    """Answers with one batched call per policy (two where some are greedy); nothing is ever handed over."""

    name, copies, remote = "the local engine", False, False
    tolerance: float | None = None

    def __init__(self, policies: Mapping[str, LocalPolicy], token_budget: int = SAMPLING_TOKENS) -> None:
        """`token_budget` is of one batch of a policy; what is more goes in several."""
        self.policies, self.token_budget = policies, token_budget

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of the requests."""
        names = dict.fromkeys(request.policy for request in requests)
        places = {name: [n for n, request in enumerate(requests) if request.policy == name] for name in names}

        def ask(policy: LocalPolicy) -> list[Answer]:
            return sample(policy, [requests[n] for n in places[policy.name]], self.token_budget)

        answers: dict[int, Answer] = {}
        policies = [self.policies[name] for name in names]
        for name, rows in zip(names, map_policies(ask, policies), strict=True):
            answers |= zip(places[name], rows, strict=True)
        return [answers[n] for n in range(len(requests))]

    def hand_over(self, policy: LocalPolicy) -> bool:
        """The weights that learn are those that speak."""
        return False

    def close(self) -> None:
        """Nothing runs for it."""
