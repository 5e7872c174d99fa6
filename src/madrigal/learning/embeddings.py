"""Embeddings of prompts and answers, as short vectors for credit to read.

An embedding is the mean over a text's tokens of the last hidden states of the policy's own model, in fewer dimensions.
An answer is read without its prompt: behind that, every answer would tell of the prompt, whatever its words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from madrigal.maths.batch import batches_by_size, pad_rows
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.types import Messages, Turn

DIMENSIONS = 32  # ours: enough to tell texts apart, few enough to keep thousands of them in a checkpoint
Vector = tuple[float, ...]
Pair = tuple[Vector | None, Vector | None]
Ids = tuple[int, ...]
Encoder = Callable[[Sequence[str]], Tensor]  # one vector [D] of each text, always the same one of the same text


@dataclass(frozen=True, slots=True)
class Embedder:
    """Encoders in the seats of a team.

    Attributes:
        team: who took a turn.
        encoders: by name of the policy.
        dimensions: of the vectors that are returned.
    """

    team: Team
    encoders: Mapping[str, Encoder]
    dimensions: int = DIMENSIONS

    def read(self, turns: Sequence[Turn]) -> list[Pair]:
        """The embeddings of each turn's prompt and answer, in order; None where its policy has no encoder."""
        names = [self.team.policy_of(turn.agent, turn.round).name for turn in turns]
        pairs: list[Pair] = [(None, None)] * len(turns)
        for name in self.encoders:
            places = [n for n, speaker in enumerate(names) if speaker == name]
            for n, pair in zip(places, self._embedded(name, [turns[n] for n in places]), strict=True):
                pairs[n] = pair
        return pairs

    def _embedded(self, name: str, turns: Sequence[Turn]) -> list[Pair]:
        """Each distinct text is read once: siblings were shown the same."""
        if not turns:
            return []
        texts = list(dict.fromkeys(text for turn in turns for text in (shown_text(turn.prompt), turn.completion.text)))
        rows = projected(self.encoders[name](texts), self.dimensions)
        vectors = {text: tuple(row) for text, row in zip(texts, rows.tolist(), strict=True)}
        return [(vectors[shown_text(turn.prompt)], vectors[turn.completion.text]) for turn in turns]


def embedder_of(team: Team, budget: int) -> Embedder:
    """Every policy reads its own turns, with the weights that it has now.

    Args:
        budget: the most padded tokens that are read at once.
    """
    return Embedder(team, {policy.name: policy_encoder(policy, budget) for policy in team.policies})


def shown_text(prompt: Messages) -> str:
    """A prompt as one text, without the marks of a chat template, which are the same in all prompts."""
    return "\n\n".join(message.content for message in prompt)


def projected(vectors: Float[Tensor, "B D"], dimensions: int) -> Float[Tensor, "B E"]:
    """Vectors in fewer dimensions, by a random matrix that depends on both numbers of dimensions alone.

        y = P x        P of shape [E, D], entries N(0, 1/E)

    Lengths and angles stay about what they were, and nothing has to be learned or stored. In float64, so that what is
    written down as JSON comes back the same.

    References:
        Johnson and Lindenstrauss, 1984, "Extensions of Lipschitz mappings into a Hilbert space".
    """
    draw = torch.Generator().manual_seed(vectors.shape[1])
    matrix = torch.randn((dimensions, vectors.shape[1]), generator=draw, dtype=torch.float64) / dimensions**0.5
    short: Tensor = vectors.to("cpu", torch.float64) @ matrix.t()
    return short


@torch.no_grad()
def mean_hidden(model: Any, rows: Sequence[Ids], pad: int, budget: int) -> Float[Tensor, "B D"]:
    """The mean of the last hidden states over each row of token ids, in float32.

    Rows of like length are read together; `budget` bounds the padded tokens of one call, not the result.
    """
    vectors: dict[int, Tensor] = {}
    for places in batches_by_size([len(row) for row in rows], budget):
        ids, mask = (part.to(model.device) for part in pad_rows([rows[n] for n in places], pad))
        hidden = model(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, logits_to_keep=1, use_cache=False
        ).hidden_states[-1]
        share = mask.float() / mask.sum(-1, keepdim=True)
        vectors |= dict(zip(places, (hidden.float() * share[..., None]).sum(1), strict=True))
    return torch.stack([vectors[n] for n in range(len(rows))])


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
        with policy.reference() if policy.trainable else nullcontext(policy.activate()) as model:
            return mean_hidden(model, rows, tokenizer.pad_token_id, budget)

    return encode
