"""How a model is called: to read batches with gradients, and to decode.

Llama, Qwen2 and Qwen3 on a CPU run `cpu`; every other model, device and adapter runs the library's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicCache

from madrigal.maths.batch import Batch, PrefixLevel
from madrigal.policies import cpu
from madrigal.policies.internals import additive_mask, recomputable_layers, roomy_cache
from madrigal.settings import OptimizerConfig
from madrigal.types import ConfigError

Head = Callable[[Tensor], Tensor]


class Reader(Protocol):
    """A way to compute the logits that each sampled token of a batch was drawn from, answer after answer.

    With a `head`, that head is applied to the last hidden states in the place of the model's own output layer.
    """

    def __call__(self, model: Any, batch: Batch, head: Head | None = None) -> Float[Tensor, "M V"]: ...


def forward_fn(config: OptimizerConfig) -> Reader:
    """How a model that learns is called; recomputing activations and keeping a cache of them exclude each other."""
    return logits_in_one_pass if config.gradient_checkpointing else logits_before_actions


def logits_before_actions(model: Any, batch: Batch, head: Head | None = None) -> Float[Tensor, "M V"]:
    """The logits that each sampled token was drawn from; a prompt is read once for all of its answers."""
    return (_cpu_logits if cpu.supports(model) else _cached_logits)(model, batch, head)


def _cpu_logits(model: Any, batch: Batch, head: Head | None) -> Float[Tensor, "M V"]:
    """An answer's first token is drawn after its prompt, every other one after the token before it."""
    answers = PrefixLevel(batch.actions[:, :-1], batch.mask[:, 1:], batch.prompt_of)
    levels = (*batch.prompts, answers) if answers.tokens.shape[1] else batch.prompts
    stream = cpu.read(model, levels).stream
    before = torch.zeros(batch.mask.shape, dtype=torch.long)
    before[:, 0] = cpu.row_ends(batch.prompts)[batch.prompt_of]
    before[:, 1:][answers.mask] = torch.arange(len(stream))[len(stream) - int(answers.mask.sum()) :]
    drawn = stream.index_select(0, before[batch.mask])
    return cpu.logits_after(model, drawn) if head is None else head(cpu.hidden_states(model, drawn))


def _cached_logits(model: Any, batch: Batch, head: Head | None) -> Float[Tensor, "M V"]:
    cache = DynamicCache()
    first, cached = read_prompts(model, batch.prompts, cache, head)
    if batch.actions.shape[1] == 1:
        return first[batch.prompt_of]
    cache.batch_select_indices(batch.prompt_of)
    mask = torch.cat([cached[batch.prompt_of], batch.mask[:, :-1]], dim=1).long()
    rest = call(
        model,
        head,
        input_ids=batch.actions[:, :-1],
        attention_mask=mask,
        position_ids=_positions(mask)[:, cached.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    )
    return torch.cat([first[batch.prompt_of][:, None], rest], dim=1)[batch.mask]


def logits_in_one_pass(model: Any, batch: Batch, head: Head | None = None) -> Float[Tensor, "M V"]:
    """The same with every prompt repeated before each of its answers, and without a cache."""
    prompts, prompt_mask = _joined(batch.prompts)
    mask = torch.cat([prompt_mask[batch.prompt_of], batch.mask], dim=1).long()
    logits = call(
        model,
        head,
        keep=batch.actions.shape[1] + 1,
        input_ids=torch.cat([prompts[batch.prompt_of], batch.actions], dim=1),
        attention_mask=mask,
        position_ids=_positions(mask),
        use_cache=False,
    )
    return logits[:, :-1][batch.mask]


def _joined(levels: Sequence[PrefixLevel]) -> tuple[Int[Tensor, "Q P"], Bool[Tensor, "Q P"]]:
    """The prompts from their first token to their last; padding may stand within them."""
    tokens, mask = levels[0].tokens[:, :0], levels[0].mask[:, :0]
    for level in levels:
        tokens = torch.cat([tokens[level.parent], level.tokens], dim=1)
        mask = torch.cat([mask[level.parent], level.mask], dim=1)
    return tokens, mask


def read_prompts(
    model: Any, levels: Sequence[PrefixLevel], cache: Cache, head: Head | None = None
) -> tuple[Float[Tensor, "Q V"], Bool[Tensor, "Q P"]]:
    """Fills a cache level by level; returns the logits after each prompt and which places of the cache are real."""
    cached = levels[0].mask[:, :0]
    for n, level in enumerate(levels):
        if n:
            cache.batch_select_indices(level.parent)
        cached = torch.cat([cached[level.parent], level.mask], dim=1)
        mask = cached.long()
        logits = call(
            model,
            head,
            keep=1,
            input_ids=level.tokens,
            attention_mask=mask,
            position_ids=_positions(mask)[:, -level.tokens.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
    return logits[:, -1], cached


def call(model: Any, head: Head | None, keep: int = 0, **inputs: Any) -> Float[Tensor, "R N V"]:
    """The logits of the last `keep` tokens of each row, of all for 0; or what `head` makes of their hidden states."""
    if head is None:
        logits: Tensor = model(**inputs, logits_to_keep=keep).logits
        return logits
    whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return head(whole.base_model(**inputs).last_hidden_state[:, -keep:])


def _positions(mask: Tensor) -> Tensor:
    """The place of each token in its own row, padding not counted."""
    return (mask.cumsum(-1) - 1).clamp_min(0)


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


def decoder(
    model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor, room: int
) -> cpu.CpuDecoder | LibraryDecoder:
    """Reads distinct prompts, each once, and begins a row for each of `prompt_of`; `room` tokens at the most."""
    if cpu.supports(model):
        return cpu.CpuDecoder(model, prompts, prompt_of, room)
    return LibraryDecoder(model, prompts, prompt_of)


class LibraryDecoder:
    """The rows that are being written, and the logits of their next tokens, by the library's own code."""

    def __init__(self, model: Any, prompts: Sequence[PrefixLevel], prompt_of: Tensor) -> None:
        self.model, self.cache = model, roomy_cache(model)
        self.logits, cached = read_prompts(model, prompts, self.cache)
        self.mask, self.position = additive_mask(cached, model.dtype), cached.sum(-1)
        self.select(prompt_of)

    def select(self, keep: Tensor) -> None:
        """Keeps these rows."""
        self.mask = None if self.mask is None else self.mask[keep]
        self.position, self.logits = self.position[keep], self.logits[keep]
        self.cache.batch_select_indices(keep)

    def advance(self, token: Tensor) -> None:
        """Writes one token per row."""
        if self.mask is not None:
            self.mask = functional.pad(self.mask, (0, 1))
        output = self.model(
            input_ids=token[:, None],
            attention_mask=self.mask,
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits, self.position = output.logits[:, -1], self.position + 1
