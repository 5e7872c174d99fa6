"""Rows as tokens: conversations cut as the chat template cuts them, batched by length, padded on the right."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from pretraining.mixture import DOMAINS, Row, draw_row
from pretraining.tokenizer import train_tokenizer

BATCH_TOKENS = 3072
POOL_ROWS = 6144
TOKENIZER_ROWS = 20000
BUCKET = 24


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


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer, trained on rows of the mixture."""
    rng = random.Random(f"tokenizer/{seed}")
    rows = (draw_row(rng) for _ in range(TOKENIZER_ROWS))
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


def batches(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, domains: Sequence[str] = DOMAINS
) -> Iterator[list[Encoded]]:
    """Endless batches of fresh rows of similar length, about BATCH_TOKENS each with padding."""
    while True:
        pool = encode([draw_row(rng, domains=domains) for _ in range(POOL_ROWS)], tokenizer)
        pool.sort(key=lambda row: len(row.ids) // BUCKET + rng.random())
        cut, start = list[list[Encoded]](), 0
        while start < len(pool):
            num = max(1, BATCH_TOKENS // (len(pool[start].ids) + BUCKET))
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
