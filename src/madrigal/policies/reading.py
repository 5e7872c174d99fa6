"""What a model says before each sampled token of a batch, with gradients.

Knows: the call of a causal language model, key-value caches. Does not know: losses, optimisers, whose model it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from madrigal.batch import Batch


def logits_by_prompt(model: Any, batch: Batch) -> tuple[Tensor, ...]:
    """What the model says before each sampled token, [B 1 V] and [B T-1 V]; a prompt is read once for all answers."""
    mask = batch.prompt_mask.long()
    cache: Any = DynamicCache()
    first: Tensor = model(
        input_ids=batch.prompts,
        attention_mask=mask,
        position_ids=positions(mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[batch.prompt_of]
    if batch.actions.shape[1] == 1:
        return (first,)
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[batch.prompt_of], layer.values[batch.prompt_of]
    mask = torch.cat([mask[batch.prompt_of], batch.mask[:, :-1].long()], dim=1)
    rest = model(
        input_ids=batch.actions[:, :-1],
        attention_mask=mask,
        position_ids=positions(mask)[:, batch.prompts.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    ).logits
    return first, rest


def logits_in_one_pass(model: Any, batch: Batch) -> tuple[Tensor, ...]:
    """The same with every prompt repeated before each of its answers."""
    mask = torch.cat([batch.prompt_mask[batch.prompt_of], batch.mask], dim=1).long()
    output = model(
        input_ids=torch.cat([batch.prompts[batch.prompt_of], batch.actions], dim=1),
        attention_mask=mask,
        position_ids=positions(mask),
        logits_to_keep=batch.actions.shape[1] + 1,
        use_cache=False,
    )
    return (output.logits[:, :-1],)


def positions(mask: Tensor) -> Tensor:
    """The place of each token in its own row, padding not counted."""
    return (mask.cumsum(-1) - 1).clamp_min(0)
