"""Llama, Qwen2 and Qwen3 written out: their matrices, their layers, and reading with gradients.

A small model spends most of its time outside its matrix products. Here these are few and large: queries, keys
and values are one product, and so are the two halves of the gate; tokens are packed, so that only attention sees
padding; what several answers or prompts begin with is read once (`PrefixLevel`). Products are in the type of the
weights, float32 or bfloat16; the residual stream is float32 in both. Low-rank adapters are products of their own while
learning, and folded into the matrices while decoding in float32 (`decoders`). Tests hold every number and gradient
against the library's own code.

Shapes: M packed tokens; R rows of N columns in a level; K keys; H query heads in groups that share one of the p
key-value heads; d numbers per head; D the width of the residual stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from madrigal.maths.batch import PrefixLevel
from madrigal.policies.fused import gated, inherited, joined, normed
from madrigal.policies.internals import LowRank, linear_parts, packed_linear, packed_weight, plain_model

FAMILY = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
TYPES = (torch.float32, torch.bfloat16)
ROTATIONS = ("default", "linear", "llama3")  # those whose angles do not depend on the length read so far


def supports(model: Any) -> bool:
    """Whether what is written here computes what the model computes."""
    model = plain_model(model)
    if type(model) not in FAMILY or model.dtype not in TYPES:
        return False
    config, layers = model.config, model.model.layers
    linear = [part for layer in layers for part in (*_projections(layer), layer.mlp.down_proj)]
    return (
        config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in ROTATIONS
        and set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
        and type(model.model.embed_tokens) is nn.Embedding
        and type(model.lm_head) is nn.Linear  # an adapter may sit on it, or on the embedding, alone
        and all(linear_parts(part) is not None for part in linear)
        and all(layer.self_attn.o_proj.bias is None and layer.mlp.down_proj.bias is None for layer in layers)
    )


def head_size(model: Any) -> int:
    """d."""
    size: int = plain_model(model).model.layers[0].self_attn.head_dim
    return size


def _projections(layer: Any) -> tuple[Any, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj


# Weights


@dataclass(frozen=True, slots=True)
class Product:
    """One product for several linear layers of the same input, whose outputs stand side by side.

    Attributes:
        weight, bias: [outputs, inputs] and [outputs]; gradients reach the model's parameters.
        parts: for each of the layers, how many outputs it has, and its low-rank adapters.
        packed: the weight as the processor's products want it, where it is used many times.
    """

    weight: Tensor
    bias: Tensor | None
    parts: tuple[tuple[int, tuple[LowRank, ...]], ...]
    packed: Tensor | None = None

    @property
    def adapted(self) -> bool:
        return any(adapters for _, adapters in self.parts)

    def __call__(self, x: Float[Tensor, "M I"]) -> Float[Tensor, "M O"]:
        y = (
            functional.linear(x, self.weight, self.bias)
            if self.packed is None
            else packed_linear(x, self.packed, self.bias)
        )
        return y + self._low_rank(x) if self.adapted else y

    def added(self, stream: Float[Tensor, "M O"], x: Float[Tensor, "M I"]) -> Float[Tensor, "M O"]:
        """The stream and what the product makes of x."""
        if self.adapted or stream.dtype != x.dtype:
            return stream + self(x)
        return torch.addmm(stream, x, self.weight.t())

    def _low_rank(self, x: Tensor) -> Tensor:
        found = []
        for outputs, adapters in self.parts:
            delta = x.new_zeros((len(x), outputs))
            for a, b, scale in adapters:
                delta = delta + functional.linear(functional.linear(x, a.to(x.dtype)), b.to(x.dtype)) * scale
            found.append(delta)
        return torch.cat(found, dim=-1)

    def folded(self) -> Product:
        """The same with the adapters added to the weight."""
        if not self.adapted:
            return self
        weight = self.weight.clone()
        rows = torch.split(weight, [outputs for outputs, _ in self.parts])
        for part, (_, adapters) in zip(rows, self.parts, strict=True):
            for a, b, scale in adapters:
                part.addmm_(b.to(part.dtype), a.to(part.dtype), alpha=scale)
        return replace(self, weight=weight, parts=tuple((outputs, ()) for outputs, _ in self.parts))

    def for_decoding(self) -> Product:
        """The same for many calls on few rows: adapters added to the weight in float32, the weight packed in bfloat16.

        In bfloat16 what an adapter adds would be rounded away.
        """
        return self.folded() if self.weight.dtype == torch.float32 else replace(self, packed=packed_weight(self.weight))


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The matrices of one layer.

    Attributes:
        kv_heads: p.
        scaling: of the scores of attention.
        norm, mlp_norm: [D] the scales of the norms before attention and before the gate.
        qkv: rows of queries, keys, values, (H + 2p) d.
        head_norm: [H + p, d] scales of normed queries and keys, where the architecture norms them.
        gate_up: the two halves of the gate.
    """

    kv_heads: int
    scaling: float
    norm: Tensor
    qkv: Product
    head_norm: Tensor | None
    out: Product
    mlp_norm: Tensor
    gate_up: Product
    down: Product

    def for_decoding(self) -> LayerWeights:
        """The same for many calls on few rows."""
        parts = {name: getattr(self, name).for_decoding() for name in ("qkv", "out", "gate_up", "down")}
        return replace(self, **parts)


