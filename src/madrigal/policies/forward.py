"""How a model is called to read batches with gradients.

Llama, Qwen2 and Qwen3 run `llama`; every other model and adapter runs the library's own code.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicCache

from madrigal.maths.batch import Batch, PrefixLevel
from madrigal.maths.logprobs import OutputLogprobs, TokenLogprobs
from madrigal.maths.sampling import filtered_logits
from madrigal.policies import llama
from madrigal.policies.internals import output_logits, output_weight, plain_model, recomputable_layers
from madrigal.settings import OptimizerConfig, Sampling
from madrigal.types import ConfigError

TABLE = 1 << 24  # logits that are held at a time, in numbers
GPU_TABLE = 1 << 28


class Reader(Protocol):
    """A way to compute the last hidden states that each sampled token of a batch was drawn from, answer after answer.

    `output_logits` makes logits of them, a critic's head values.
    """

    def __call__(self, model: Any, batch: Batch) -> Float[Tensor, "M D"]: ...


def forward_fn(config: OptimizerConfig) -> Reader:
    """How a model that learns is called; recomputing activations and keeping a cache of them exclude each other."""
    return hidden_recomputed if config.gradient_checkpointing else hidden_before_actions


def hidden_before_actions(model: Any, batch: Batch) -> Float[Tensor, "M D"]:
    """The hidden states that each sampled token was drawn from; a prompt is read once for all of its answers."""
    return _written_hidden(model, batch) if llama.supports(model) else _cached_hidden(model, batch)


def hidden_recomputed(model: Any, batch: Batch) -> Float[Tensor, "M D"]:
    """The same, with activations computed again for the gradient."""
    return _written_hidden(model, batch, recompute=True) if llama.supports(model) else hidden_in_one_pass(model, batch)


def _written_hidden(model: Any, batch: Batch, *, recompute: bool = False) -> Float[Tensor, "M D"]:
    """An answer's first token is drawn after its prompt, every other one after the token before it."""
    answers = PrefixLevel(batch.actions[:, :-1], batch.mask[:, 1:], batch.prompt_of)
    levels = (*batch.prompts, answers) if answers.tokens.shape[1] else batch.prompts
    stream = llama.read(model, levels, recompute=recompute).stream
    before, above = torch.zeros_like(batch.actions), len(stream) - int(answers.mask.sum())
    before[:, 0] = llama.row_ends(batch.prompts)[batch.prompt_of]
    before[:, 1:][answers.mask] = torch.arange(above, len(stream), device=stream.device)
    return llama.hidden_states(model, stream.index_select(0, before[batch.mask]))


def _cached_hidden(model: Any, batch: Batch) -> Float[Tensor, "M D"]:
    cache = DynamicCache()
    first, cached = read_prompts(model, batch.prompts, cache)
    if batch.actions.shape[1] == 1:
        return first[batch.prompt_of]
    cache.batch_select_indices(batch.prompt_of)
    mask = torch.cat([cached[batch.prompt_of], batch.mask[:, :-1]], dim=1).long()
    rest = last_hidden(
        model,
        input_ids=batch.actions[:, :-1],
        attention_mask=mask,
        position_ids=_positions(mask)[:, cached.shape[1] :],
        cache=cache,
    )
    return torch.cat([first[batch.prompt_of][:, None], rest], dim=1)[batch.mask]


def hidden_in_one_pass(model: Any, batch: Batch) -> Float[Tensor, "M D"]:
    """The same with every prompt repeated before each of its answers, and without a cache."""
    prompts, prompt_mask = _joined(batch.prompts)
    mask = torch.cat([prompt_mask[batch.prompt_of], batch.mask], dim=1).long()
    tokens = torch.cat([prompts[batch.prompt_of], batch.actions], dim=1)
    hidden = last_hidden(model, input_ids=tokens, attention_mask=mask, position_ids=_positions(mask), use_cache=False)
    return hidden[:, prompts.shape[1] - 1 : -1][batch.mask]


