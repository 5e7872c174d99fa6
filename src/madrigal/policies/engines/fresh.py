"""Proof that who samples holds the weights that learn: the same log-probs of the same tokens, and the same version.

An engine with copies of weights may answer with older ones, with those of another agent, at another temperature, or
with half of what it was handed, and all of this looks like text. Log-probs do not agree by accident.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from madrigal.maths.batch import token_batch
from madrigal.policies.engines.engine import Answer, Engine, Request
from madrigal.policies.forward import hidden_before_actions, sampled_logprobs
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Sampling
from madrigal.types import Completion, EngineError

SINGLE = 50  # how many times more than the mean one single token may differ
PLAIN = Sampling()  # greedy answers come with the log-probs of the model's own distribution


def tolerances(policy: LocalPolicy, given: float | None) -> tuple[float, float]:
    """The largest mean difference of log-probs, and that of a single token, in nats, that rounding explains.

    Args:
        given: what the settings say of the mean; None is 0.01 in float32, 0.002 of an engine that holds a copy of the
            weights, and 0.1 in bfloat16.
    """
    exact = 0.01 if policy.config.engine.kind == "local" else 0.002
    usual = exact if policy.model.dtype == torch.float32 else 0.1
    mean = usual if given is None else given
    return mean, SINGLE * mean


def prove(engine: Engine, policy: LocalPolicy, answered: Sequence[tuple[Request, Answer]]) -> None:
    """Scores what an engine said right after a hand-over with the policy's own weights.

    Raises:
        EngineError: naming policy, engine and version, if these weights cannot have said it.
    """
    total, largest, count = 0.0, 0.0, 0
    for greedy in (False, True):
        pairs = [(request, answer) for request, answer in answered if request.sampling.greedy == greedy]
        if not pairs:
            continue
        rows = [Completion("", request.prompt_ids, answer.token_ids) for request, answer in pairs]
        batch = token_batch(rows, policy.tokenizer.pad_token_id, policy.device)
        model, sampling = policy.activate(), PLAIN if greedy else pairs[0][0].sampling
        with torch.no_grad():
            hidden = hidden_before_actions(model, batch)
            found, _ = sampled_logprobs(model, hidden, batch.actions[batch.mask], sampling)
        said = torch.tensor([logprob for _, answer in pairs for logprob in answer.logprobs], device=found.device)
        gaps = (found - said).abs()
        total, largest, count = total + float(gaps.sum()), max(largest, float(gaps.max())), count + len(gaps)
    mean, single = tolerances(policy, engine.tolerance)
    if total / count > mean or largest > single:
        raise EngineError(
            f"policy {policy.name}: {engine.name} was handed version {policy.version} of its weights and does not "
            f"speak with them: log-probs differ by {total / count:.4f} nats a token, by {largest:.4f} at most "
            f"({mean:g} and {single:g} expected); {CAUSES}"
        )


CAUSES = (
    "it holds other weights, or samples otherwise (vLLM needs --logprobs-mode processed_logprobs: madrigal engine "
    "serve sets it; SGLang no SGLANG_RETURN_ORIGINAL_LOGPROB); optimizer.mismatch_tolerance sets another bound"
)
