"""From samples to padded tensors, in micro-batches of a bounded number of tokens.

Knows: token ids and old log-probs of samples. Does not know: models, algorithms, text.

Siblings of a group were given the same prompt: it stands in a batch once, and each answer says which one is its own.
Prompts are padded on the left, answers on the right.
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
    """Answers that are learned from together; Q distinct prompts of at most P tokens.

    Attributes:
        prompts: the distinct prompts.
        prompt_mask: True where `prompts` is not padding.
        prompt_of: for each answer the row of its prompt.
        actions: the sampled tokens, end token included, padded at the end.
        mask: True where `actions` was sampled.
        old_logprobs: nats, of the policy that sampled; 0 in padding.
        advantages: one per answer, times its weight.
        sequences, tokens: answers and sampled tokens of the *whole update* this is a part of; what reducers divide by.
        reference_logprobs: nats, of the reference policy, where the loss asks for it.
    """

    prompts: Int[Tensor, "Q P"]
    prompt_mask: Bool[Tensor, "Q P"]
    prompt_of: Int[Tensor, " B"]
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


def make_batch(samples: Sequence[Sample], pad: int, sequences: int, tokens: int, device: torch.device) -> Batch:
    """Pads samples into one batch. `sequences` and `tokens` count the whole update."""
    said = [sample.turn.completion for sample in samples]
    place = {ids: n for n, ids in enumerate(dict.fromkeys(one.prompt_ids for one in said))}
    prompts, prompt_mask = pad_rows(list(place), pad, left=True)
    actions, mask = pad_rows([one.token_ids for one in said], pad)
    old = torch.zeros(actions.shape)
    old[mask] = torch.tensor([value for one in said for value in one.logprobs])
    return Batch(
        prompts=prompts.to(device),
        prompt_mask=prompt_mask.to(device),
        prompt_of=torch.tensor([place[one.prompt_ids] for one in said], device=device),
        actions=actions.to(device),
        mask=mask.to(device),
        old_logprobs=old.to(device),
        advantages=torch.tensor([sample.advantage * sample.weight for sample in samples], device=device),
        sequences=sequences,
        tokens=tokens,
    )


def pad_rows(
    rows: Sequence[tuple[int, ...]], pad: int, *, left: bool = False
) -> tuple[Int[Tensor, "R L"], Bool[Tensor, "R L"]]:
    """Rows of token ids as one tensor, and where it is not padding.

    >>> pad_rows([(5, 6), (7,)], pad=0, left=True)[0].tolist()
    [[5, 6], [0, 7]]
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for n, row in enumerate(rows):
        span = slice(width - len(row), width) if left else slice(0, len(row))
        ids[n, span] = torch.tensor(row, dtype=torch.long)
        mask[n, span] = True
    return ids, mask


def micro_batches(samples: Sequence[Sample], budget: int) -> Iterator[list[Sample]]:
    """Cuts samples into pieces whose padded size stays within `budget` tokens; a longer single answer goes alone.

    Answers to one prompt stay together where they fit, prompts of similar length are neighbours, and samples without
    tokens are left out. The order is a function of the samples only.
    """
    order = sorted(
        (sample for sample in samples if sample.turn.completion.token_ids),
        key=lambda s: (len(s.turn.completion.prompt_ids), s.turn.completion.prompt_ids),
    )
    piece: list[Sample] = []
    for sample in order:
        if piece and _padded_size([*piece, sample]) > budget:
            yield piece
            piece = []
        piece.append(sample)
    if piece:
        yield piece


def _padded_size(samples: Sequence[Sample]) -> int:
    said = [sample.turn.completion for sample in samples]
    prompts = {one.prompt_ids for one in said}
    return len(prompts) * max(map(len, prompts)) + len(said) * max(len(one.token_ids) for one in said)
