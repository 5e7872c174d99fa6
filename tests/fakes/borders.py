"""Answers by two float paths: equal to rounding, and as far as every draw keeps its distance from a border.

Batched or alone, written out or the library's, with a cache or without, on this processor or on that: the sums are
rounded in another order. A draw that lies on the border of two tokens may then fall on either side, and no two paths
agree on it. Such a pair of answers is the same up to there.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fakes.tiny import answers
from madrigal.maths.sampling import filtered_logits
from madrigal.policies.generate import _uniform
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Sampling
from madrigal.types import Completion

ROUNDING = 1e-4  # of log-probs, in nats; it moves the borders between tokens by no more than that in probability


def plain_logits(policy: LocalPolicy, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """[T + 1, V] before each token of an answer and after it, by one plain pass."""
    with torch.no_grad():
        logits: Tensor = policy.activate()(input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
    return logits[len(prompt) - 1 :]


def margin(logits: Tensor, uniform: float, sampling: Sampling) -> float:
    """How far a draw from [V] logits is from the nearest border: of the greedy choice, of a token, of what is cut."""
    ranked = (logits.double() / sampling.temperature).sort(descending=True).values
    if sampling.greedy:
        return float(ranked[0] - ranked[1]) / 2  # both may be rounded
    near = [(filtered_logits(logits, sampling).double().softmax(-1).cumsum(-1) - uniform).abs().min()]
    if 0 < sampling.top_k < len(ranked):
        near.append((ranked[sampling.top_k - 1] - ranked[sampling.top_k]) / 2)
        ranked = ranked[: sampling.top_k]
    if sampling.top_p < 1:
        near.append((ranked.softmax(-1).cumsum(-1) - sampling.top_p).abs().min())
    return float(min(near))


def assert_same_tokens(
    policy: LocalPolicy,
    prompt: Sequence[int],
    ours: Sequence[int],
    theirs: Sequence[int],
    sampling: Sampling,
    seed: int = 0,
) -> int:
    """The same tokens, up to a draw that lies on a border; returns how many there are up to there."""
    pairs = zip(ours, theirs, strict=False)
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    if same < max(len(ours), len(theirs)):
        logits = plain_logits(policy, prompt, ours[:same])[-1]
        assert margin(logits, float(_uniform([seed], same + 1)[0, same]), sampling) < ROUNDING
    return same


def assert_same_answers(
    policy: LocalPolicy,
    ours: Sequence[Completion],
    theirs: Sequence[Completion],
    sampling: Sampling,
    seeds: Sequence[int],
) -> None:
    """The same tokens and log-probs, up to a draw that lies on a border."""
    for one, other, seed in zip(ours, theirs, seeds, strict=True):
        assert one.prompt_ids == other.prompt_ids
        same = assert_same_tokens(policy, one.prompt_ids, one.token_ids, other.token_ids, sampling, seed)
        assert one.logprobs[:same] == pytest.approx(other.logprobs[:same], abs=ROUNDING)
        assert one.token_ids != other.token_ids or one.finish == other.finish


def assert_speaks_as_one_plain_pass(policy: LocalPolicy) -> None:
    """On prompts of different lengths that begin alike, so that padding stands before and within them."""
    sampling = Sampling(max_new_tokens=8)
    for answer in answers(policy, sampling, ("the cat sat", "the cat saw a dog", "mice"), each=2):
        table = plain_logits(policy, answer.prompt_ids, answer.token_ids)[:-1].log_softmax(-1)
        chosen = table.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert float((chosen - torch.tensor(answer.logprobs)).abs().max()) < 1e-4
