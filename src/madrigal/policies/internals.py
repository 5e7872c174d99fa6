"""What Madrigal uses of transformers, PEFT and torch beyond what they document: caches, masks, layers, packed weights.

Written against transformers 5.23.0 and peft 0.21.2; tests/core/test_internals.py looks whether all of it is still
there. The names of weights in saved files, which are as good as documented, are used in `llama` and `adapters`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_layers import GradientCheckpointingLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
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


def roomy_cache(model: Any) -> Cache:
    """An empty key-value cache for sampling."""
    return Cache(layers=[RoomyLayer() for _ in range(model.config.num_hidden_layers)])


def keys_per_layer(cache: DynamicCache) -> list[int]:
    """How many keys each layer of a cache that has any holds."""
    layers: list[Any] = cache.layers
    return [layer.keys.shape[-2] for layer in layers if layer.keys is not None]


def attention_window(config: Any) -> float:
    """The fewest last tokens that a layer sees; the cache that the library would choose for this model says so."""
    layers = DynamicCache(config=config).layers
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min(windows, default=math.inf)


def additive_mask(mask: Bool[Tensor, "R T"], dtype: torch.dtype) -> Float[Tensor, "R 1 1 T"] | None:
    """An attention mask that the library takes as it is: 0 where `mask` is True, else the smallest number there is.

    None where all of it is True. Of a mask with two dimensions the library asks at every token whether it is, and the
    processor waits for the answer. One with four dimensions is added to the scores, for plain attention adds whatever
    it is given.
    """
    if bool(mask.all()):
        return None
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(dtype).min)[:, None, None]


def recomputable_layers(model: nn.Module) -> list[Any]:
    """The layers that the library marks as fit for gradient checkpointing."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def has_adapter(model: nn.Module) -> bool:
    """Whether a model came with an adapter in its layers, as transformers loads the folder of a saved adapter."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within it a model computes without its adapters; whether these learn stays, which PEFT's own switch would change.

    FSDP asks for that when it first gathers a parameter, and never again.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


class LowRank(NamedTuple):
    """An adapter of a linear layer: y += scale B A x."""

    a: Tensor
    b: Tensor
    scale: float


class LinearParts(NamedTuple):
    """A linear layer and the adapters that are switched on."""

    weight: Tensor
    bias: Tensor | None
    adapters: tuple[LowRank, ...]


def linear_parts(layer: Any) -> LinearParts | None:
    """What a linear layer computes with; None for any layer that computes something else."""
    if type(layer) is nn.Linear:
        return LinearParts(layer.weight, layer.bias, ())
    if type(layer) is not LoraLinear or type(layer.base_layer) is not nn.Linear or layer.merged:
        return None
    names = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    odd = any(layer.lora_bias[n] or type(layer.lora_dropout[n]) is not nn.Identity for n in names)
    if odd or layer.lora_variant:  # DoRA and others
        return None
    matrices: Any = layer
    adapters = (LowRank(matrices.lora_A[n].weight, matrices.lora_B[n].weight, layer.scaling[n]) for n in names)
    return LinearParts(layer.base_layer.weight, layer.base_layer.bias, tuple(adapters))


def plain_model(model: Any) -> Any:
    """The model that transformers made, below what PEFT put around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def output_logits(model: Any, hidden: Float[Tensor, "*R D"]) -> Float[Tensor, "*R V"]:
    """Logits of the next tokens, of last hidden states: the output layer, and what some models do to its result.

    `check_model` proves on one token that it is all that a model does.
    """
    plain = plain_model(model)
    logits: Tensor = plain.get_output_embeddings()(hidden)
    after = _after_output(plain.config)
    if scale := after.get("logit_scale"):
        logits = logits * scale
    if scale := after.get("logits_scaling"):
        logits = logits / scale
    if cap := after.get("final_logit_softcapping"):
        logits = cap * torch.tanh(logits / cap)
    return logits


def output_weight(model: Any) -> Float[Tensor, "V D"] | None:
    """The matrix of the output layer; None where logits are more than a product with it."""
    plain = plain_model(model)
    parts = linear_parts(plain.get_output_embeddings())
    if parts is None or parts.bias is not None or parts.adapters or _after_output(plain.config):
        return None
    return parts.weight


def _after_output(config: Any) -> dict[str, float]:
    """What a model does to the result of its output layer."""
    names = ("logit_scale", "logits_scaling", "final_logit_softcapping")
    return {name: value for name in names if (value := getattr(config, name, None))}


def packed_weight(weight: Float[Tensor, "O I"]) -> Tensor | None:
    """A bfloat16 weight in the order in which oneDNN multiplies; None where it would not take it.

    A product reorders its weight else: with 32 rows it takes twice the time.
    """
    ops = torch.ops.mkldnn
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.dtype != torch.bfloat16 or not weight.is_cpu or not built:
        return None
    packed: Tensor | None = ops._reorder_linear_weight(weight.detach()) if ops._is_mkldnn_bf16_supported() else None
    return packed


def packed_linear(x: Float[Tensor, "M I"], weight: Tensor, bias: Tensor | None) -> Float[Tensor, "M O"]:
    """What `functional.linear` computes, of a packed weight; without gradients."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
