"""What a model says before each sampled token of a batch, with gradients.

Knows: the call of a causal language model, key-value caches. Does not know: losses, optimisers, whose model it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from madrigal.maths.batch import Batch, Level
from madrigal.policies import llama

Head = Callable[[Tensor], Tensor]


class Reader(Protocol):
    """A way to compute the logits that each sampled token of a batch was drawn from, answer after answer.

    With a `head`, that head is applied to the last hidden states in the place of the model's own output layer.
    """

    def __call__(self, model: Any, batch: Batch, head: Head | None = None) -> Float[Tensor, "M V"]: ...


def logits_before_actions(model: Any, batch: Batch, head: Head | None = None) -> Float[Tensor, "M V"]:
    """The logits that each sampled token was drawn from; a prompt is read once for all of its answers."""
    if llama.supports(model):
        return _written_out(model, batch, head)
    cache = DynamicCache()
    first, seen = read_prompts(model, batch.prompts, cache, head)
    width = batch.actions.shape[1]
    if width == 1:
        return first[batch.prompt_of]
    cache.batch_select_indices(batch.prompt_of)
    mask = torch.cat([seen[batch.prompt_of], batch.mask[:, :-1]], dim=1).long()
    rest = call(
        model,
        head,
        input_ids=batch.actions[:, :-1],
        attention_mask=mask,
        position_ids=positions(mask)[:, seen.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    )
    return torch.cat([first[batch.prompt_of][:, None], rest], dim=1)[batch.mask]


def logits_in_one_pass(model: Any, batch: Batch, head: Head | None = None) -> Float[Tensor, "M V"]:
    """The same with every prompt repeated before each of its answers, and without a cache."""
    prompts, seen = _whole(batch.prompts)
    mask = torch.cat([seen[batch.prompt_of], batch.mask], dim=1).long()
    logits = call(
        model,
        head,
        keep=batch.actions.shape[1] + 1,
        input_ids=torch.cat([prompts[batch.prompt_of], batch.actions], dim=1),
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=False,
    )
    return logits[:, :-1][batch.mask]


def read_prompts(
    model: Any, levels: Sequence[Level], cache: Cache, head: Head | None = None
) -> tuple[Float[Tensor, "Q V"], Bool[Tensor, "Q P"]]:
    """Fills a cache level by level; returns the logits after each prompt and which places of the cache are real."""
    seen = levels[0].mask[:, :0]
    for n, level in enumerate(levels):
        if n:
            cache.batch_select_indices(level.parent)
        seen = torch.cat([seen[level.parent], level.mask], dim=1)
        mask = seen.long()
        logits = call(
            model,
            head,
            keep=1,
            input_ids=level.tokens,
            attention_mask=mask,
            position_ids=positions(mask)[:, -level.tokens.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
    return logits[:, -1], seen


def call(model: Any, head: Head | None, keep: int = 0, **inputs: Any) -> Float[Tensor, "R N V"]:
    """The logits of the last `keep` tokens of each row, of all for 0; or what `head` makes of their hidden states."""
    if head is None:
        logits: Tensor = model(**inputs, logits_to_keep=keep).logits
        return logits
    whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return head(whole.base_model(**inputs).last_hidden_state[:, -keep:])


def _whole(levels: Sequence[Level]) -> tuple[Int[Tensor, "Q P"], Bool[Tensor, "Q P"]]:
    """The prompts from their first token to their last; padding may stand within them."""
    tokens, mask = levels[0].tokens[:, :0], levels[0].mask[:, :0]
    for level in levels:
        tokens = torch.cat([tokens[level.parent], level.tokens], dim=1)
        mask = torch.cat([mask[level.parent], level.mask], dim=1)
    return tokens, mask


def _written_out(model: Any, batch: Batch, head: Head | None) -> Float[Tensor, "M V"]:
    """An answer's first token is drawn after its prompt, every other one after the token before it."""
    answers = Level(batch.actions[:, :-1], batch.mask[:, 1:], batch.prompt_of)
    levels = (*batch.prompts, answers) if answers.tokens.shape[1] else batch.prompts
    stream = llama.read(model, levels).stream
    before = torch.zeros(batch.mask.shape, dtype=torch.long)
    before[:, 0] = llama.ends(batch.prompts)[batch.prompt_of]
    before[:, 1:][answers.mask] = torch.arange(len(stream))[len(stream) - int(answers.mask.sum()) :]
    drawn = stream.index_select(0, before[batch.mask])
    return llama.logits(model, drawn) if head is None else head(llama.hidden(model, drawn))


def positions(mask: Tensor) -> Tensor:
    """The place of each token in its own row, padding not counted."""
    return (mask.cumsum(-1) - 1).clamp_min(0)
