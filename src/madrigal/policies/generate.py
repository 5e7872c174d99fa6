"""Batched sampling: one call answers every prompt that one policy is asked in a tick.

A prompt that several siblings share is read once; rows that have ended are dropped from the
batch as it shrinks (on a GPU they are looked for every few tokens); each row draws from its own seed, so that its
answer does not depend on the rows beside it, but for rounding: a draw that lies on the border of two tokens may fall
on either side.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from madrigal.maths.batch import batches_by_size, prompt_levels
from madrigal.maths.sampling import check_finite, draw
from madrigal.policies.decoders import decoder
from madrigal.policies.engines.engine import Answer, Request, check_lengths, completion_of
from madrigal.policies.local import LocalPolicy
from madrigal.policies.machine import release
from madrigal.settings import Sampling
from madrigal.types import Completion, Messages

SAMPLING_TOKENS = 65536  # padded tokens in one batch, where memory suffices
TOLD = 8  # rows of a batch whose listeners are told at each look: of more, each is told of every few tokens
GPU_LOOK = 16  # tokens between two looks at which rows have ended: at each, a GPU stands still until it has answered


def generate(
    policy: LocalPolicy,
    prompts: Sequence[Messages],
    seeds: Sequence[int],
    sampling: Sampling,
    token_budget: int = SAMPLING_TOKENS,
) -> list[Completion]:
    """Answers prompts with a policy's present weights.

    Args:
        seeds: one per prompt; equal prompts with equal seeds get equal answers, to rounding.
        token_budget: the most padded tokens (prompt and answer) held in one batch.

    Raises:
        EngineError: if a prompt and the longest answer do not fit the model's context, or its logits are not finite.
    """
    ids_of = {prompt: policy.encode(prompt) for prompt in dict.fromkeys(prompts)}
    requests = [
        Request(policy.name, ids_of[prompt], seed, sampling) for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    check_lengths({policy.name: policy}, requests)
    answers = sample(policy, requests, token_budget)
    return [completion_of(policy, request, answer) for request, answer in zip(requests, answers, strict=True)]


def sample(policy: LocalPolicy, requests: Sequence[Request], token_budget: int = SAMPLING_TOKENS) -> list[Answer]:
    """Answers requests of one policy; those that are drawn in one way share a batch."""
    answers: dict[int, Answer] = {}
    for sampling in dict.fromkeys(request.sampling for request in requests):
        places = [n for n, request in enumerate(requests) if request.sampling == sampling]
        sizes = [len(requests[n].prompt_ids) + sampling.max_new_tokens for n in places]
        for rows in batches_by_size(sizes, token_budget):
            batch = [requests[places[i]] for i in rows]
            answers |= zip([places[i] for i in rows], _sample(policy, batch, sampling), strict=True)
        release()
    return [answers[n] for n in range(len(requests))]


@torch.inference_mode()
def _sample(policy: LocalPolicy, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
    began = time.perf_counter()
    encoded, seeds = [request.prompt_ids for request in requests], [request.seed for request in requests]
    limit, device = sampling.max_new_tokens, policy.device
    every = GPU_LOOK if device.type == "cuda" else 1
    ends = torch.tensor(sorted(policy.ends), device=device)
    uniform = _uniform(seeds, limit).to(device)
    distinct = {ids: n for n, ids in enumerate(dict.fromkeys(encoded))}
    prompts = prompt_levels(list(distinct), policy.tokenizer.pad_token_id, device)
    rows = decoder(policy.activate(), prompts, torch.tensor([distinct[ids] for ids in encoded], device=device), limit)
    index = torch.arange(len(encoded), device=device)
    tokens = torch.zeros((len(encoded), limit), dtype=torch.long, device=device)
    logprobs = torch.zeros((len(encoded), limit), device=device)
    ended = torch.zeros(len(encoded), dtype=torch.bool, device=device)
    present, seconds = list(range(len(encoded))), [0.0] * len(encoded)  # rows in the batch; when each ended
    lengths = [limit] * len(encoded)  # tokens of each, unless an end token comes before
    told = [0] * len(encoded)  # tokens of which each one's listener knows
    heard = any(request.listener for request in requests)
    for t in range(limit):
        token, logprob = draw(rows.logits, uniform[index, t], sampling)
        tokens[index, t], logprobs[index, t] = token, logprob
        ended = ended | (token[:, None] == ends).any(dim=-1)
        if t + 1 == limit:
            break
        if (t + 1) % every == 0:
            done = ended.tolist()
            if heard:
                listening = [n for n, row in enumerate(present) if requests[row].listener and not done[n]]
                for n in _in_turn(listening, (t + 1) // every):
                    row = present[n]
                    if not _goes_on(requests[row], tokens[row, told[row] : t + 1].tolist()):
                        done[n], lengths[row] = True, t + 1
                    told[row] = t + 1
                ended = torch.tensor(done, device=device)
            now = time.perf_counter() - began
            for row in itertools.compress(present, done):
                seconds[row] = seconds[row] or now
            left = [n for n, over in enumerate(done) if not over]
            if not left:
                break
            if len(left) <= rows.crowded * len(present):
                keep, present = torch.tensor(left, device=device), [present[n] for n in left]
                rows.select(keep)
                index, token, ended = index[keep], token[keep], ended[keep]
        rows.advance(token)
    check_finite(logprobs, f"policy {policy.name}")
    answers, nats = tokens.tolist(), logprobs.tolist()
    total = time.perf_counter() - began
    return [_answer(policy, answers[i][: lengths[i]], nats[i], lasted or total) for i, lasted in enumerate(seconds)]


def _in_turn(listening: Sequence[int], look: int) -> Sequence[int]:
    """Who is told at this look: all, or where that would take longer than to decode, a share of them in turn.

    >>> _in_turn(range(3), 7), _in_turn(range(0, 80, 4), 7), _in_turn(range(0, 80, 4), 8)
    (range(0, 3), range(4, 80, 12), range(8, 80, 12))
    """
    share = math.ceil(len(listening) / TOLD)
    return listening[look % share :: share] if share > 1 else listening


def _goes_on(request: Request, token_ids: Sequence[int]) -> bool:
    """Tells a listener of new tokens; whether it wants more."""
    return request.listener is None or request.listener(token_ids)


def _uniform(seeds: Sequence[int], count: int) -> Tensor:
    """One stream of numbers in [0, 1) per seed."""
    generator = torch.Generator()
    return torch.stack([torch.rand(count, generator=generator.manual_seed(seed)) for seed in seeds])


def _answer(policy: LocalPolicy, tokens: list[int], logprobs: list[float], seconds: float) -> Answer:
    """An answer up to its first end token; what was drawn after that, before the row was dropped, is nothing."""
    ends = policy.ends
    length = next((n for n, token in enumerate(tokens, 1) if token in ends), len(tokens))
    return Answer(tuple(tokens[:length]), tuple(logprobs[:length]), policy.version, seconds)
