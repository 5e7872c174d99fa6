"""Llama and its kin written out: few large matrix products over tokens without padding, with gradients.

Knows: the weights of Llama, Qwen2 and Qwen3. Does not know: tokenizers, sampling, losses, where the tokens come from.

On a CPU a small model spends most of its time outside its matrix products. Here queries, keys and values are one
product, and so are the two halves of the gate; what scales the input of a product is multiplied into its matrix; only
attention sees padding; and what several answers or prompts begin with is read once (`Level`).
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

from madrigal.maths.batch import Level
from madrigal.policies.fused import gated, inherited, normed

FAMILY = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
ROTATIONS = ("default", "linear", "llama3")  # those whose angles do not depend on the length read so far


def supports(model: Any) -> bool:
    """Whether what is written here computes what the model computes; every other model runs the library's own code."""
    if type(model) not in FAMILY or model.device.type != "cpu" or model.dtype != torch.float32:
        return False
    config = model.config.to_dict()
    linear = [part for layer in model.model.layers for part in (*_projections(layer), layer.mlp.down_proj)]
    linear.append(model.lm_head)  # an adapter may sit on it, or on the embedding, alone
    return (
        config["hidden_act"] == "silu"
        and config["rope_parameters"]["rope_type"] in ROTATIONS
        and set(config.get("layer_types") or ()) <= {"full_attention"}
        and type(model.model.embed_tokens) is nn.Embedding
        and all(type(part) is nn.Linear for part in linear)
        and all(
            layer.self_attn.o_proj.bias is None and layer.mlp.down_proj.bias is None for layer in model.model.layers
        )
    )


