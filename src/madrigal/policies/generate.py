"""Batched sampling: one call answers every prompt that one policy is asked in a tick.

A prompt that several siblings share is read once; rows that have ended are dropped from the
batch as it shrinks (on a GPU they are looked for every few tokens); each row draws from its own seed, so that its
answer does not depend on the rows beside it, but for rounding: a draw that lies on the border of two tokens may fall
on either side.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from madrigal.maths.batch import batches_by_size, prompt_levels
from madrigal.maths.sampling import check_finite, draw
from madrigal.policies.decoders import decoder
from madrigal.policies.local import LocalPolicy
from madrigal.policies.machine import release
from madrigal.settings import Sampling
from madrigal.types import Completion, EngineError, Messages

SAMPLING_TOKENS = 65536  # padded tokens in one batch, where memory suffices
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
    encoded = [ids_of[prompt] for prompt in prompts]
    _check_lengths(policy, encoded, sampling)
    answers: list[Completion] = [Completion("")] * len(prompts)
    for rows in batches_by_size([len(ids) + sampling.max_new_tokens for ids in encoded], token_budget):
        completions = _generate(policy, [encoded[i] for i in rows], [seeds[i] for i in rows], sampling)
        for i, completion in zip(rows, completions, strict=True):
            answers[i] = completion
    release()
    return answers


def _check_lengths(policy: LocalPolicy, encoded: Sequence[tuple[int, ...]], sampling: Sampling) -> None:
    longest = max(map(len, encoded), default=0)
    if longest + sampling.max_new_tokens > policy.context:
        raise EngineError(
            f"policy {policy.name}: a prompt of {longest} tokens and an answer of up to {sampling.max_new_tokens} do "
            f"not fit the model's context of {policy.context}; shorten the examples, lower sampling.max_new_tokens, or "
            "take a model with a longer context"
        )


@torch.inference_mode()
def _generate(
    policy: LocalPolicy, encoded: Sequence[tuple[int, ...]], seeds: Sequence[int], sampling: Sampling
) -> list[Completion]:
    began = time.perf_counter()
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
    for t in range(limit):
        token, logprob = draw(rows.logits, uniform[index, t], sampling)
        tokens[index, t], logprobs[index, t] = token, logprob
        ended = ended | (token[:, None] == ends).any(dim=-1)
        if t + 1 == limit:
            break
        if (t + 1) % every == 0:
            now, done = time.perf_counter() - began, ended.tolist()
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
    return [_completion(policy, encoded[i], answers[i], nats[i], lasted or total) for i, lasted in enumerate(seconds)]


def _uniform(seeds: Sequence[int], count: int) -> Tensor:
    """One stream of numbers in [0, 1) per seed."""
    generator = torch.Generator()
    return torch.stack([torch.rand(count, generator=generator.manual_seed(seed)) for seed in seeds])


def _completion(
    policy: LocalPolicy, prompt_ids: tuple[int, ...], tokens: list[int], logprobs: list[float], seconds: float
) -> Completion:
    """An answer up to its first end token; what was drawn after that, before the row was dropped, is nothing."""
    limit, ends = len(tokens), policy.ends
    length = next((n for n, token in enumerate(tokens, 1) if token in ends), limit)
    tokens = tokens[:length]
    # A single token is a whole answer, with no room to say that it ends.
    finish: Literal["stop", "length"] = "stop" if tokens[-1] in ends or limit == 1 else "length"
    text = policy.decode(tokens)
    return Completion(
        text=text,
        prompt_ids=prompt_ids,
        token_ids=tuple(tokens),
        logprobs=tuple(logprobs[:length]),
        finish=finish,
        seconds=seconds,
        version=policy.version,
        pieces=policy.spell(tokens, text),
    )
