"""A decoding step written out for Llama and its kin: one token more for every row, in a third of the library's time.

Knows: the weights of Llama, Qwen2 and Qwen3, key-value room. Does not know: tokenizers, sampling, how prompts are read.

On a CPU a small model spends most of a step outside its matrix products. Here queries, keys and values are one
product, and so are the two halves of the gate; nothing is repeated for grouped heads; and the keys and values of a
prompt are held once for all its siblings, whose queries are stacked into one product. One softmax runs over the scores
of prompt and answer together. Weights are read when a decoder is made, and a decoder lives for one call: never stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

FAMILY = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
ROTATIONS = ("default", "linear", "llama3")  # those whose angles do not depend on the length read so far


def supports(model: Any) -> bool:
    """Whether `Decoder` computes what the model computes; every other model is decoded by the library's own code."""
    if type(model) not in FAMILY or model.device.type != "cpu" or model.dtype != torch.float32:
        return False
    config = model.config.to_dict()
    linear = [part for layer in model.model.layers for part in (*_projections(layer), layer.mlp.down_proj)]
    return (
        config["hidden_act"] == "silu"
        and config["rope_parameters"]["rope_type"] in ROTATIONS
        and set(config.get("layer_types") or ()) <= {"full_attention"}
        and all(type(part) is nn.Linear for part in linear)
        and all(
            layer.self_attn.o_proj.bias is None and layer.mlp.down_proj.bias is None for layer in model.model.layers
        )
    )


def _projections(layer: Any) -> tuple[Any, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj


@dataclass(slots=True)
class _Layer:
    """One block: its matrices, with what scales their input or output multiplied in, and the room for its cache."""

    qkv: Tensor
    qkv_bias: Tensor | None
    head_norm: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor
    prompt: tuple[Tensor, Tensor]
    own: tuple[Tensor, Tensor]


def _layer(block: Any, prompt: tuple[Tensor, Tensor], rows: int, room: int) -> _Layer:
    query, key, value, out, gate, up = _projections(block)
    head, scale = block.self_attn.head_dim, block.self_attn.scaling
    heads, pairs = query.out_features // head, key.out_features // head
    head_norm = bias = None
    if "q_norm" in dict(block.self_attn.named_children()):
        norms = block.self_attn.q_norm.weight * scale, block.self_attn.k_norm.weight
        head_norm = torch.cat([norms[0].expand(heads, head), norms[1].expand(pairs, head)])
        scale = 1.0
    if query.bias is not None:
        bias = torch.cat([query.bias * scale, key.bias, value.bias])
    own = [key.weight.new_empty((rows * pairs, room, head)) for _ in range(2)]
    return _Layer(
        qkv=torch.cat([query.weight * scale, key.weight, value.weight]) * block.input_layernorm.weight,
        qkv_bias=bias,
        head_norm=head_norm,
        out=out.weight.t(),
        gate_up=torch.cat([gate.weight, up.weight]) * block.post_attention_layernorm.weight,
        down=block.mlp.down_proj.weight.t(),
        prompt=(prompt[0].flatten(0, 1), prompt[1].flatten(0, 1)),
        own=(own[0], own[1]),
    )


class Decoder:
    """The rows that are being written, and the logits of their next tokens.

    Shapes: Q prompts of at most P tokens, B rows, S the most siblings that share a prompt, H heads in groups that
    share one of the key-value heads, d numbers per head.
    """

    def __init__(self, model: Any, cache: Any, mask: Tensor, logits: Tensor, prompt_of: Tensor, room: int) -> None:
        """Takes up from prompts that were read.

        Args:
            cache, mask, logits: of the distinct prompts, padded on the left.
            prompt_of: [B] the prompt of each row.
            room: the most tokens that will be written.
        """
        config = model.config
        self.eps, self.pairs = config.rms_norm_eps, config.num_key_value_heads
        self.embedding, self.norm = model.model.embed_tokens.weight, model.model.norm.weight
        self.head = model.lm_head.weight
        self.layers = [
            _layer(block, (read.keys, read.values), len(prompt_of), room)
            for block, read in zip(model.model.layers, cache.layers, strict=True)
        ]
        places = torch.arange(mask.shape[1] + room)[None]
        cos, sin = (table[0] for table in model.model.rotary_emb(self.embedding, places))
        half = sin.shape[-1] // 2
        self.cos, self.sin = cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)
        self.padding = torch.zeros(mask.shape).masked_fill(mask == 0, float("-inf"))
        self.position, self.written = mask.sum(-1)[prompt_of], 0
        self.logits = logits[prompt_of]
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
        for layer in self.layers:
            layer.own = (_some(layer.own[0], rows, self.written), _some(layer.own[1], rows, self.written))
            if len(prompts) < len(self.padding):
                layer.prompt = (layer.prompt[0][held], layer.prompt[1][held])
        self.padding, self.position, self.logits = self.padding[prompts], self.position[keep], self.logits[keep]
        self._seat(prompt_of)

    def advance(self, token: Tensor) -> None:
        """Writes one token per row."""
        cos, sin = self.cos[self.position][:, None], self.sin[self.position][:, None]
        stream = functional.embedding(token, self.embedding)
        for layer in self.layers:
            stream.addmm_(self._attention(layer, self._normed(stream), cos, sin), layer.out)
            gate, up = functional.linear(self._normed(stream), layer.gate_up).chunk(2, dim=-1)
            stream.addmm_(functional.silu(gate).mul_(up), layer.down)
        self.logits = functional.linear(self._normed(stream).mul_(self.norm), self.head)
        self.position = self.position + 1
        self.written += 1

    def _normed(self, stream: Tensor) -> Tensor:
        return functional.rms_norm(stream, stream.shape[-1:], eps=self.eps)

    def _attention(self, layer: _Layer, normed: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, H d] what every row's query reads from its prompt and its own answer."""
        rows, head, end = len(normed), cos.shape[-1], self.written + 1
        mixed = functional.linear(normed, layer.qkv, layer.qkv_bias).view(rows, -1, head)
        turned, value = mixed[:, : -self.pairs], mixed[:, -self.pairs :]
        if layer.head_norm is not None:
            turned = self._normed(turned).mul_(layer.head_norm)
        turned = (turned * cos).addcmul_(turned.roll(head // 2, -1), sin)
        query, key = turned[:, : -self.pairs], turned[:, -self.pairs :]
        for store, new in zip(layer.own, (key, value), strict=True):
            store[:, self.written] = new.reshape(-1, head)
        keys, values = (store[:, :end] for store in layer.own)
        query = query.reshape(rows, self.pairs, -1, head)
        own = torch.bmm(query.flatten(0, 1), keys.transpose(1, 2)).view(rows, self.pairs, -1, end)
        shared = torch.baddbmm(self.mask, self._stack(query), layer.prompt[0].transpose(1, 2))
        weights = torch.cat([self._spread(shared), own], dim=-1).softmax(dim=-1)
        answer = torch.bmm(weights[..., -end:].flatten(0, 1), values).view(query.shape)
        prompt = torch.bmm(self._stack(weights[..., :-end]), layer.prompt[1])
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


def _some(store: Tensor, rows: Tensor, written: int) -> Tensor:
    """Some rows of a store, with the same room."""
    new = store.new_empty((len(rows), *store.shape[1:]))
    new[:, :written] = store[rows, :written]
    return new