def _joined(levels: Sequence[PrefixLevel]) -> tuple[Int[Tensor, "Q P"], Bool[Tensor, "Q P"]]:
    """The prompts from their first token to their last; padding may stand within them."""
    tokens, mask = levels[0].tokens[:, :0], levels[0].mask[:, :0]
    for level in levels:
        tokens = torch.cat([tokens[level.parent], level.tokens], dim=1)
        mask = torch.cat([mask[level.parent], level.mask], dim=1)
    return tokens, mask


def read_prompts(
    model: Any, levels: Sequence[PrefixLevel], cache: Cache
) -> tuple[Float[Tensor, "Q D"], Bool[Tensor, "Q P"]]:
    """Fills a cache level by level; returns the hidden states after each prompt, and which of its places are real."""
    cached = levels[0].mask[:, :0]
    for n, level in enumerate(levels):
        if n:
            cache.batch_select_indices(level.parent)
        cached = torch.cat([cached[level.parent], level.mask], dim=1)
        mask = cached.long()
        hidden = last_hidden(
            model,
            input_ids=level.tokens,
            attention_mask=mask,
            position_ids=_positions(mask)[:, -level.tokens.shape[1] :],
            cache=cache,
        )
    return hidden[:, -1], cached


def last_hidden(model: Any, cache: Cache | None = None, **inputs: Any) -> Float[Tensor, "R N D"]:
    """What a model hands to its output layer."""
    base = plain_model(model).base_model
    hidden: Tensor = base(**inputs, **reading_on(base, cache) if cache is not None else {}).last_hidden_state
    return hidden


def reading_on(model: Any, cache: Cache) -> dict[str, Any]:
    """The arguments with which a model reads on from a cache, and adds to it."""
    kind: Any = type(model)  # mypy does not take a type for hashable
    return {_cache_name(kind): cache, "use_cache": True}


@functools.cache
def _cache_name(kind: Any) -> str:
    """What a class of models calls its cache: transformers 5.24 has another name, 5.40 will not know the old one."""
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def _positions(mask: Tensor) -> Tensor:
    """The place of each token in its own row, padding not counted."""
    return (mask.cumsum(-1) - 1).clamp_min(0)


def sampled_logprobs(
    model: Any, hidden: Float[Tensor, "M D"], tokens: Int[Tensor, " M"], sampling: Sampling
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """Log-probs of tokens under the distribution that was sampled, and its entropies, both in nats.

    Never are more than `TABLE` logits there at a time; where a batch has more, or logits are one product, they are
    computed again for the gradient.
    """
    vocabulary = len(plain_model(model).get_output_embeddings().weight)
    rows = max(1, (TABLE if hidden.is_cpu else GPU_TABLE) // vocabulary)
    weight = output_weight(model)
    if weight is not None:
        found: tuple[Tensor, Tensor] = OutputLogprobs.apply(hidden, weight, tokens, sampling, rows)  # type: ignore[no-untyped-call]
        return found

    def piece(states: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        logits = filtered_logits(output_logits(model, states), sampling, keep=chosen)
        both: tuple[Tensor, Tensor] = TokenLogprobs.apply(logits, chosen)  # type: ignore[no-untyped-call]
        return both

    if len(hidden) <= rows:
        return piece(hidden, tokens)
    pieces = zip(torch.split(hidden, rows), torch.split(tokens, rows), strict=True)
    columns = zip(*(checkpoint(piece, *one, use_reentrant=False) for one in pieces), strict=True)
    logprobs, entropies = (torch.cat(column) for column in columns)
    return logprobs, entropies


@contextmanager
def gradient_checkpointing(model: Any, config: OptimizerConfig) -> Iterator[None]:
    """Within it, each layer stores only what goes in, and computes again what it needs for the gradient.

    The library's own switch works in training mode only, which also switches dropout on: log-probs would then differ
    from those at sampling.
    """
    layers = recomputable_layers(model) if config.gradient_checkpointing else []
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def check_recomputing(model: Any, config: OptimizerConfig, owner: str) -> None:
    """Refuses to recompute activations of a model of which the library marks no layers for that.

    Raises:
        ConfigError: naming its owner, "policy ann".
    """
    if config.gradient_checkpointing and not recomputable_layers(model):
        raise ConfigError(
            f"{owner}: optimizer.gradient_checkpointing is set, but activations of a {model.config.model_type} model "
            "cannot be recomputed; leave it out, or take another model"
        )
