"""How a starter model is pre-trained: its shape, the loss, the optimizer, the schedule by time."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from madrigal.policies.machine import product_rate
from pretraining.mixture import DOMAINS
from pretraining.rows import Batch, batches, collate, make_tokenizer
from pretraining.tokenizer import VOCABULARY, save_tokenizer

PEAK_LR = {"small": 3e-3, "large": 2.5e-3}
WEIGHT_DECAY = 0.1
MICRO_BATCHES = 2
# Prompts are prose and code of the same kind: reading them teaches copying early. Later only answers count, and
# the head, the dearest layer of a model this small, runs on answers alone.
PROMPT_SHARE, PROMPT_WEIGHT = 0.15, 0.3
WARMUP, DECAY_FROM, FINAL_LR = 0.02, 0.4, 0.03
SAVE_SECONDS, LOG_EVERY = 150.0, 50


FAMILIES: dict[str, Any] = {"qwen3": Qwen3Config, "llama": LlamaConfig, "mistral": MistralConfig, "gpt2": GPT2Config}


def config_of(size: str, family: str = "qwen3") -> PreTrainedConfig:
    """The shape of a starter model; one large model has the parameters of two small ones.

    Families differ in what makes them families, not in width, depth and tokens: Qwen3 norms queries and keys, Llama and
    Mistral do not, GPT-2 has learned positions, layer norms and an MLP without a gate.
    """
    width, mlp, heads = (128, 384, 4) if size == "small" else (192, 576, 6)
    tokens: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    if family == "gpt2":
        return GPT2Config(**tokens, n_embd=width, n_inner=mlp, n_layer=4, n_head=heads, n_positions=2048)
    config: PreTrainedConfig = FAMILIES[family](
        **tokens,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=4,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        **({"sliding_window": None} if family == "mistral" else {}),
    )
    return config


def _made(config: PreTrainedConfig) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products are faster in bfloat16: many a processor has no instruction for it, and is ten times slower."""
    return device.type == "cuda" or product_rate(torch.bfloat16) > product_rate(torch.float32)


def losses(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The weighted mean loss in nats, and sums and counts per domain over the assistant's tokens: [2, domains]."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=multiplies_bfloat16(batch.ids.device)):
        hidden = model.base_model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
        weights = batch.weights[:, 1:]
        counted = weights > 0
        logits = torch.nn.functional.linear(hidden[counted], model.get_output_embeddings().weight)
    loss = torch.nn.functional.cross_entropy(logits.float(), batch.ids[:, 1:][counted], reduction="none")
    weight = weights[counted]
    answers = weight == 1
    domain = batch.domains[:, None].expand_as(counted)[counted][answers]
    sums = torch.bincount(domain, loss.detach()[answers], len(DOMAINS))
    counts = torch.bincount(domain, minlength=len(DOMAINS))
    return (loss * weight).sum() / weight.sum(), torch.stack([sums, counts])


def learning_rate(progress: float, peak: float) -> float:
    """Warm-up, plateau, then a cosine to a small rest; `progress` runs from 0 to 1 with the time."""
    if progress < WARMUP:
        return peak * (progress + 0.002) / (WARMUP + 0.002)
    if progress < DECAY_FROM:
        return peak
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - DECAY_FROM) / (1 - DECAY_FROM)))
    return peak * (FINAL_LR + (1 - FINAL_LR) * fall)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes a bf16 copy beside `out` and moves file by file into place, so that `out` can be read at any time."""
    parts = out.with_name(out.name + ".part")
    parts.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    copy = _made(model.config).bfloat16()
    copy.load_state_dict(model.state_dict())
    copy.config.dtype = torch.bfloat16
    copy.generation_config = GenerationConfig(do_sample=True, temperature=1.0, pad_token_id=0, eos_token_id=2)
    copy.save_pretrained(parts)
    save_tokenizer(tokenizer, parts)
    for file in sorted(parts.iterdir()):
        file.replace(out / file.name)
    parts.rmdir()


def optimizer_of(model: PreTrainedModel, peak: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))


def pretrain(
    size: str,
    minutes: float,
    seed: int,
    out: Path,
    threads: int = 2,
    family: str = "qwen3",
    domains: Sequence[str] = DOMAINS,
) -> None:
    """Trains one model until the time is over; saves it every few minutes and at the end."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = make_tokenizer(0)
    model = _made(config_of(size, family))
    model.to(device)
    # For rows this short, plain attention is a third faster on a CPU than the fused kernel and its backward.
    model.set_attn_implementation("eager")
    optimizer = optimizer_of(model, PEAK_LR[size])
    source = batches(tokenizer, random.Random(f"rows/{seed}"), domains)
    print(f"{size} {family}: {sum(p.numel() for p in model.parameters())} parameters on {device}", flush=True)
    began = saved = time.monotonic()
    step, tokens, totals = 0, 0, torch.zeros(2, len(DOMAINS))
    while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
        rate = learning_rate(progress, PEAK_LR[size])
        for group in optimizer.param_groups:
            group["lr"] = rate
        for _ in range(MICRO_BATCHES):
            rows = next(source)
            loss, parts = losses(model, collate(rows, PROMPT_WEIGHT if progress < PROMPT_SHARE else 0.0, device))
            (loss / MICRO_BATCHES).backward()  # type: ignore[no-untyped-call]
            totals += parts.cpu()
            tokens += sum(len(row.ids) for row in rows)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % LOG_EVERY == 0:
            log(step, rate, totals, tokens, time.monotonic() - began, minutes)
            totals.zero_()
        if time.monotonic() - saved > SAVE_SECONDS:
            save(model, tokenizer, out)
            saved = time.monotonic()
    save(model, tokenizer, out)
    print(f"done: {step} steps, {tokens} tokens", flush=True)


def log(step: int, rate: float, totals: Tensor, tokens: int, seconds: float, minutes: float) -> None:
    """Prints one line: the loss per domain in nats a token since the last line, speed, time left."""
    means = totals[0] / totals[1].clamp(min=1)
    words = " ".join(f"{name} {mean:.3f}" for name, mean in zip(DOMAINS, means.tolist(), strict=True))
    left = 60 * minutes - seconds
    print(f"step {step} lr {rate:.2e} {words} | {tokens / seconds:.0f} tokens/s, {left:.0f} s left", flush=True)