def _projections(layer: Any) -> tuple[Any, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj


@dataclass(frozen=True, slots=True)
class Block:
    """The matrices of one layer; H heads of d numbers, in groups that share one of the key-value heads.

    Attributes:
        pairs: the number of key-value heads.
        qkv: [(H + 2 pairs) d, width] rows of queries, keys, values; the norm before them is multiplied in.
        head_norm: [H + pairs, d] scales of normed queries and keys, where the architecture norms them.
        gate_up: [2 mlp, width] with the norm before it multiplied in.
        out, down: transposed, as a sum takes them: [H d, width] and [mlp, width].
    """

    pairs: int
    qkv: Tensor
    qkv_bias: Tensor | None
    head_norm: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor


def blocks(model: Any) -> list[Block]:
    """The layers of a model; gradients reach its parameters. Attention's scale is in the queries."""
    return [_block(layer) for layer in model.model.layers]


def _block(layer: Any) -> Block:
    query, key, value, out, gate, up = _projections(layer)
    head, scale = layer.self_attn.head_dim, layer.self_attn.scaling
    heads, pairs = query.out_features // head, key.out_features // head
    head_norm = bias = None
    if "q_norm" in dict(layer.self_attn.named_children()):
        norms = layer.self_attn.q_norm.weight * scale, layer.self_attn.k_norm.weight
        head_norm = torch.cat([norms[0].expand(heads, head), norms[1].expand(pairs, head)])
        scale = 1.0
    if query.bias is not None:
        bias = torch.cat([query.bias * scale, key.bias, value.bias])
    return Block(
        pairs=pairs,
        qkv=torch.cat([query.weight * scale, key.weight, value.weight]) * layer.input_layernorm.weight,
        qkv_bias=bias,
        head_norm=head_norm,
        out=out.weight.t(),
        gate_up=torch.cat([gate.weight, up.weight]) * layer.post_attention_layernorm.weight,
        down=layer.mlp.down_proj.weight.t(),
    )


def rotation(model: Any, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the first `length` positions, [length d]: turned = x cos + roll(x, d/2) sin."""
    cos, sin = (table[0] for table in model.model.rotary_emb(model.lm_head.weight, torch.arange(length)[None]))
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the real tokens of a level stand, and what each may look at.

    Attributes:
        rows, width: R rows of N columns.
        cells: [n] the flat places of the real tokens.
        parent: the row above that each row goes on from.
        bias: [R 1 group*N K] added to the scores: 0 where a query sees a key, else the lowest number.
    """

    rows: int
    width: int
    cells: Int[Tensor, " n"]
    parent: Int[Tensor, " R"]
    bias: Float[Tensor, "R 1 GN K"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of levels of tokens.

    Attributes:
        stream: [M width] the last layer's output, one row per real token, level after level, row after row.
        keys, values: per layer [R pairs K d], of the rows of the last level and all that they go on from.
        seen: [R K] which of these are real.
        blocks: the matrices that it was read with.
    """

    stream: Float[Tensor, "M D"]
    keys: list[Tensor]
    values: list[Tensor]
    seen: Bool[Tensor, "R K"]
    blocks: list[Block]


def read(model: Any, levels: Sequence[Level]) -> Reading:
    """Runs a model over levels; every real token goes through the matrices once, in one product with all others."""
    weights, group = blocks(model), model.config.num_attention_heads // model.config.num_key_value_heads
    grids, places, seen = _lay_out(levels, group)
    cos, sin = (table[places][:, None] for table in rotation(model, int(places.max()) + 1))
    tokens = torch.cat([level.tokens[level.mask] for level in levels])
    rows, eps = model.model.embed_tokens, model.config.rms_norm_eps
    stream = functional.embedding(tokens, rows.weight, rows.padding_idx)  # padding learns nothing, as in the library
    keys, values = [], []
    for block in weights:
        heard, key, value = _attend(*turned(normed(stream, eps), block, cos, sin, eps), grids, block.pairs)
        stream = torch.addmm(stream, heard, block.out)
        stream = torch.addmm(stream, gated(functional.linear(normed(stream, eps), block.gate_up)), block.down)
        keys.append(key)
        values.append(value)
    return Reading(stream, keys, values, seen, weights)


def logits(model: Any, stream: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
    """What the model says after these tokens."""
    return functional.linear(hidden(model, stream), model.lm_head.weight)


def hidden(model: Any, stream: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    """The last hidden states, as the output layer takes them."""
    scale: Tensor = model.model.norm.weight
    return normed(stream, model.config.rms_norm_eps) * scale


def ends(levels: Sequence[Level]) -> Int[Tensor, " R"]:
    """Where in the stream of a reading the last tokens of the rows of the last of these levels stand."""
    above = sum(int(level.mask.sum()) for level in levels[:-1])
    return levels[-1].mask.sum(-1).cumsum(0) - 1 + above


def _lay_out(levels: Sequence[Level], group: int) -> tuple[list[_Grid], Tensor, Tensor]:
    """The grids, the position of every real token, and which keys the rows of the last level see."""
    grids, places = [], []
    seen = torch.zeros((len(levels[0].tokens), 0), dtype=torch.bool)
    for level in levels:
        rows, width = level.tokens.shape
        above = seen[level.parent]
        own = level.mask[:, None, :] & torch.ones(width, width, dtype=torch.bool).tril()
        visible = torch.cat([above[:, None].expand(rows, width, above.shape[1]), own], dim=-1)
        bias = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
        grids.append(
            _Grid(rows, width, level.mask.flatten().nonzero()[:, 0], level.parent, bias.repeat(1, group, 1)[:, None])
        )
        places.append((above.sum(-1, keepdim=True) + level.mask.cumsum(-1) - 1)[level.mask])
        seen = torch.cat([above, level.mask], dim=-1)
    return grids, torch.cat(places), seen


def turned(
    x: Float[Tensor, "M D"], block: Block, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Float[Tensor, "M H+p d"], Float[Tensor, "M p d"]]:
    """Queries and keys of what a layer takes in, normed and rotated (`cos` and `sin` are [M 1 d]), and its values."""
    mixed = functional.linear(x, block.qkv, block.qkv_bias).view(len(x), -1, cos.shape[-1])
    compared, value = mixed[:, : -block.pairs], mixed[:, -block.pairs :]
    if block.head_norm is not None:
        compared = normed(compared, eps) * block.head_norm
    return torch.addcmul(compared * cos, compared.roll(cos.shape[-1] // 2, -1), sin), value


def _attend(
    compared: Tensor, value: Tensor, grids: Sequence[_Grid], pairs: int
) -> tuple[Float[Tensor, "M Hd"], Tensor, Tensor]:
    """What every token hears, and the keys and values that the rows of the last level see."""
    heads, head, start = compared.shape[1] - pairs, compared.shape[-1], 0
    heard, keys, values = [], compared, value
    for n, grid in enumerate(grids):
        mine = slice(start, start + len(grid.cells))
        spread = _spread(compared[mine], grid).transpose(1, 2)
        query, key = spread[:, :heads], spread[:, heads:]
        own = _spread(value[mine], grid).transpose(1, 2)
        keys = torch.cat([inherited(keys, grid.parent), key], dim=2) if n else key
        values = torch.cat([inherited(values, grid.parent), own], dim=2) if n else own
        # The queries of a group are stacked, so that no key is repeated for them.
        stacked = query.reshape(grid.rows, pairs, -1, head)
        answer = functional.scaled_dot_product_attention(stacked, keys, values, attn_mask=grid.bias, scale=1.0)
        flat = answer.view(grid.rows, heads, grid.width, head).transpose(1, 2).reshape(-1, heads * head)
        heard.append(flat if len(grid.cells) == len(flat) else flat.index_select(0, grid.cells))
        start = mine.stop
    return torch.cat(heard), keys, values


def _spread(packed: Tensor, grid: _Grid) -> Tensor:
    """[R, N, heads, d] real tokens in their places, zeros elsewhere."""
    shape = (grid.rows, grid.width, *packed.shape[1:])
    if len(packed) == grid.rows * grid.width:
        return packed.reshape(shape)
    blank = packed.new_zeros((grid.rows * grid.width, *packed.shape[1:]))
    return blank.index_copy(0, grid.cells, packed).view(shape)
