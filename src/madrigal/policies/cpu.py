"""Llama, Qwen2 and Qwen3 written out for the CPU: reading with gradients, and decoding.

On a CPU a small model spends most of its time outside its matrix products. Here these are few and large: queries, keys
and values are one product, and so are the two halves of the gate; what scales the input of a product is multiplied into
its matrix; tokens are packed, so that only attention sees padding; what several answers or prompts begin with is read
once (`PrefixLevel`). Tests hold every number and gradient against the library's own code.

Shapes: M packed tokens; R rows of N columns in a level; K keys; H query heads in groups that share one of the p
key-value heads; d numbers per head; D the width of the residual stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from madrigal.maths.batch import PrefixLevel
from madrigal.policies.fused import gated, inherited, normed

FAMILY = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
ROTATIONS = ("default", "linear", "llama3")  # those whose angles do not depend on the length read so far


def supports(model: Any) -> bool:
    """Whether what is written here computes what the model computes."""
    if type(model) not in FAMILY or model.device.type != "cpu" or model.dtype != torch.float32:
        return False
    config, layers = model.config, model.model.layers
    linear = [part for layer in layers for part in (*_projections(layer), layer.mlp.down_proj)]
    linear.append(model.lm_head)  # an adapter may sit on it, or on the embedding, alone
    return (
        config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in ROTATIONS
        and set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
        and type(model.model.embed_tokens) is nn.Embedding
        and all(type(part) is nn.Linear for part in linear)
        and all(layer.self_attn.o_proj.bias is None and layer.mlp.down_proj.bias is None for layer in layers)
    )


def _projections(layer: Any) -> tuple[Any, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj


# Weights


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The matrices of one layer, merged; gradients reach the model's parameters.

    Attributes:
        kv_heads: p.
        qkv: [(H + 2p) d, D] rows of queries, keys, values, with the norm before them and attention's scale multiplied
            in.
        head_norm: [H + p, d] scales of normed queries and keys, where the architecture norms them.
        gate_up: [2 mlp, D] with the norm before it multiplied in.
        out, down: transposed, as a sum takes them: [H d, D] and [mlp, D].
    """

    kv_heads: int
    qkv: Tensor
    qkv_bias: Tensor | None
    head_norm: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor


def layer_weights(layer: Any) -> LayerWeights:
    """Merges the matrices of one layer of a model."""
    query, key, value, out, gate, up = _projections(layer)
    head, scale = layer.self_attn.head_dim, layer.self_attn.scaling
    heads, kv_heads = query.out_features // head, key.out_features // head
    head_norm = bias = None
    if "q_norm" in dict(layer.self_attn.named_children()):
        query_norm, key_norm = layer.self_attn.q_norm.weight * scale, layer.self_attn.k_norm.weight
        head_norm = torch.cat([query_norm.expand(heads, head), key_norm.expand(kv_heads, head)])
        scale = 1.0
    if query.bias is not None:
        bias = torch.cat([query.bias * scale, key.bias, value.bias])
    return LayerWeights(
        kv_heads=kv_heads,
        qkv=torch.cat([query.weight * scale, key.weight, value.weight]) * layer.input_layernorm.weight,
        qkv_bias=bias,
        head_norm=head_norm,
        out=out.weight.t(),
        gate_up=torch.cat([gate.weight, up.weight]) * layer.post_attention_layernorm.weight,
        down=layer.mlp.down_proj.weight.t(),
    )


