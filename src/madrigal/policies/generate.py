"""Batched sampling on transformers: one call answers every prompt that one policy is asked in a tick.

Knows: token ids, key-value caches. Does not know: agents, tasks, groups.

A prompt that several siblings share is read once and its cache copied; rows that have ended are dropped from the
batch as it shrinks (on a GPU they are looked for every few tokens); each row draws from its own seed, so that its
answer does not depend on the rows beside it, but for rounding: a draw that lies on the border of two tokens may fall
on either side.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache, DynamicLayer

from madrigal.maths.batch import prompt_levels
from madrigal.maths.sampling import Sampling, check_finite, draw
from madrigal.policies.decoder import Decoder
from madrigal.policies.forward import read_prompts
from madrigal.policies.llama import supports
from madrigal.policies.local import LocalPolicy
from madrigal.types import Completion, EngineError, Messages

KEPT = 7 / 8  # rows that ended are dropped when no larger share is left: each time, the cache is copied
GPU_LOOK = 16  # tokens between two looks at which rows have ended: at each, a GPU stands still until it has answered


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that writes new keys and values into room made in advance.

    The library's layer copies the whole cache for every token; this one copies when its room is used up.
    """

    room = 64

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.used = 0
            self.store: tuple[Tensor, ...] = (key_states[:, :, :0], value_states[:, :, :0])
        end = self.used + key_states.shape[-2]
        if end > self.store[0].shape[-2]:
            self.store = tuple(self._wider(old, end + self.room) for old in self.store)
        for store, new in zip(self.store, (key_states, value_states), strict=True):
            store[:, :, self.used : end] = new
        self.used = end
        self.keys, self.values = (store[:, :, :end] for store in self.store)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self.store = tuple(store[indices] for store in self.store)
        self.keys, self.values = (store[:, :, : self.used] for store in self.store)

    def _wider(self, old: Tensor, length: int) -> Tensor:
        new = old.new_zeros((old.shape[0], old.shape[1], length, old.shape[3]))
        new[:, :, : self.used] = old[:, :, : self.used]
        return new


class _Rows:
    """The rows still being written, by the library's own code: for any architecture, device and adapter."""

    def __init__(self, model: Any, cache: Cache, seen: Tensor, logits: Tensor, prompt_of: Tensor) -> None:
        # Of a mask with two dimensions the library asks at every token whether all of it is True, and the processor
        # waits for the answer. It takes none, or one with four dimensions, as it is: what is added to the scores, for
        # plain attention adds whatever it is given.
        self.mask = None if bool(seen.all()) else added_mask(seen, model.dtype)
        self.model, self.cache, self.logits, self.position = model, cache, logits, seen.sum(-1)
        self.select(prompt_of)

    def select(self, keep: Tensor) -> None:
        self.mask = None if self.mask is None else self.mask[keep]
        self.position, self.logits = self.position[keep], self.logits[keep]
        self.cache.batch_select_indices(keep)

    def advance(self, token: Tensor) -> None:
        if self.mask is not None:
            self.mask = functional.pad(self.mask, (0, 1))
        output = self.model(
            input_ids=token[:, None],
            attention_mask=self.mask,
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits, self.position = output.logits[:, -1], self.position + 1


def added_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """[R 1 1 T] what is added to attention scores: 0 where `seen` [R T] is True, else the smallest number there is."""
    nothing = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return nothing.masked_fill(~seen, torch.finfo(dtype).min)[:, None, None]


def generate(
    policy: LocalPolicy,
    prompts: Sequence[Messages],
    seeds: Sequence[int],
    sampling: Sampling,
    token_budget: int = 65536,
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
    for rows in _batches([len(ids) + sampling.max_new_tokens for ids in encoded], token_budget):
        said = _generate(policy, [encoded[i] for i in rows], [seeds[i] for i in rows], sampling)
        for i, completion in zip(rows, said, strict=True):
            answers[i] = completion
    return answers


def _check_lengths(policy: LocalPolicy, encoded: Sequence[tuple[int, ...]], sampling: Sampling) -> None:
    longest = max(map(len, encoded), default=0)
    if longest + sampling.max_new_tokens > policy.context:
        raise EngineError(
            f"policy {policy.name}: a prompt of {longest} tokens and an answer of up to {sampling.max_new_tokens} do "
            f"not fit the model's context of {policy.context}; shorten the examples, lower sampling.max_new_tokens, or "
            "take a model with a longer context"
        )


def _batches(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows of similar size together, each batch within the budget (a larger single row goes alone)."""
    batch: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (sizes[i], i)):
        if batch and sizes[i] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def _generate(
    policy: LocalPolicy, encoded: Sequence[tuple[int, ...]], seeds: Sequence[int], sampling: Sampling
) -> list[Completion]:
    began = time.perf_counter()
    model, limit, device = policy.activate(), sampling.max_new_tokens, policy.device
    every = GPU_LOOK if device.type == "cuda" else 1
    ends = torch.tensor(sorted(policy.ends), device=device)
    uniform = _uniform(seeds, limit).to(device)
    rows, index = _read(policy, model, encoded, limit), torch.arange(len(encoded), device=device)
    tokens = torch.zeros((len(encoded), limit), dtype=torch.long, device=device)
    logprobs = torch.zeros((len(encoded), limit), device=device)
    over = torch.zeros(len(encoded), dtype=torch.bool, device=device)
    present, seconds = list(range(len(encoded))), [0.0] * len(encoded)  # rows in the batch; when each ended
    for t in range(limit):
        token, logprob = draw(rows.logits, uniform[index, t], sampling)
        tokens[index, t], logprobs[index, t] = token, logprob
        over = over | (token[:, None] == ends).any(dim=-1)
        if t + 1 == limit:
            break
        if (t + 1) % every == 0:
            now, ended = time.perf_counter() - began, over.tolist()
            for row in itertools.compress(present, ended):
                seconds[row] = seconds[row] or now
            left = [n for n, done in enumerate(ended) if not done]
            if not left:
                break
            if len(left) <= KEPT * len(present):
                keep, present = torch.tensor(left, device=device), [present[n] for n in left]
                rows.select(keep)
                index, token, over = index[keep], token[keep], over[keep]
        rows.advance(token)
    check_finite(logprobs, f"policy {policy.name}")
    answers, nats = tokens.tolist(), logprobs.tolist()
    total = time.perf_counter() - began
    return [_completion(policy, encoded[i], answers[i], nats[i], lasted or total) for i, lasted in enumerate(seconds)]


def _read(policy: LocalPolicy, model: Any, encoded: Sequence[tuple[int, ...]], room: int) -> _Rows | Decoder:
    """Reads each distinct prompt once, left-padded, and hands every row what was read of its own."""
    distinct = {ids: n for n, ids in enumerate(dict.fromkeys(encoded))}
    prompts = prompt_levels(list(distinct), policy.tokenizer.pad_token_id, policy.device)
    prompt_of = torch.tensor([distinct[ids] for ids in encoded], device=policy.device)
    if supports(model):
        return Decoder(model, prompts, prompt_of, room)
    cache = Cache(layers=[RoomyLayer() for _ in range(model.config.num_hidden_layers)])  # type: ignore[no-untyped-call]
    logits, seen = read_prompts(model, prompts, cache)
    return _Rows(model, cache, seen, logits, prompt_of)


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
