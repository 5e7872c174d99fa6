"""What Madrigal can drive is known when a model is loaded: an architecture is driven right, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    JambaConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
    RecurrentGemmaConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from fakes.borders import assert_speaks_as_one_plain_pass
from fakes.tiny import CPU
from madrigal.policies.check_model import check_cache, check_output, context_of
from madrigal.policies.local import LocalPolicy, load_model
from madrigal.settings import PolicyConfig
from madrigal.types import EngineError

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
HYBRID = {"num_experts": 1, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1}
WINDOW = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "vocab_size": 300,
}


def build(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE),
        Qwen2Config(**SHAPE),
        Qwen3Config(**SHAPE),
        GPT2Config(**GPT2),
        MistralConfig(**SHAPE, sliding_window=None),
        MistralConfig(**SHAPE, sliding_window=128),
    ],
    ids=["llama", "qwen2", "qwen3", "gpt2", "mistral", "a window of two contexts"],
)
def test_full_attention_is_driven(config: Any) -> None:
    check_cache(build(config), "good")


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(**GPT2),
        OPTConfig(vocab_size=300, hidden_size=32, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=16),
        GraniteConfig(**SHAPE, logits_scaling=3.0),
        CohereConfig(**SHAPE, logit_scale=0.25),
        Gemma2Config(**SHAPE, head_dim=16, final_logit_softcapping=2.0),
    ],
    ids=["gpt2", "opt", "granite", "cohere", "gemma2"],
)
def test_what_models_do_to_their_logits_is_done(config: Any) -> None:
    torch.manual_seed(0)
    check_output(AutoModelForCausalLM.from_config(config).eval(), "good")


def test_a_model_that_does_something_else_to_its_logits_is_refused() -> None:
    model = build(LlamaConfig(**SHAPE))
    forward = model.forward

    def doubled(**inputs: Any) -> Any:
        output = forward(**inputs)
        output.logits = 2 * output.logits
        return output

    model.forward = doubled
    with pytest.raises(EngineError, match=r"model odd: its logits are not what its output layer makes"):
        check_output(model, "odd")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            JambaConfig(**SHAPE, **HYBRID, use_mamba_kernels=False),
            r"into a plain key-value cache failed \(IndexError",
        ),
        (RecurrentGemmaConfig(**SHAPE | {"num_hidden_layers": 3}, head_dim=16), r"of each of 3 layers, got \[2\]"),
        (MistralConfig(**SHAPE, sliding_window=64), "a window of 64 tokens, expected at least twice the context of 64"),
        (Qwen2Config(**SHAPE, **WINDOW), "a window of 16 tokens, expected at least twice the context of 64"),
        (BartConfig(**BART), "takes no position_ids"),
        (FalconConfig(**SHAPE, alibi=True), r"failed \(ValueError"),  # takes no mask of four dimensions
    ],
    ids=["hybrid", "recurrent", "window", "window in one layer", "half of an encoder-decoder", "places by the mask"],
)
def test_any_other_memory_is_refused_in_one_line(config: Any, reason: str) -> None:
    with pytest.raises(EngineError, match=f"model bad: .*{reason}") as refusal:
        check_cache(build(config), "bad")
    assert "\n" not in str(refusal.value)


def test_the_context_is_known_by_whatever_name_the_architecture_gives_it() -> None:
    assert context_of(GPT2Config(**GPT2)) == context_of(LlamaConfig(**SHAPE)) == 64


def test_a_model_is_probed_when_it_is_loaded(tmp_path: Path) -> None:
    build(MistralConfig(**SHAPE, sliding_window=8)).save_pretrained(tmp_path / "window")
    with pytest.raises(EngineError, match="a window of 8 tokens, expected at least twice the context of 64"):
        load_model(PolicyConfig(str(tmp_path / "window")), CPU)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300}
    T5ForConditionalGeneration(T5Config(**shape)).save_pretrained(tmp_path / "t5")
    with pytest.raises(EngineError, match="could not be loaded: Unrecognized configuration class"):
        load_model(PolicyConfig(str(tmp_path / "t5")), CPU)


@pytest.mark.parametrize(
    "config", [GPT2Config(**GPT2), MistralConfig(**SHAPE, sliding_window=128)], ids=["gpt2", "window"]
)
def test_what_is_accepted_speaks_as_one_plain_pass(policy: LocalPolicy, config: Any) -> None:
    config.vocab_size = len(policy.tokenizer)
    policy.model = build(config)
    assert_speaks_as_one_plain_pass(policy)