def layer_weights(layer: Any) -> LayerWeights:
    """The matrices of one layer of a model."""
    query, key, value, out, gate, up = _projections(layer)
    head = layer.self_attn.head_dim
    kv_heads, head_norm = key.out_features // head, None
    if "q_norm" in dict(layer.self_attn.named_children()):
        query_norm, key_norm = layer.self_attn.q_norm.weight, layer.self_attn.k_norm.weight
        heads = query.out_features // head
        head_norm = torch.cat([query_norm.expand(heads, head), key_norm.expand(kv_heads, head)])
    return LayerWeights(
        kv_heads=kv_heads,
        scaling=layer.self_attn.scaling,
        norm=layer.input_layernorm.weight,
        qkv=_product(query, key, value),
        head_norm=head_norm,
        out=_product(out),
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=_product(gate, up),
        down=_product(layer.mlp.down_proj),
    )


def _product(*layers: nn.Module) -> Product:
    parts = [part for part in map(linear_parts, layers) if part is not None]
    return Product(
        weight=joined(*(part.weight for part in parts)),
        bias=None if parts[0].bias is None else torch.cat([part.bias for part in parts if part.bias is not None]),
        parts=tuple((len(part.weight), part.adapters) for part in parts),
    )


@torch.no_grad()
def pack(model: Any) -> None:
    """Puts matrices that are used as one beside each other in memory, so that `joined` copies nothing."""
    for layer in plain_model(model).model.layers if supports(model) else ():
        query, key, value, _, gate, up = (linear_parts(part) for part in _projections(layer))
        for parts in ((query, key, value), (gate, up)):
            weights = [part.weight for part in parts if part is not None]
            whole = torch.cat(weights)
            places = torch.split(whole, [len(weight) for weight in weights])
            for weight, place in zip(weights, places, strict=True):
                weight.data = place