def rotary_tables(model: Any, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the first `length` positions, [length d]: rotated = x cos + roll(x, d/2) sin."""
    cos, sin = (table[0] for table in model.model.rotary_emb(model.lm_head.weight, torch.arange(length)[None]))
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)


# Steps that reading and decoding share


def _queries_keys_values(
    stream: Float[Tensor, "M D"], layer: LayerWeights, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Float[Tensor, "M H+p d"], Float[Tensor, "M p d"]]:
    """Queries and keys, normed and rotated (`cos` and `sin` are [M 1 d]), and values."""
    mixed = functional.linear(normed(stream, eps), layer.qkv, layer.qkv_bias).view(len(stream), -1, cos.shape[-1])
    queries_keys, values = mixed[:, : -layer.kv_heads], mixed[:, -layer.kv_heads :]
    if layer.head_norm is not None:
        queries_keys = normed(queries_keys, eps) * layer.head_norm
    return torch.addcmul(queries_keys * cos, queries_keys.roll(cos.shape[-1] // 2, -1), sin), values


def hidden_states(model: Any, stream: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    """The last hidden states, as the output layer takes them."""
    scale: Tensor = model.model.norm.weight
    return normed(stream, model.config.rms_norm_eps) * scale


def logits_after(model: Any, stream: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
    """The logits of the tokens that follow."""
    return functional.linear(hidden_states(model, stream), model.lm_head.weight)


# Reading


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the real tokens of a level stand, and what each may look at.

    Attributes:
        rows, width: R and N.
        cells: [M] the flat places of the real tokens.
        parent: the row above that each row goes on from.
        bias: [R 1 group*N K] added to the scores: 0 where a query sees a key, else the lowest number.
    """

    rows: int
    width: int
    cells: Int[Tensor, " M"]
    parent: Int[Tensor, " R"]
    bias: Float[Tensor, "R 1 GN K"]

    def unpacked(self, packed: Tensor) -> Tensor:
        """[R, N, heads, d] real tokens in their places, zeros elsewhere."""
        shape = (self.rows, self.width, *packed.shape[1:])
        if len(packed) == self.rows * self.width:
            return packed.reshape(shape)
        blank = packed.new_zeros((self.rows * self.width, *packed.shape[1:]))
        return blank.index_copy(0, self.cells, packed).view(shape)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of levels of tokens.

    Attributes:
        stream: the residual stream after the last layer, one row per real token, level after level, row after row.
        keys, values: per layer [R p K d], of the rows of the last level and all that they go on from.
        mask: which of these are real.
        layers: the matrices that it was read with.
    """

    stream: Float[Tensor, "M D"]
    keys: list[Tensor]
    values: list[Tensor]
    mask: Bool[Tensor, "R K"]
    layers: list[LayerWeights]


def read(model: Any, levels: Sequence[PrefixLevel]) -> Reading:
    """Runs a model over levels; every real token goes through the matrices once, in one product with all others."""
    layers = [layer_weights(layer) for layer in model.model.layers]
    grids, positions, mask = _lay_out(levels, model.config.num_attention_heads // model.config.num_key_value_heads)
    cos, sin = (table[positions][:, None] for table in rotary_tables(model, int(positions.max()) + 1))
    tokens = torch.cat([level.tokens[level.mask] for level in levels])
    embedding, eps = model.model.embed_tokens, model.config.rms_norm_eps
    # The padding token learns nothing, as in the library.
    stream = functional.embedding(tokens, embedding.weight, embedding.padding_idx)
    keys, values = [], []
    for layer in layers:
        attended, key, value = _attend(*_queries_keys_values(stream, layer, cos, sin, eps), grids, layer.kv_heads)
        stream = torch.addmm(stream, attended, layer.out)
        stream = torch.addmm(stream, gated(functional.linear(normed(stream, eps), layer.gate_up)), layer.down)
        keys.append(key)
        values.append(value)
    return Reading(stream, keys, values, mask, layers)


def row_ends(levels: Sequence[PrefixLevel]) -> Int[Tensor, " R"]:
    """Where in the stream of a reading the last tokens of the rows of the last of these levels stand."""
    above = sum(int(level.mask.sum()) for level in levels[:-1])
    return levels[-1].mask.sum(-1).cumsum(0) - 1 + above


def _lay_out(levels: Sequence[PrefixLevel], group: int) -> tuple[list[_Grid], Tensor, Tensor]:
    """The grids, the position of every real token, and which keys the rows of the last level see."""
    grids, positions = [], []
    mask = torch.zeros((len(levels[0].tokens), 0), dtype=torch.bool)
    for level in levels:
        rows, width = level.tokens.shape
        above = mask[level.parent]
        own = level.mask[:, None, :] & torch.ones(width, width, dtype=torch.bool).tril()
        visible = torch.cat([above[:, None].expand(rows, width, above.shape[1]), own], dim=-1)
        bias = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
        cells = level.mask.flatten().nonzero()[:, 0]
        grids.append(_Grid(rows, width, cells, level.parent, bias.repeat(1, group, 1)[:, None]))
        positions.append((above.sum(-1, keepdim=True) + level.mask.cumsum(-1) - 1)[level.mask])
        mask = torch.cat([above, level.mask], dim=-1)
    return grids, torch.cat(positions), mask


def _attend(
    queries_keys: Tensor, values: Tensor, grids: Sequence[_Grid], kv_heads: int
) -> tuple[Float[Tensor, "M Hd"], Tensor, Tensor]:
    """What attention gives every token, and the keys and values that the rows of the last level see."""
    heads, head, start = queries_keys.shape[1] - kv_heads, queries_keys.shape[-1], 0
    attended, all_keys, all_values = [], queries_keys, values
    for n, grid in enumerate(grids):
        level = slice(start, start + len(grid.cells))
        both = grid.unpacked(queries_keys[level]).transpose(1, 2)
        query, key = both[:, :heads], both[:, heads:]
        value = grid.unpacked(values[level]).transpose(1, 2)
        all_keys = torch.cat([inherited(all_keys, grid.parent), key], dim=2) if n else key
        all_values = torch.cat([inherited(all_values, grid.parent), value], dim=2) if n else value
        # The queries of a group are stacked, so that no key is repeated for them.
        stacked = query.reshape(grid.rows, kv_heads, -1, head)
        answer = functional.scaled_dot_product_attention(stacked, all_keys, all_values, attn_mask=grid.bias, scale=1.0)
        flat = answer.view(grid.rows, heads, grid.width, head).transpose(1, 2).reshape(-1, heads * head)
        attended.append(flat if len(grid.cells) == len(flat) else flat.index_select(0, grid.cells))
        start = level.stop
    return torch.cat(attended), all_keys, all_values


# Decoding


@dataclass(slots=True)
class _LayerCache:
    """Keys and values of one layer: the prompts', [Q p, P, d], and room for the answers', [B p, room, d]."""

    prompt_keys: Tensor
    prompt_values: Tensor
    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor, prompts: Tensor, written: int) -> None:
        """Keeps these rows and prompts."""
        self.keys, self.values = (_selected(store, rows, written) for store in (self.keys, self.values))
        if len(prompts) < len(self.prompt_keys):
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


class CpuDecoder:
    """The rows that are being written, and the logits of their next tokens; a third of the library's time per token.

    The keys and values of a prompt are held once for all its siblings, whose queries are stacked into one product. One
    softmax runs over the scores of prompt and answer together. Weights are read when a decoder is made, and a decoder
    lives for one call: never stale.

    Shapes: Q prompts of at most P tokens, B rows, S the most siblings that share a prompt.
    """

    def __init__(self, model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor, room: int) -> None:
        """Reads prompts and takes up from there.

        Args:
            prompts: levels with a row per distinct prompt at the bottom.
            prompt_of: [B] the prompt of each row.
            room: the most tokens that will be written.
        """
        reading = read(model, prompts)
        self.model, self.eps, self.kv_heads = model, model.config.rms_norm_eps, model.config.num_key_value_heads
        self.layers = reading.layers
        self.caches = [
            _layer_cache(keys, values, len(prompt_of), room)
            for keys, values in zip(reading.keys, reading.values, strict=True)
        ]
        self.cos, self.sin = rotary_tables(model, reading.mask.shape[1] + room)
        self.padding = torch.zeros(reading.mask.shape).masked_fill(~reading.mask, float("-inf"))
        self.position, self.written = reading.mask.sum(-1)[prompt_of], 0
        self.logits = logits_after(model, reading.stream[row_ends(prompts)])[prompt_of]
        self._place_siblings(prompt_of)

    def _place_siblings(self, prompt_of: Tensor) -> None:
        """Gives every row one of the S slots of its prompt."""
        self.prompt_of = prompt_of
        count = torch.bincount(prompt_of, minlength=len(self.padding))
        first, siblings = count.cumsum(0) - count, int(count.max())
        order = prompt_of.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - first[prompt_of[order]]
        self.slot_of = prompt_of * siblings + rank
        self.all_in_order = torch.equal(self.slot_of, torch.arange(len(count) * siblings))
        self.row_in = torch.zeros(len(count) * siblings, dtype=torch.long)
        self.row_in[self.slot_of] = torch.arange(len(prompt_of))
        self.mask = self.padding.repeat_interleave(self.kv_heads, dim=0)[:, None]

    def select(self, keep: Tensor) -> None:
        """Keeps these rows, and of the prompts those that are still asked for."""
        prompts, prompt_of = torch.unique(self.prompt_of[keep], return_inverse=True)
        heads = torch.arange(self.kv_heads)
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
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        stream = functional.embedding(token, self.model.model.embed_tokens.weight)
        for layer, cache in zip(self.layers, self.caches, strict=True):
            attended = self._attend(*_queries_keys_values(stream, layer, cos, sin, self.eps), cache)
            stream.addmm_(attended, layer.out)
            stream.addmm_(gated(functional.linear(normed(stream, self.eps), layer.gate_up)), layer.down)
        self.logits = logits_after(self.model, stream)
        self.position = self.position + 1
        self.written += 1

    def _attend(self, queries_keys: Tensor, value: Tensor, cache: _LayerCache) -> Tensor:
        """[B, H d] what attention gives every row, over its prompt and its own answer."""
        rows, end = len(value), self.written + 1
        query, key = queries_keys[:, : -self.kv_heads], queries_keys[:, -self.kv_heads :]
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


def _layer_cache(keys: Float[Tensor, "Q p P d"], values: Float[Tensor, "Q p P d"], rows: int, room: int) -> _LayerCache:
    """The cache of one layer, with nothing written yet."""
    shape = (rows * keys.shape[1], room, keys.shape[-1])
    return _LayerCache(keys.flatten(0, 1), values.flatten(0, 1), keys.new_empty(shape), keys.new_empty(shape))


def _selected(store: Tensor, rows: Tensor, written: int) -> Tensor:
    """Some rows of a store, with the same room."""
    new = store.new_empty((len(rows), *store.shape[1:]))
    new[:, :written] = store[rows, :written]
    return new
