"""How large a model is, from its configuration alone: no weight is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from madrigal.policies import llama
from madrigal.policies.check_model import context_of, loading
from madrigal.policies.internals import recomputable_layers
from madrigal.policies.local import advice, resolve_model
from madrigal.settings import Lora


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Numbers of a model that memory and time depend on.

    Attributes:
        parameters: tied ones once.
        body: those below the output layer.
        layers, width, inner: how many, the width of the stream, and of the gate.
        heads, kv_heads, head: of queries, of keys and values, and the numbers in each.
        vocabulary: rows of the embedding.
        normed_heads: whether queries and keys are normed.
        written_out: whether `policies.llama` runs it.
        recomputable: whether activations can be computed again.
        linear: by path, inputs and outputs of each linear layer but the last.
    """

    parameters: int
    body: int
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    normed_heads: bool = False
    written_out: bool = True
    recomputable: bool = True
    linear: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def adapter(self, lora: Lora) -> int:
        """Parameters of an adapter: rank (inputs + outputs) of every layer that it adapts."""
        adapted = [
            sum(sides)
            for path, sides in self.linear.items()
            if not lora.targets or any(f".{path}".endswith(f".{target}") for target in lora.targets)
        ]
        return lora.rank * sum(adapted)

    @property
    def products(self) -> int:
        """Multiplications of one token on its way through the layers, the output layer left out."""
        if self.linear:
            return sum(inputs * outputs for inputs, outputs in self.linear.values())
        return self.body - self.vocabulary * self.width


def model_size(name: str) -> ModelSize:
    """The size of a model by its name, as `PolicyConfig.model` has it.

    Raises:
        ConfigError, EngineError: if there is no such model, or its configuration cannot be read.
    """
    with loading(f"model {name}:", advice(name)):
        config = AutoConfig.from_pretrained(_base(resolve_model(name)), trust_remote_code=False)
        return _size_by(type(config), config.to_json_string())  # type: ignore[arg-type]


def model_context(name: str) -> int:
    """The longest prompt plus answer, in tokens, of a model by its name.

    Raises:
        ConfigError, EngineError: as `model_size`.
    """
    with loading(f"model {name}:", advice(name)):
        return context_of(AutoConfig.from_pretrained(_base(resolve_model(name)), trust_remote_code=False))


@cache
def _size_by(kind: Any, settings: str) -> ModelSize:
    """The size of the model of a configuration, made without memory."""
    make: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        return size_of(make(kind.from_dict(json.loads(settings)), trust_remote_code=False))


def _base(place: str) -> str:
    """The model below, where a folder holds an adapter."""
    adapter = Path(place) / "adapter_config.json"
    if not adapter.is_file() or (Path(place) / "config.json").is_file():
        return place
    return str(json.loads(adapter.read_text())["base_model_name_or_path"])


def size_of(model: Any) -> ModelSize:
    """The size of a model that transformers made, its weights on whatever device."""
    config = model.config.get_text_config()
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    linear = {
        path: (int(part.in_features), int(part.out_features)) if type(part) is nn.Linear else tuple(part.weight.shape)
        for path, part in model.named_modules()
        if part is not output and (type(part) is nn.Linear or type(part).__name__ == "Conv1D")
    }
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    return ModelSize(
        parameters=sum(p.numel() for p in model.parameters()),
        body=sum(p.numel() for p in model.base_model.parameters()),
        layers=int(config.num_hidden_layers),
        width=width,
        inner=int(getattr(config, "intermediate_size", None) or 4 * width),
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head=int(getattr(config, "head_dim", None) or width // heads),
        vocabulary=int(embedding.weight.shape[0]),
        normed_heads="q_norm" in {path.rpartition(".")[2] for path, _ in model.named_modules()},
        written_out=type(model) in llama.FAMILY,
        recomputable=bool(recomputable_layers(model)),
        linear=linear,
    )
