"""From samples to padded tensors, in micro-batches of a bounded number of tokens.

Knows: token ids and old log-probs of samples. Does not know: models, algorithms, text.

Layout of a row, T the longest answer of the batch and P the longest prompt:

    input_ids [ pad ... prompt | answer ... pad ]     prompts end, and answers begin, in the same column
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from madrigal.types import Sample


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are learned from together.

    Attributes:
        input_ids: prompt and answer of each row.
        attention_mask: True where input_ids is not padding.
        actions: the sampled tokens, end token included, padded at the end.
        mask: True where `actions` was sampled.
        old_logprobs: nats, of the policy that sampled; 0 in padding.
        advantages: one per row.
        reference_logprobs: nats, of the reference policy, where the loss asks for it.
        sequences, tokens: rows and sampled tokens of the *whole update* this is a part of; what reducers divide by.
    """

    input_ids: Int[Tensor, "B PT"]
    attention_mask: Bool[Tensor, "B PT"]
    actions: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    old_logprobs: Float[Tensor, "B T"]
    advantages: Float[Tensor, " B"]
    sequences: int
    tokens: int
    reference_logprobs: Float[Tensor, "B T"] | None = None


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What the current weights say of the sampled tokens: log-probs and entropies, both in nats."""

    logprobs: Float[Tensor, "B T"]
    entropy: Float[Tensor, "B T"]


def make_batch(
    samples: Sequence[Sample], pad: int, sequences: int, tokens: int, device: torch.device
) -> Batch:
    """Pads samples into one batch. `sequences` and `tokens` count the whole update."""
    words = [sample.turn.completion for sample in samples]
    before = max(len(said.prompt_ids) for said in words)
    after = max(len(said.token_ids) for said in words)
    input_ids = torch.full((len(words), before + after), pad, dtype=torch.long)
    attention = torch.zeros((len(words), before + after), dtype=torch.bool)
    old = torch.zeros((len(words), after))
    for row, said in enumerate(words):
        start, end = before - len(said.prompt_ids), before + len(said.token_ids)
        input_ids[row, start:end] = torch.tensor(said.prompt_ids + said.token_ids)
        attention[row, start:end] = True
        old[row, : len(said.logprobs)] = torch.tensor(said.logprobs)
    advantages = torch.tensor([sample.advantage for sample in samples], dtype=torch.float32)
    return Batch(
        input_ids=input_ids.to(device),
        attention_mask=attention.to(device),
        actions=input_ids[:, before:].to(device),
        mask=attention[:, before:].to(device),
        old_logprobs=old.to(device),
        advantages=advantages.to(device),
        sequences=sequences,
        tokens=tokens,
    )


def micro_batches(samples: Sequence[Sample], budget: int) -> Iterator[list[Sample]]:
    """Cuts samples into pieces whose padded size stays within `budget` tokens; a longer single row goes alone.

    Rows of similar length go together. The order is a function of the samples only.
    """
    order = sorted(
        (s for s in samples if s.turn.completion.token_ids),
        key=lambda s: (len(s.turn.completion.prompt_ids), len(s.turn.completion.token_ids)),
    )
    piece: list[Sample] = []
    before = after = 0
    for sample in order:
        said = sample.turn.completion
        wide, long = max(before, len(said.prompt_ids)), max(after, len(said.token_ids))
        if piece and (wide + long) * (len(piece) + 1) > budget:
            yield piece
            piece, wide, long = [], len(said.prompt_ids), len(said.token_ids)
        piece.append(sample)
        before, after = wide, long
    if piece:
        yield piece
