"""A decoding step written out for Llama and its kin: one token more for every row, in a third of the library's time.

Knows: key-value room, siblings of a prompt. Does not know: tokenizers, sampling, the layout of the weights (llama).

Nothing is repeated for grouped heads, and the keys and values of a prompt are held once for all its siblings, whose
queries are stacked into one product. One softmax runs over the scores of prompt and answer together. Weights are read
when a decoder is made, and a decoder lives for one call: never stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from madrigal.maths.batch import Level
from madrigal.policies.fused import gated, normed
from madrigal.policies.llama import ends, logits, read, rotation, turned


@dataclass(slots=True)
class _Cache:
    """Keys and values of one layer: the prompts', [Q pairs, P, d], and room for the answers', [B pairs, room, d]."""

    prompt_keys: Tensor
    prompt_values: Tensor
    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor, prompts: Tensor, written: int) -> None:
        """Keeps these rows and prompts."""
        self.keys, self.values = (_some(store, rows, written) for store in (self.keys, self.values))
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


class Decoder:
    """The rows that are being written, and the logits of their next tokens.

    Shapes: Q prompts of at most P tokens, B rows, S the most siblings that share a prompt, H heads in groups that
    share one of the key-value heads, d numbers per head.
    """

    def __init__(self, model: Any, prompts: Sequence[Level], prompt_of: Tensor, room: int) -> None:
        """Reads prompts and takes up from there.

        Args:
            prompts: levels with a row per distinct prompt at the bottom.
            prompt_of: [B] the prompt of each row.
            room: the most tokens that will be written.
        """
        reading = read(model, prompts)
        self.model, self.eps, self.pairs = model, model.config.rms_norm_eps, model.config.num_key_value_heads
        self.blocks = reading.blocks
        self.caches = [
            _Cache(_heads_apart(keys), _heads_apart(values), *_rooms(keys, len(prompt_of), room))
            for keys, values in zip(reading.keys, reading.values, strict=True)
        ]
        self.cos, self.sin = rotation(model, reading.seen.shape[1] + room)
        self.padding = torch.zeros(reading.seen.shape).masked_fill(~reading.seen, float("-inf"))
        self.position, self.written = reading.seen.sum(-1)[prompt_of], 0
        self.logits = logits(model, reading.stream[ends(prompts)])[prompt_of]
        self._seat(prompt_of)

    def _seat(self, prompt_of: Tensor) -> None:
        """Gives every row a seat among the S of its prompt."""
        self.prompt_of = prompt_of
        count = torch.bincount(prompt_of, minlength=len(self.padding))
        first, siblings = count.cumsum(0) - count, int(count.max())
        order = prompt_of.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - first[prompt_of[order]]
        self.seat = prompt_of * siblings + rank
        self.full = torch.equal(self.seat, torch.arange(len(count) * siblings))
        self.sitter = torch.zeros(len(count) * siblings, dtype=torch.long)
        self.sitter[self.seat] = torch.arange(len(prompt_of))
        self.mask = self.padding.repeat_interleave(self.pairs, dim=0)[:, None]

    def select(self, keep: Tensor) -> None:
        """Keeps these rows, and of the prompts those that are still asked for."""
        prompts, prompt_of = torch.unique(self.prompt_of[keep], return_inverse=True)
        rows = (keep[:, None] * self.pairs + torch.arange(self.pairs)).flatten()
        held = (prompts[:, None] * self.pairs + torch.arange(self.pairs)).flatten()
        for cache in self.caches:
            cache.select(rows, held, self.written)
        self.padding, self.position, self.logits = self.padding[prompts], self.position[keep], self.logits[keep]
        self._seat(prompt_of)

    def advance(self, token: Tensor) -> None:
        """Writes one token per row."""
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        stream = functional.embedding(token, self.model.model.embed_tokens.weight)
        for block, cache in zip(self.blocks, self.caches, strict=True):
            heard = self._attention(*turned(normed(stream, self.eps), block, cos, sin, self.eps), cache)
            stream.addmm_(heard, block.out)
            stream.addmm_(gated(functional.linear(normed(stream, self.eps), block.gate_up)), block.down)
        self.logits = logits(self.model, stream)
        self.position = self.position + 1
        self.written += 1

    def _attention(self, compared: Tensor, value: Tensor, cache: _Cache) -> Tensor:
        """[B, H d] what every row's query reads from its prompt and its own answer."""
        rows, end = len(value), self.written + 1
        query, key = compared[:, : -self.pairs], compared[:, -self.pairs :]
        cache.keys[:, self.written] = key.reshape(-1, key.shape[-1])
        cache.values[:, self.written] = value.reshape(-1, value.shape[-1])
        keys, values = cache.keys[:, :end], cache.values[:, :end]
        query = query.reshape(rows, self.pairs, -1, query.shape[-1])
        own = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2)).view(rows, self.pairs, -1, end)
        shared = torch.baddbmm(self.mask, self._stack(query), cache.prompt_keys.transpose(1, 2))
        weights = torch.cat([self._spread(shared), own], dim=-1).softmax(dim=-1)
        answer = torch.bmm(weights[..., -end:].flatten(0, 1), values).view(query.shape)
        prompt = torch.bmm(self._stack(weights[..., :-end]), cache.prompt_values)
        return answer.add_(self._spread(prompt)).view(rows, -1)

    def _stack(self, each: Tensor) -> Tensor:
        """Siblings' rows below one another: [B, pairs, group, n] becomes [Q pairs, S group, n]."""
        seated = each if self.full else each[self.sitter]
        grid = seated.view(len(self.padding), -1, *each.shape[1:]).transpose(1, 2)
        return grid.reshape(len(self.mask), -1, each.shape[-1])

    def _spread(self, stacked: Tensor) -> Tensor:
        """The inverse of `_stack`."""
        prompts, width = len(self.padding), stacked.shape[-1]
        siblings = len(self.sitter) // prompts
        grid = (
            stacked.view(prompts, self.pairs, siblings, -1, width)
            .transpose(1, 2)
            .reshape(len(self.sitter), self.pairs, -1, width)
        )
        return grid if self.full else grid[self.seat]


def _heads_apart(store: Tensor) -> Tensor:
    """[Q, pairs, P, d] becomes [Q pairs, P, d]."""
    return store.flatten(0, 1)


def _rooms(like: Tensor, rows: int, room: int) -> tuple[Tensor, Tensor]:
    """Room for the keys and the values of what will be written."""
    shape = (rows * like.shape[1], room, like.shape[-1])
    return like.new_empty(shape), like.new_empty(shape)


def _some(store: Tensor, rows: Tensor, written: int) -> Tensor:
    """Some rows of a store, with the same room."""
    new = store.new_empty((len(rows), *store.shape[1:]))
    new[:, :written] = store[rows, :written]
    return new
