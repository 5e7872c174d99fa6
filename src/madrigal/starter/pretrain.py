"""Pre-trains a starter model from scratch within a budget of minutes.

    python -m madrigal.starter.pretrain --size small --minutes 30 --seed 0 --out DIR

Knows: the shapes of the starter models, how rows become batches, the optimiser and its schedule by time.
Does not know: what the rows are about (mixture, corpora). A usable model lies in DIR a few minutes after the start.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from madrigal.starter import SIZES
from madrigal.starter.mixture import DOMAINS, Row, draw_row
from madrigal.starter.tokenizer import VOCABULARY, save_tokenizer, train_tokenizer

PEAK_LR = {"small": 3e-3, "large": 2.5e-3}
WEIGHT_DECAY = 0.1
BATCH_TOKENS = 3072
MICRO_BATCHES = 2
POOL_ROWS = 6144
# Prompts are prose and code of the same kind: reading them teaches copying early. Later only answers count, and
# the head, the dearest layer of a model this small, runs on answers alone.
PROMPT_SHARE, PROMPT_WEIGHT = 0.15, 0.3
WARMUP, DECAY_FROM, FINAL_LR = 0.02, 0.4, 0.03
SAVE_SECONDS, LOG_EVERY = 150.0, 50


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as tokens: ids, and which of them the assistant wrote."""

    domain: int
    ids: list[int]
    learned: list[bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows; with causal attention, padding on the right changes nothing before it."""

    ids: Tensor
    weights: Tensor
    domains: Tensor


def config_of(size: str) -> Qwen3Config:
    """The shape of a starter model; one large model has the parameters of two small ones."""
    width, mlp, heads = (128, 384, 4) if size == "small" else (192, 576, 6)
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=4,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer, trained on rows of the mixture."""
    rng = random.Random(f"tokenizer/{seed}")
    rows = (draw_row(rng) for _ in range(20000))
    return train_tokenizer(f"user\n{row.prompt[-1].content}\nassistant\n{row.answer}" for row in rows)


def encode(rows: list[Row], tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    """Turns conversations into tokens, cut where a chat template cuts them, so that nothing merges across turns."""
    pieces, owners = list[str](), list[tuple[int, bool]]()
    for index, row in enumerate(rows):
        for message in row.prompt:
            if message.role == "assistant":
                pieces += [f"{message.content}<|im_end|>", "\n"]
                owners += [(index, True), (index, False)]
            else:
                pieces.append(f"<|im_start|>user\n{message.content}<|im_end|>\n<|im_start|>assistant\n")
                owners.append((index, False))
        pieces.append(f"{row.answer}<|im_end|>")
        owners.append((index, True))
    encoded = [Encoded(DOMAINS.index(row.domain), [], []) for row in rows]
    ids = tokenizer.backend_tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
    for (index, learned), piece in zip(owners, ids, strict=True):
        encoded[index].ids.extend(piece.ids)
        encoded[index].learned.extend([learned] * len(piece.ids))
    return encoded


def batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[list[Encoded]]:
    """Endless batches of fresh rows of similar length, about BATCH_TOKENS each with padding."""
    while True:
        pool = encode([draw_row(rng) for _ in range(POOL_ROWS)], tokenizer)
        pool.sort(key=lambda row: len(row.ids) // 24 + rng.random())
        cut, start = list[list[Encoded]](), 0
        while start < len(pool):
            num = max(1, BATCH_TOKENS // (len(pool[start].ids) + 24))
            cut.append(pool[start : start + num])
            start += num
        rng.shuffle(cut)
        yield from cut


def collate(rows: list[Encoded], prompt_weight: float, device: str) -> Batch:
    """Pads rows to the longest; the weight of a token is what its loss counts."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    weights = torch.zeros(len(rows), longest)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weights[index, : len(row.ids)] = torch.tensor([1.0 if mine else prompt_weight for mine in row.learned])
    domains = torch.tensor([row.domain for row in rows])
    return Batch(ids.to(device), weights.to(device), domains.to(device))


def losses(model: Qwen3ForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """The weighted mean loss in nats, and sums and counts per domain over the assistant's tokens: [2, domains]."""
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        hidden = model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
        weights = batch.weights[:, 1:]
        counted = weights > 0
        logits = torch.nn.functional.linear(hidden[counted], model.lm_head.weight)
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


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes a bf16 copy beside `out` and moves file by file into place, so that `out` can be read at any time."""
    parts = out.with_name(out.name + ".part")
    parts.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    copy = Qwen3ForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.config.dtype = torch.bfloat16
    copy.generation_config = GenerationConfig(do_sample=True, temperature=1.0, pad_token_id=0, eos_token_id=2)
    copy.save_pretrained(parts)
    save_tokenizer(tokenizer, parts)
    for file in sorted(parts.iterdir()):
        file.replace(out / file.name)
    parts.rmdir()


def optimizer_of(model: Qwen3ForCausalLM, peak: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))


def pretrain(size: str, minutes: float, seed: int, out: Path) -> None:
    """Trains one model until the time is over; saves it every few minutes and at the end."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = make_tokenizer(0)
    model = Qwen3ForCausalLM(config_of(size)).to(device)
    # For rows this short, plain attention is a third faster on a CPU than the fused kernel and its backward.
    model.set_attn_implementation("eager")
    optimizer = optimizer_of(model, PEAK_LR[size])
    source = batches(tokenizer, random.Random(f"rows/{seed}"))
    print(f"{size}: {sum(p.numel() for p in model.parameters())} parameters on {device}", flush=True)
    began = saved = time.monotonic()
    step, tokens, totals = 0, 0, torch.zeros(2, len(DOMAINS))
    while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
        rate = learning_rate(progress, PEAK_LR[size])
        for group in optimizer.param_groups:
            group["lr"] = rate
        for _ in range(MICRO_BATCHES):
            rows = next(source)
            loss, parts = losses(model, collate(rows, PROMPT_WEIGHT if progress < PROMPT_SHARE else 0.0, device))
            (loss / MICRO_BATCHES).backward()
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


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Pre-trains a starter model from scratch.")
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pretrain(arguments.size, arguments.minutes, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
