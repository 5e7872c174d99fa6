"""Tiny random models of the architectures that are written out by hand."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from madrigal.policies.local import LocalPolicy

SHAPE: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "llama": (LlamaForCausalLM, LlamaConfig, {"head_dim": 8, "tie_word_embeddings": False}),
    "llama3": (LlamaForCausalLM, LlamaConfig, {"head_dim": 8, "rope_parameters": LLAMA3, "num_key_value_heads": 6}),
}


def build(policy: LocalPolicy, name: str, **more: Any) -> Any:
    """A random model in which no bias is 0 and no norm is 1."""
    kind, config, settings = MODELS[name]
    torch.manual_seed(1)
    model = kind(config(vocab_size=len(policy.tokenizer), **{**SHAPE, **settings, **more})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model
