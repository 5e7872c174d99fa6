"""From samples to padded tensors, in micro-batches of a bounded number of tokens.

Siblings of a group were given the same prompt: it stands in a batch once, and each answer says which one is its own.
Prompts that begin alike (later rounds of one example) share that prefix too. Prompts are padded on the left, answers
on the right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from madrigal.types import Sample

MIN_SHARED = 0.25  # prompts that share so much of the shorter one are read together


@runtime_checkable
class Tokens(Protocol):
    """A prompt and an answer to it as token ids: a sample that a policy learns from, or what a critic is shown."""

    @property
    def prompt_ids(self) -> tuple[int, ...]: ...

    @property
    def token_ids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class PrefixLevel:
    """Stretches of text that are read at once, each going on from a stretch of the level above.

    Attributes:
        tokens: one stretch per row.
        mask: True where `tokens` is not padding.
        parent: the row of the level above that each row goes on from; at the top, its own.
    """

    tokens: Int[Tensor, "R N"]
    mask: Bool[Tensor, "R N"]
    parent: Int[Tensor, " R"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers that are learned from together.

    Attributes:
        prompts: the distinct prompts: one level of them, or what several begin with and how each goes on.
        prompt_of: for each answer the row of its prompt in the last of these levels.
        actions: the sampled tokens, end token included, padded at the end.
        mask: True where `actions` was sampled.
        old_logprobs: nats, of the policy that sampled; 0 in padding.
        advantages: of each token; 0 in padding.
        weights: what each answer counts in the mean that the *whole update* takes, of which this batch is a part.
        tokens: the tokens of the whole update, each counted by the weight of its answer.
        reference_logprobs: nats, of the reference policy, where the loss asks for it.
    """

    prompts: tuple[PrefixLevel, ...]
    prompt_of: Int[Tensor, " B"]
    actions: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    old_logprobs: Float[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    weights: Float[Tensor, " B"]
    tokens: float
    reference_logprobs: Float[Tensor, "B T"] | None = None


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What the current weights say of the sampled tokens: log-probs and entropies, both in nats."""

    logprobs: Float[Tensor, "B T"]
    entropy: Float[Tensor, "B T"]


def make_batch(
    samples: Sequence[Sample], pad: int, device: torch.device, *, total: float = 0.0, tokens: float = 0.0
) -> Batch:
    """Pads samples into one batch.

    Args:
        total: what the weights are divided by: the number of examples and agents in the mean that the whole update
            takes. 0 where the samples are the whole update, and their own weights make the mean.
        tokens: `Batch.tokens`, likewise.
    """
    total = total or total_weight(samples) or 1.0
    batch = token_batch(samples, pad, device)
    return replace(
        batch,
        old_logprobs=in_place(batch.mask, [sample.turn.completion.logprobs for sample in samples]),
        advantages=in_place(batch.mask, [_token_advantages(sample) for sample in samples]),
        weights=torch.tensor([weight_of(sample) / total for sample in samples], device=device),
        tokens=tokens or weighted_tokens(samples) / total,
    )


def token_batch(rows: Sequence[Tokens], pad: int, device: torch.device) -> Batch:
    """Pads prompts and answers into a batch that is only read: no log-probs, no advantages, all of weight 1."""
    place = {ids: n for n, ids in enumerate(dict.fromkeys(row.prompt_ids for row in rows))}
    actions, mask = (part.to(device) for part in pad_rows([row.token_ids for row in rows], pad))
    blank = torch.zeros(actions.shape, device=device)
    return Batch(
        prompts=prompt_levels(list(place), pad, device),
        prompt_of=torch.tensor([place[row.prompt_ids] for row in rows], device=device),
        actions=actions,
        mask=mask,
        old_logprobs=blank,
        advantages=blank,
        weights=torch.ones(len(rows), device=device),
        tokens=float(sum(len(row.token_ids) for row in rows)),
    )


def in_place(mask: Bool[Tensor, "B T"], rows: Sequence[Sequence[float]]) -> Float[Tensor, "B T"]:
    """Numbers of the tokens of each row, where its tokens stand; 0 in padding."""
    placed = torch.zeros(mask.shape, device=mask.device)
    placed[mask] = torch.tensor([value for row in rows for value in row], device=mask.device)
    return placed


def scattered(mask: Bool[Tensor, "B T"], values: Float[Tensor, " M"]) -> Float[Tensor, "B T"]:
    """Numbers of packed tokens, where these stand; 0 in padding."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)


def weight_of(sample: Sample) -> float:
    """The weight of a sample in its update, before the mean is taken."""
    return sample.weight * sample.turn.weight


def total_weight(samples: Sequence[Sample]) -> float:
    """The weights of the samples that have tokens, summed."""
    return sum((weight_of(sample) for sample in samples if sample.turn.completion.token_ids), 0.0)


def weighted_tokens(samples: Sequence[Sample]) -> float:
    """Sampled tokens, each counted by the weight of its answer."""
    return sum((weight_of(sample) * len(sample.turn.completion.token_ids) for sample in samples), 0.0)


def _token_advantages(sample: Sample) -> Sequence[float]:
    """The advantage of each token."""
    return sample.token_advantages or (sample.advantage,) * len(sample.turn.completion.token_ids)


def prompt_levels(prompts: Sequence[tuple[int, ...]], pad: int, device: torch.device) -> tuple[PrefixLevel, ...]:
    """Distinct prompts as one level, or as two where prefixes are shared; the last has a row per prompt, in order."""
    heads = [prompt[:n] for prompt, n in zip(prompts, shared_prefixes(prompts), strict=True)]
    place = {head: n for n, head in enumerate(dict.fromkeys(heads))}
    rest = [prompt[len(head) :] for prompt, head in zip(prompts, heads, strict=True)]
    # Two levels have padding of their own; they must not cost more than they save.
    if _padded(list(place)) + _padded(rest) >= _padded(prompts):
        return (_level(prompts, range(len(prompts)), pad, device),)
    first = _level(list(place), range(len(place)), pad, device)
    return first, _level(rest, [place[head] for head in heads], pad, device)


def _level(rows: Sequence[tuple[int, ...]], parents: Sequence[int], pad: int, device: torch.device) -> PrefixLevel:
    tokens, mask = pad_rows(rows, pad, left=True)
    return PrefixLevel(tokens.to(device), mask.to(device), torch.tensor(list(parents), device=device))


def shared_prefixes(prompts: Sequence[tuple[int, ...]]) -> list[int]:
    """How many first tokens of each prompt to read once for all prompts that share them; all but the last at most.

    Neighbors in alphabetical order belong together where they share a large part of the shorter one; of some meanings
    of "large" the one that saves most is taken.

    >>> shared_prefixes([(1, 2, 3, 4), (1, 2, 3, 5), (7, 8)])
    [3, 3, 1]
    """
    order = sorted(range(len(prompts)), key=lambda n: prompts[n])
    prefixes = [_shared_prefix(prompts[a], prompts[b]) for a, b in pairwise(order)]
    best, saved = [len(prompt) - 1 for prompt in prompts], 0
    for large in (MIN_SHARED, 0.5, 0.75):
        cuts, saving = [0] * len(prompts), 0
        for family, cut in _prefix_groups(prompts, order, prefixes, large):
            saving += cut * (len(family) - 1)
            for n in family:
                cuts[n] = cut
        if saving > saved:
            best, saved = cuts, saving
    return best


def _prefix_groups(
    prompts: Sequence[tuple[int, ...]], order: Sequence[int], prefixes: Sequence[int], large: float
) -> Iterator[tuple[list[int], int]]:
    """Runs of neighbors that share a large part, and the length of what all of a run share."""
    family, cut = [order[0]], len(prompts[order[0]]) - 1
    for n, shared in zip(order[1:], prefixes, strict=True):
        if shared >= large * min(len(prompts[family[-1]]), len(prompts[n])):
            family.append(n)
            cut = min(cut, shared)
        else:
            yield family, cut
            family, cut = [n], len(prompts[n]) - 1
    yield family, cut


def _shared_prefix(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The length of what two prompts begin with, leaving each at least one token."""
    shortest = min(len(one), len(other)) - 1
    return next((n for n in range(shortest) if one[n] != other[n]), shortest)


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
    """Cuts samples into the pieces that `micro_batch_places` says."""
    return ([samples[n] for n in places] for places in micro_batch_places(samples, budget))


def micro_batch_places(rows: Sequence[Tokens], budget: int) -> Iterator[list[int]]:
    """Places of rows, in pieces whose padded size stays within `budget` tokens; a longer single row goes alone.

    Answers to one prompt stay together where they fit, as do prompts that begin alike; families of similar length are
    neighbors, and rows without tokens are left out. The order is a function of the rows only.
    """
    spoken = [n for n, row in enumerate(rows) if row.token_ids]
    order = {prompt: n for n, prompt in enumerate(_by_family({rows[n].prompt_ids for n in spoken}))}
    piece: list[int] = []
    for place in sorted(spoken, key=lambda n: order[rows[n].prompt_ids]):
        if piece and _padded_size([rows[n] for n in (*piece, place)]) > budget:
            yield piece
            piece = []
        piece.append(place)
    if piece:
        yield piece


def batches_by_size(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of rows of similar size together, in pieces within the budget when padded; a longer row goes alone."""
    piece: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda n: sizes[n]):
        if piece and sizes[place] * (len(piece) + 1) > budget:
            yield piece
            piece = []
        piece.append(place)
    if piece:
        yield piece


def _by_family(prompts: Collection[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Prompts in an order in which those that begin alike are neighbors, shorter families first."""
    ordered = sorted(prompts)
    families = (
        _prefix_groups(ordered, range(len(ordered)), [_shared_prefix(a, b) for a, b in pairwise(ordered)], MIN_SHARED)
        if ordered
        else ()
    )
    return [
        ordered[n]
        for family, _ in sorted(families, key=lambda family: max(len(ordered[n]) for n in family[0]))
        for n in family
    ]


def _padded(rows: Collection[tuple[int, ...]]) -> int:
    return len(rows) * max(map(len, rows))


def _padded_size(rows: Sequence[Tokens]) -> int:
    return _padded({row.prompt_ids for row in rows}) + _padded([row.token_ids for row in rows])
