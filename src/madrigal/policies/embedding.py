"""Texts as vectors: the mean over a text's tokens of what a language model's last layer makes of them.

Knows: weights, tokenizers. Does not know: whose text it is, what the vectors are compared for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from madrigal.maths.batch import pad_rows
from madrigal.policies.local import LocalPolicy

Ids = tuple[int, ...]


class Encoder(Protocol):
    """Anything that makes one vector of each text, always the same one of the same text."""

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "B D"]: ...


@torch.no_grad()
def mean_hidden(model: Any, rows: Sequence[Ids], pad: int, budget: int) -> Float[Tensor, "B D"]:
    """The mean of the last hidden states over each row of token ids, in float32.

    Rows of like length are read together; `budget` bounds the padded tokens of one call, not the result.
    """
    found: dict[int, Tensor] = {}
    for places in _pieces(rows, budget):
        ids, mask = (part.to(model.device) for part in pad_rows([rows[n] for n in places], pad))
        hidden = model(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, logits_to_keep=1, use_cache=False
        ).hidden_states[-1]
        share = mask.float() / mask.sum(-1, keepdim=True)
        found |= dict(zip(places, (hidden.float() * share[..., None]).sum(1), strict=True))
    return torch.stack([found[n] for n in range(len(rows))])


def _pieces(rows: Sequence[Ids], budget: int) -> Iterator[list[int]]:
    """The places of rows in pieces of at most `budget` padded tokens, shorter rows first; a longer row goes alone."""
    piece: list[int] = []
    for place in sorted(range(len(rows)), key=lambda n: len(rows[n])):
        if piece and len(rows[place]) * (len(piece) + 1) > budget:
            yield piece
            piece = []
        piece.append(place)
    if piece:
        yield piece


def policy_encoder(policy: LocalPolicy, budget: int) -> Encoder:
    """A policy as encoder, with the weights that it has now, however it learns later.

    Vectors are kept and compared over many steps. Weights that move would give every text of one step something in
    common, what was shown and what was said alike, and that would look like a dependence of one on the other.

    Weights that learn are copied for it (the copy is the reference policy's, where there is one too); below an adapter
    the base stays as it is and serves without a copy. A text without tokens is read as the end token.
    """
    if policy.trainable:
        policy.keep_reference()

    def encode(texts: Sequence[str]) -> Float[Tensor, "B D"]:
        tokenizer = policy.tokenizer
        rows = [tuple(tokenizer(text)["input_ids"]) or (tokenizer.eos_token_id,) for text in texts]
        with _unmoved(policy) as model:
            return mean_hidden(model, rows, tokenizer.pad_token_id, budget)

    return encode


def _unmoved(policy: LocalPolicy) -> AbstractContextManager[Any]:
    return policy.reference() if policy.trainable else nullcontext(policy.activate())
