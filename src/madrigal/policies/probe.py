"""Whether Madrigal can drive a model's cache, found out when the model is loaded and not in the middle of a run.

Knows: what engine and learner take for granted of a model. Does not know: tokenizers, what the model will say.

They read prompts in pieces, hand what was read to every sibling, and drop rows that have ended. So every layer must
keep one key and one value for each token that it read, and remember nothing else: no recurrent state, no window.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from madrigal.types import EngineError

HELP = (
    "Madrigal cannot drive such a model; take one with full attention in all layers (Llama, Qwen2, Qwen3, GPT-2, say)"
)
NO_LIMIT = 1 << 30


def context_of(model: Any) -> int:
    """The longest prompt plus answer that a model was made for, in tokens."""
    return int(getattr(model.config, "max_position_embeddings", None) or NO_LIMIT)


def check_cache(model: Any, name: str) -> None:
    """Lets a model read two tokens and one more, and looks at what its cache holds of the two.

    Raises:
        EngineError: if that is not two keys and values in every layer, or not for long, or it does not take the mask
            that the engine gives it.
    """
    try:
        layers, held, window = model.config.num_hidden_layers, _held(model), _window(model)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise EngineError(
            f"model {name}: reading three tokens into a plain key-value cache failed ({reason}). {HELP}"
        ) from error
    if held != [2] * layers:
        raise EngineError(
            f"model {name}: of two tokens, expected 2 keys in the cache of each of {layers} layers, got {held}. {HELP}"
        )
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise EngineError(
            f"model {name}: it takes no position_ids (half of an encoder-decoder?), so that padding moves its tokens. "
            f"{HELP}"
        )
    # The library measures a window in places, and padding takes places too: on the left, and between what prompts
    # share and how each goes on. Together they are fewer than two contexts.
    if window < 2 * context_of(model):
        raise EngineError(
            f"model {name}: some layers see a window of {window} tokens, expected at least twice the context of "
            f"{context_of(model)}. {HELP}"
        )


@torch.no_grad()
def _held(model: Any) -> list[int]:
    """How many keys each layer that has any holds, after two tokens; one more is read as the engine does."""
    tokens = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    cache = DynamicCache()
    model(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        position_ids=torch.arange(2, device=model.device)[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    read: list[Any] = cache.layers
    held = [layer.keys.shape[-2] for layer in read if layer.keys is not None]
    model(
        input_ids=tokens[:, :1],
        attention_mask=torch.ones((1, 1, 1, 3), dtype=torch.bool, device=model.device),
        position_ids=torch.full((1, 1), 2, device=model.device),
        past_key_values=cache,
        use_cache=True,
    )
    return held


def _window(model: Any) -> int:
    """The fewest last tokens that a layer sees; the cache that the library would choose for this model says so."""
    layers = DynamicCache(config=model.config).layers
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min(windows, default=2 * NO_LIMIT)
