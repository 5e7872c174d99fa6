"""How long bodies take to speak and to learn in a step, as arithmetic on the measured rates of a machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from madrigal.policies.machine import product_rate
from madrigal.training.memory import FAULTS, Batches, Body
from madrigal.types import ConfigError, unknown

# Shares of the product rate by bytes of a weight, measured with SmolLM2-135M (docs/performance.md); and seconds that
# one layer takes of one token of all rows besides, which is what small models take.
SAMPLING, UPDATE, LAYER = {4: 0.25, 2: 0.06}, {4: 0.5, 2: 0.11}, 2e-4


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU that need not be here.

    Attributes:
        memory: bytes.
        products: bfloat16 operations in a second that large products reach.
        bandwidth: bytes read and written in a second.
        sampling, update: shares of bandwidth and of products that this code reaches.
        launches: seconds of a token of one layer that no model is too small for.
    """

    memory: float
    products: float
    bandwidth: float
    sampling: float = 0.46
    update: float = 0.28
    launches: float = 5e-5


# Measured at the shape of Qwen3-1.7B and SmolLM2-135M on an H100 (docs/performance.md). An H200 is the same processor
# with other memory, by its data sheet.
CARDS = {"h100": Card(80e9, 770e12, 3.02e12), "h200": Card(141e9, 770e12, 3.02e12 * 4.8 / 3.35)}


def card_of(name: str) -> Card:
    """A card by its name.

    Raises:
        ConfigError: if it is not known.
    """
    if name not in CARDS:
        raise ConfigError(unknown("card", name, CARDS))
    return CARDS[name]


def body_seconds(body: Body, batches: Batches, card: Card | None = None) -> tuple[float, float]:
    """What one body takes to speak and to learn in a step, alone, or with the other ranks that hold it.

    On a processor products at the measured shares of its rate, and the rest of every layer. A token costs two
    operations for each multiplication; its gradient twice that, or once below an adapter; computing activations again
    once more. On a card an answer's token takes as long as reading the weights, and the keys and values so far.
    """
    size, texts = body.size, body.learned
    rate = card.products if card else 1e9 * product_rate(torch.float32 if body.itemsize == 4 else torch.bfloat16)
    answers = texts.prompts * texts.answers * texts.answer
    read, table = texts.prompts * texts.prompt, size.vocabulary * size.width
    speaking = updating = 0.0
    if not (body.critic or body.reads):
        batched = -(-texts.prompts * texts.answers * texts.row // batches.sampling)
        if card:
            speaking = 2 * size.products * read / (card.update * rate)
            speaking += batched * texts.answer * _token_seconds(body, batches, card)
        else:
            spoken = 2 * (size.products * (answers + read) + table * answers)
            speaking = spoken / (SAMPLING[body.itemsize] * rate) + LAYER * size.layers * texts.answer * batched
    if body.trained:
        passes = 1 + (1 if body.adapter else 2) + batches.recompute
        read *= texts.answers if body.ranks > 1 else 1  # before each answer
        learned = 2 * passes * (size.products * (answers + read) + (0 if body.critic else table * answers)) / body.ranks
        pieces = -(-texts.tokens // (batches.update * body.ranks))
        share, layer = (card.update, card.launches) if card else (UPDATE[body.itemsize], LAYER)
        updating = learned / (share * rate) + 10 * layer * size.layers * pieces
    return speaking, updating * (FAULTS if batches.give_back and not card else 1.0)


def _token_seconds(body: Body, batches: Batches, card: Card) -> float:
    """Of one token of all rows of a batch."""
    size, texts = body.size, body.learned
    rows = max(1, min(texts.prompts * texts.answers, batches.sampling // texts.row))
    keys = 2.0 * size.kv_heads * size.head * size.layers
    held = keys * (rows / texts.answers * texts.prompt + rows * texts.answer / 2)
    moved = body.itemsize * (size.parameters + held)
    return max(moved / (card.sampling * card.bandwidth), card.launches * size.layers)
