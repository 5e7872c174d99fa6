"""A random model of 28,000 weights and small records made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from madrigal.policies.generate import generate
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.settings import Lora, PolicyConfig, Sampling
from madrigal.types import Completion, Message, Messages, Sample, Turn
from pretraining.tokenizer import train_tokenizer

CPU = torch.device("cpu")
WHOLE = Lora(rank=0)
TEXTS = ("the cat sat on the mat", "a dog", "three blind mice, see how they run")


def build_model(folder: Path, *, pad_is_end: bool = False) -> Path:
    """Saves a random Qwen3 with peaked distributions and a byte-level tokenizer."""
    tokenizer = train_tokenizer(TEXTS)
    if pad_is_end:
        tokenizer.pad_token = tokenizer.eos_token
    return save_random_qwen3(folder, tokenizer)


def save_random_qwen3(folder: Path, tokenizer: Any, **shape: Any) -> Path:
    defaults: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 64,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), **defaults | shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load(folder: Path, name: str = "ann", *, lora: Lora = WHOLE, base: Any = None, **settings: Any) -> LocalPolicy:
    return load_policy(name, PolicyConfig(model=str(folder), lora=lora, **settings), CPU, base=base)


def chat(text: str) -> Messages:
    return (Message("user", text),)


def answers(policy: LocalPolicy, sampling: Sampling, texts: Sequence[str] = TEXTS, each: int = 2) -> list[Completion]:
    """`each` answers to every text, from seeds 0, 1, ..."""
    prompts = [chat(text) for text in texts for _ in range(each)]
    return generate(policy, prompts, list(range(len(prompts))), sampling)


def sample(prompt: tuple[int, ...], answer: tuple[int, ...], advantage: float = 1.0) -> Sample:
    """Log-probs -0.1, -0.2, ..."""
    said = Completion("", prompt, answer, tuple(-0.1 * (n + 1) for n in range(len(answer))))
    return Sample(Turn("ann", chat("?"), said), advantage, 0.0)


def samples_of(completions: Sequence[Completion], agent: str = "ann") -> list[Sample]:
    """Samples with the advantages 1, -2, 3, -4, ..."""
    return [Sample(Turn(agent, chat("?"), said), float((n + 1) * (-1) ** n), 0.0) for n, said in enumerate(completions)]


def weights(policy: LocalPolicy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
