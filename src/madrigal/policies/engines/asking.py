"""Asks engines: hands over weights that are new, and looks at what comes back before anybody reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from madrigal.policies.engines.engine import Answer, Engine, Request, check_lengths
from madrigal.policies.engines.fresh import prove
from madrigal.policies.local import LocalPolicy
from madrigal.types import EngineError

PROBED = 8  # answers of a policy that are scored by its own weights after every hand-over


def ask(
    requests: Sequence[Request], policies: Mapping[str, LocalPolicy], engine_of: Mapping[str, Engine]
) -> list[Answer]:
    """Answers in the order of the requests: one call per engine, those that run elsewhere at the same time.

    Raises:
        EngineError: if a prompt is too long, weights cannot be handed over, or answers are not those of the weights.
    """
    engines = list({id(engine_of[request.policy]): engine_of[request.policy] for request in requests}.values())
    shares = [[n for n, request in enumerate(requests) if engine_of[request.policy] is engine] for engine in engines]

    def answer(engine: Engine, places: Sequence[int]) -> list[Answer]:
        return _ask(engine, [requests[n] for n in places], policies)

    with ThreadPoolExecutor(max(1, len(engines))) as pool:
        remote = all(engine.remote for engine in engines) and len(engines) > 1
        rows = list((pool.map if remote else map)(answer, engines, shares))
    found = {n: one for places, row in zip(shares, rows, strict=True) for n, one in zip(places, row, strict=True)}
    return [found[n] for n in range(len(requests))]


def _ask(engine: Engine, requests: Sequence[Request], policies: Mapping[str, LocalPolicy]) -> list[Answer]:
    asked = {name: policies[name] for name in dict.fromkeys(request.policy for request in requests)}
    check_lengths(asked, requests)
    renewed = [policy for policy in asked.values() if engine.hand_over(policy)]
    answers = engine.answer(requests)
    if len(answers) != len(requests):
        raise EngineError(f"{engine.name}: expected {len(requests)} answers, got {len(answers)}")
    if not engine.copies:
        return answers
    for request, one in zip(requests, answers, strict=True):
        check_answer(engine, asked[request.policy], request, one)
    for policy in renewed:
        own = [pair for pair in zip(requests, answers, strict=True) if pair[0].policy == policy.name]
        prove(engine, policy, own[:PROBED])
    return answers


def check_answer(engine: Engine, policy: LocalPolicy, request: Request, answer: Answer) -> None:
    """Refuses what no model with these tokens and these weights can have answered.

    Raises:
        EngineError: naming policy, engine and what is wrong.
    """
    whose, limit = f"policy {policy.name}: {engine.name} answered", request.sampling.max_new_tokens
    tokens, size = answer.token_ids, int(policy.model.config.vocab_size)
    if not 0 < len(tokens) <= limit or len(answer.logprobs) != len(tokens):
        raise EngineError(
            f"{whose} with {len(tokens)} tokens and {len(answer.logprobs)} log-probs, expected 1 to {limit} of each"
        )
    if not all(0 <= token < size for token in tokens):
        raise EngineError(
            f"{whose} with token {max(tokens, key=abs)}, and there are {size}; it has another tokenizer or model"
        )
    if not all(math.isfinite(logprob) for logprob in answer.logprobs):
        raise EngineError(f"{whose} with log-probs that are not finite; its weights are broken, or overflow")
    if answer.version != policy.version:
        raise EngineError(
            f"{whose} with version {answer.version} of the weights, which are at version {policy.version}"
        )
    ended = tokens[-1] in policy.ends
    if any(token in policy.ends for token in tokens[:-1]) or (len(tokens) < limit and not ended):
        raise EngineError(f"{whose} beyond an end token, or stopped before one: its end tokens are others")
