"""The rows that are being written, and the logits of their next tokens: on a CPU, on a GPU, by the library's code.

Shapes: Q prompts of at most P tokens, B rows, S the most siblings that share a prompt; H query heads in groups that
share one of the p key-value heads; d numbers per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from madrigal.maths.batch import PrefixLevel
from madrigal.policies import kernels, llama
from madrigal.policies.forward import last_hidden, read_prompts
from madrigal.policies.internals import additive_mask, output_logits, plain_model, roomy_cache
from madrigal.policies.llama import (
    Product,
    after_attention,
    hidden_states,
    queries_keys_values,
    rotary_tables,
    row_ends,
)


def decoder(model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor, room: int) -> Decoder | LibraryDecoder:
    """Reads distinct prompts, each once, and begins a row for each of `prompt_of`; `room` tokens at the most."""
    if not llama.supports(model):
        return LibraryDecoder(model, prompts, prompt_of)
    kind = GraphDecoder if kernels.available(model.device, llama.head_size(model)) else Decoder
    return kind(model, prompts, prompt_of, room)


@dataclass(slots=True)
class _LayerCache:
    """Keys and values of a layer: the prompts', [Q p, P, d], and room for the answers', [B p, room, d]."""

    prompt_keys: Tensor
    prompt_values: Tensor
    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor, prompts: Tensor, written: int) -> None:
        """Keeps these rows and prompts."""
        self.keys, self.values = (_selected(store, rows, written) for store in (self.keys, self.values))
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


class Decoder:
    """Llama, Qwen2 and Qwen3, on a CPU in a third of the library's time per token.

    The keys and values of a prompt are held once for all its siblings, whose queries are stacked into one product. One
    softmax runs over the scores of prompt and answer together. Weights are read when a decoder is made, and a decoder
    lives for one call: never stale.

    Attributes:
        crowded: rows that have ended are dropped when no larger share is left: each time, the cache is copied.
        logits: [B V] of the next tokens.
    """

    crowded = 7 / 8

    def __init__(self, model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor, room: int) -> None:
        """Reads prompts and takes up from there.

        Args:
            prompts: levels with a row per distinct prompt at the bottom.
            prompt_of: [B] the prompt of each row.
            room: the most tokens that will be written.
        """
        reading = llama.read(model, prompts)
        self.model = model = plain_model(model)
        self.eps, self.kv_heads = model.config.rms_norm_eps, model.config.num_key_value_heads
        self.layers = [layer.for_decoding() for layer in reading.layers]
        self.head = Product(model.lm_head.weight, None, ()).for_decoding()
        self.caches = [
            _layer_cache(self._stored(keys), self._stored(values), len(prompt_of), room)
            for keys, values in zip(reading.keys, reading.values, strict=True)
        ]
        self.cos, self.sin = rotary_tables(model, reading.mask.shape[1] + room)
        padding = torch.zeros(reading.mask.shape, device=model.device)
        self.padding = padding.masked_fill(~reading.mask, float("-inf"))
        self.position, self.written = reading.mask.sum(-1)[prompt_of], 0
        self.logits = self._logits(reading.stream[row_ends(prompts)])[prompt_of]
        self._place_siblings(prompt_of)

    def _stored(self, keys: Tensor) -> Tensor:
        """Keys or values as they are kept: a processor multiplies small tables faster in float32."""
        return keys.float()

    def _place_siblings(self, prompt_of: Tensor) -> None:
        """Gives every row one of the S slots of its prompt."""
        self.prompt_of = prompt_of
        count = torch.bincount(prompt_of, minlength=len(self.padding))
        first, siblings = count.cumsum(0) - count, int(count.max())
        order = prompt_of.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first[prompt_of[order]]
        self.slot_of = prompt_of * siblings + rank
        slots = torch.arange(len(count) * siblings, device=order.device)
        self.all_in_order = torch.equal(self.slot_of, slots)
        self.row_in = torch.zeros_like(slots)
        self.row_in[self.slot_of] = torch.arange(len(prompt_of), device=order.device)
        self.mask = self.padding.repeat_interleave(self.kv_heads, dim=0)[:, None]

    def select(self, keep: Tensor) -> None:
        """Keeps these rows, and of the prompts those that are still asked for."""
        prompts, prompt_of = torch.unique(self.prompt_of[keep], return_inverse=True)
        heads = torch.arange(self.kv_heads, device=keep.device)
        for cache in self.caches:
            cache.select(
                (keep[:, None] * self.kv_heads + heads).flatten(),
                (prompts[:, None] * self.kv_heads + heads).flatten(),
                self.written,
            )
        self.padding, self.position, self.logits = self.padding[prompts], self.position[keep], self.logits[keep]
        self._place_siblings(prompt_of)

    def advance(self, token: Tensor) -> None:
        """Writes one token per row."""
        self.logits = self._logits_after(token)
        self.position = self.position + 1
        self.written += 1

    def _logits_after(self, token: Tensor) -> Tensor:
        """[B V] the logits of what follows a token per row, whose keys and values go into the caches."""
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        stream = functional.embedding(token, self.model.model.embed_tokens.weight).float()
        for layer, cache in zip(self.layers, self.caches, strict=True):
            queries_keys, value = queries_keys_values(stream, layer, cos, sin, self.eps)
            attended = self._attend(queries_keys, value, cache, layer.scaling)
            stream = after_attention(stream, attended.to(queries_keys.dtype), layer, self.eps)
        return self._logits(stream)

    def _logits(self, stream: Tensor) -> Tensor:
        return self.head(hidden_states(self.model, stream))

    def _attend(self, queries_keys: Tensor, value: Tensor, cache: _LayerCache, scaling: float) -> Tensor:
        """[B, H d] what attention gives every row, over its prompt and its own answer."""
        rows, end = len(value), self.written + 1
        queries_keys, value = queries_keys.float(), value.float()
        query, key = queries_keys[:, : -self.kv_heads] * scaling, queries_keys[:, -self.kv_heads :]
        cache.keys[:, self.written] = key.reshape(-1, key.shape[-1])
        cache.values[:, self.written] = value.reshape(-1, value.shape[-1])
        keys, values = cache.keys[:, :end], cache.values[:, :end]
        query = query.reshape(rows, self.kv_heads, -1, query.shape[-1])
        own = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2)).view(rows, self.kv_heads, -1, end)
        shared = torch.baddbmm(self.mask, self._stack(query), cache.prompt_keys.transpose(1, 2))
        weights = torch.cat([self._unstack(shared), own], dim=-1).softmax(dim=-1)
        answer = torch.bmm(weights[..., -end:].flatten(0, 1), values).view(query.shape)
        prompt = torch.bmm(self._stack(weights[..., :-end]), cache.prompt_values)
        return answer.add_(self._unstack(prompt)).view(rows, -1)

    def _stack(self, each: Tensor) -> Tensor:
        """Siblings' rows below one another: [B, p, group, n] becomes [Q p, S group, n]."""
        slots = each if self.all_in_order else each[self.row_in]
        grid = slots.view(len(self.padding), -1, *each.shape[1:]).transpose(1, 2)
        return grid.reshape(len(self.mask), -1, each.shape[-1])

    def _unstack(self, stacked: Tensor) -> Tensor:
        """The inverse of `_stack`."""
        prompts, slots, width = len(self.padding), len(self.row_in), stacked.shape[-1]
        grid = stacked.view(prompts, self.kv_heads, slots // prompts, -1, width).transpose(1, 2)
        each = grid.reshape(slots, self.kv_heads, -1, width)
        return each if self.all_in_order else each[self.slot_of]


class GraphDecoder(Decoder):
    """The same on a GPU: a step is one CUDA graph of few kernels, replayed for every token."""

    crowded = 1 / 2  # a new graph costs some ten tokens
    # All graphs work in the same memory, one after the other; it is kept while one of them lives.
    newest: ClassVar[torch.cuda.CUDAGraph | None] = None
    stream: ClassVar[torch.cuda.Stream | None] = None

    def __init__(self, model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor, room: int) -> None:
        super().__init__(model, prompts, prompt_of, room)
        self.place = torch.zeros(1, dtype=torch.long, device=model.device)
        self.token = torch.zeros_like(prompt_of)
        self.graph: torch.cuda.CUDAGraph | None = None

    def _stored(self, keys: Tensor) -> Tensor:
        return keys

    def _place_siblings(self, prompt_of: Tensor) -> None:
        """Kernels take the prompt of each row, and need no slots."""
        self.prompt_of = prompt_of

    def select(self, keep: Tensor) -> None:
        """Keeps these rows, and of the prompts those that are still asked for."""
        super().select(keep)
        self.token, self.graph = self.token[keep], None

    def advance(self, token: Tensor) -> None:
        """Writes one token per row."""
        self.token.copy_(token)
        if self.graph is not None:
            self.graph.replay()
        else:
            self.step()
            self.graph = self._captured()
        self.written += 1

    def _captured(self) -> torch.cuda.CUDAGraph:
        """The kernels of a step, which has run before and loaded them, to be launched as one."""
        cls, graph = GraphDecoder, torch.cuda.CUDAGraph()
        cls.stream = cls.stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        cls.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(cls.stream):
            # Others may learn meanwhile.
            graph.capture_begin(pool=cls.newest.pool() if cls.newest else None, capture_error_mode="thread_local")
            self.step()
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(cls.stream)
        cls.newest = graph
        return graph

    def step(self) -> None:
        """Everything that a token asks for, from fixed places in memory to fixed places in memory."""
        stream = functional.embedding(self.token, self.model.model.embed_tokens.weight).float()
        more = None
        for layer, cache in zip(self.layers, self.caches, strict=True):
            mixed = layer.qkv(kernels.add_and_norm(stream, more, layer.norm, self.eps))
            attended = kernels.attend(
                mixed,
                layer.head_norm,
                (self.cos, self.sin),
                self.position,
                (cache.prompt_keys, cache.prompt_values),
                self.padding,
                self.prompt_of,
                (cache.keys, cache.values),
                self.place,
                layer.scaling,
                self.eps,
            )
            both = layer.gate_up(kernels.add_and_norm(stream, layer.out(attended), layer.mlp_norm, self.eps))
            more = layer.down(kernels.gated(both))
        hidden = kernels.add_and_norm(stream, more, self.model.model.norm.weight, self.eps)
        self.logits.copy_(self.head(hidden))
        self.position += 1
        self.place += 1


def _layer_cache(keys: Float[Tensor, "Q p P d"], values: Float[Tensor, "Q p P d"], rows: int, room: int) -> _LayerCache:
    """The cache of one layer, with nothing written yet."""
    shape = (rows * keys.shape[1], room, keys.shape[-1])
    # One prompt alone stays a view with gaps, and kernels know of no strides.
    prompt_keys, prompt_values = (table.flatten(0, 1).contiguous() for table in (keys, values))
    return _LayerCache(prompt_keys, prompt_values, keys.new_zeros(shape), keys.new_zeros(shape))


def _selected(store: Tensor, rows: Tensor, written: int) -> Tensor:
    """Some rows of a store, with the same room."""
    new = store.new_zeros((len(rows), *store.shape[1:]))
    new[:, :written] = store[rows, :written]
    return new


class LibraryDecoder:
    """Any model, by the library's own code."""

    crowded = 7 / 8

    def __init__(self, model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor) -> None:
        self.model, self.cache = model, roomy_cache(model)
        hidden, cached = read_prompts(model, prompts, self.cache)
        self.logits = output_logits(model, hidden)
        self.mask, self.position = additive_mask(cached, model.dtype), cached.sum(-1)
        self.select(prompt_of)

    def select(self, keep: Tensor) -> None:
        """Keeps these rows."""
        self.mask = None if self.mask is None else self.mask[keep]
        self.position, self.logits = self.position[keep], self.logits[keep]
        self.cache.batch_select_indices(keep)

    def advance(self, token: Tensor) -> None:
        """Writes one token per row."""
        if self.mask is not None:
            self.mask = functional.pad(self.mask, (0, 1))
        hidden = last_hidden(
            self.model,
            input_ids=token[:, None],
            attention_mask=self.mask,
            position_ids=self.position[:, None],
            cache=self.cache,
        )
        self.logits, self.position = output_logits(self.model, hidden[:, -1]), self.position + 1