def rotary_tables(model: Any, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the first `length` positions, [length d]: rotated = x cos + roll(x, d/2) sin."""
    positions = torch.arange(length, device=model.device)[None]
    cos, sin = (table[0] for table in model.model.rotary_emb(model.lm_head.weight, positions))
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)


# Steps that reading and decoding share


def queries_keys_values(
    stream: Float[Tensor, "M D"], layer: LayerWeights, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Float[Tensor, "M H+p d"], Float[Tensor, "M p d"]]:
    """Queries and keys, normed and rotated (`cos` and `sin` are [M 1 d]), and values."""
    mixed = layer.qkv(normed(stream, layer.norm, eps)).view(len(stream), -1, cos.shape[-1])
    queries_keys, values = mixed[:, : -layer.kv_heads], mixed[:, -layer.kv_heads :]
    if layer.head_norm is not None:
        queries_keys = normed(queries_keys, layer.head_norm, eps)
    return torch.addcmul(queries_keys * cos, queries_keys.roll(cos.shape[-1] // 2, -1), sin), values


def after_attention(
    stream: Float[Tensor, "M D"], attended: Float[Tensor, "M Hd"], layer: LayerWeights, eps: float
) -> Float[Tensor, "M D"]:
    """What a layer makes of the stream and of what attention found."""
    stream = layer.out.added(stream, attended)
    return layer.down.added(stream, gated(layer.gate_up(normed(stream, layer.mlp_norm, eps))))


def hidden_states(model: Any, stream: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    """The last hidden states, as the output layer takes them."""
    model = plain_model(model)
    return normed(stream, model.model.norm.weight, model.config.rms_norm_eps)


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
        keys, values: per layer [R p K d], of the rows of the last level and all that they go on from; not kept where
            they are to be computed again.
        mask: which of these are real.
        layers: the matrices that it was read with.
    """

    stream: Float[Tensor, "M D"]
    keys: list[Tensor]
    values: list[Tensor]
    mask: Bool[Tensor, "R K"]
    layers: list[LayerWeights]


def read(model: Any, levels: Sequence[PrefixLevel], *, recompute: bool = False) -> Reading:
    """Runs a model over levels; every real token goes through the matrices once, in one product with all others.

    Args:
        recompute: keep only what goes into each layer, and compute the rest again for the gradient.
    """
    model = plain_model(model)
    layers = [layer_weights(layer) for layer in model.model.layers]
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    grids, positions, mask = _lay_out(levels, group, model.dtype)
    cos, sin = (table[positions][:, None] for table in rotary_tables(model, int(positions.max()) + 1))
    tokens = torch.cat([level.tokens[level.mask] for level in levels])
    embedding, eps = model.model.embed_tokens, model.config.rms_norm_eps

    def through(layer: LayerWeights, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries_keys, values = queries_keys_values(stream, layer, cos, sin, eps)
        attended, keys, values = _attend(queries_keys, values, grids, layer)
        return after_attention(stream, attended, layer, eps), keys, values

    # The padding token learns nothing, as in the library.
    stream = functional.embedding(tokens, embedding.weight, embedding.padding_idx).float()
    keys, values = [], []
    for layer in layers:
        if recompute:
            stream, _, _ = checkpoint(through, layer, stream, use_reentrant=False)
            continue
        stream, key, value = through(layer, stream)
        keys.append(key)
        values.append(value)
    return Reading(stream, keys, values, mask, layers)


def row_ends(levels: Sequence[PrefixLevel]) -> Int[Tensor, " R"]:
    """Where in the stream of a reading the last tokens of the rows of the last of these levels stand."""
    above = sum(int(level.mask.sum()) for level in levels[:-1])
    return levels[-1].mask.sum(-1).cumsum(0) - 1 + above


def _lay_out(
    levels: Sequence[PrefixLevel], group: int, dtype: torch.dtype
) -> tuple[list[_Grid], Int[Tensor, " M"], Bool[Tensor, "R K"]]:
    """The grids, the position of every real token, and which keys the rows of the last level see."""
    grids, positions = [], []
    mask = levels[0].mask[:, :0]
    for level in levels:
        rows, width = level.tokens.shape
        above = mask[level.parent]
        own = level.mask[:, None, :] & torch.ones(width, width, dtype=torch.bool, device=mask.device).tril()
        visible = torch.cat([above[:, None].expand(rows, width, above.shape[1]), own], dim=-1)
        bias = torch.zeros(visible.shape, dtype=dtype, device=mask.device)
        bias = bias.masked_fill_(~visible, torch.finfo(dtype).min)
        cells = level.mask.flatten().nonzero()[:, 0]
        grids.append(_Grid(rows, width, cells, level.parent, bias.repeat(1, group, 1)[:, None]))
        positions.append((above.sum(-1, keepdim=True) + level.mask.cumsum(-1) - 1)[level.mask])
        mask = torch.cat([above, level.mask], dim=-1)
    return grids, torch.cat(positions), mask


def _attend(
    queries_keys: Tensor, values: Tensor, grids: Sequence[_Grid], layer: LayerWeights
) -> tuple[Float[Tensor, "M Hd"], Tensor, Tensor]:
    """What attention gives every token, and the keys and values that the rows of the last level see."""
    kv_heads, head, start = layer.kv_heads, queries_keys.shape[-1], 0
    heads = queries_keys.shape[1] - kv_heads
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
        answer = functional.scaled_dot_product_attention(
            stacked, all_keys, all_values, attn_mask=grid.bias, scale=layer.scaling
        )
        flat = answer.reshape(grid.rows, heads, grid.width, head).transpose(1, 2).reshape(-1, heads * head)
        attended.append(flat if len(grid.cells) == len(flat) else flat.index_select(0, grid.cells))
        start = level.stop
    return torch.cat(attended), all_keys, all_values
