"""What is looked at when a model is loaded, so that no run ends in the middle, or ends well with wrong numbers.

That all weights came from the files and are numbers; that every token has a row in the embedding; and that Madrigal can
drive the cache. Engine and learner read prompts in pieces, hand what was read to every sibling, and drop rows that have
ended. So every layer must keep one key and one value for each token that it read, and remember nothing else: no
recurrent state, no window.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from madrigal.policies.forward import last_hidden, reading_on
from madrigal.policies.internals import attention_window, keys_per_layer, output_logits
from madrigal.types import EngineError, MadrigalError

HELP = (
    "Madrigal cannot drive such a model; take one with full attention in all layers (Llama, Qwen2, Qwen3, GPT-2, say)"
)
NO_LIMIT = 1 << 30


@contextmanager
def loading(what: str, advice: str) -> Iterator[None]:
    """Turns whatever a library raises over files that it cannot read into one line.

    Raises:
        EngineError: saying what could not be loaded, why, and what to do.
    """
    try:
        yield
    except MadrigalError:
        raise
    except Exception as error:  # the files are a stranger's: any type may come, of tokenizers a bare Exception
        raise EngineError(f"{what} could not be loaded: {_reason(error)}; {advice}") from error


def _reason(error: BaseException) -> str:
    """The first line of an error; with its type, where a single word is all that it says."""
    first = str(error).strip().split("\n")[0][:300]
    return first if " " in first else f"{type(error).__name__}: {first}"


def check_weights(
    weights: Mapping[str, Tensor], what: str, missing: Collection[str] = (), unused: Collection[str] = ()
) -> None:
    """Refuses weights of which some are not in the files, or not finite.

    Args:
        weights: by name, as loaded.
        missing: the names that the files do not hold, tied weights left out.
        unused: the names in the files that the model does not have.

    Raises:
        EngineError: naming the first of them.
    """
    if missing:
        strange = f"; {min(unused)} is there instead, say" if unused else ""
        raise EngineError(
            f"{what}: {len(missing)} weights are missing in its files and would be random, {min(missing)} first"
            f"{strange}; save it again with save_pretrained, from the plain model (not compiled, wrapped or sharded)"
        )
    broken = next((name for name, weight in weights.items() if not bool(weight.isfinite().all())), None)
    if broken is not None:
        raise EngineError(
            f"{what}: {broken} holds numbers that are not finite (NaN or infinity); load an earlier checkpoint"
        )


def check_rows(model: Any, tokenizer: Any, name: str) -> None:
    """Refuses a tokenizer with tokens that the model's embedding has no row for.

    Raises:
        EngineError: naming the first such token and both sizes.
    """
    rows, tokens = model.get_input_embeddings().weight.shape[0], tokenizer.get_vocab()
    beyond = {index: token for token, index in tokens.items() if index >= rows}
    if beyond:
        raise EngineError(
            f"model {name}: the token {beyond[min(beyond)]!r} has the id {min(beyond)}, but the embedding has {rows} "
            f"rows for {len(tokens)} tokens; call model.resize_token_embeddings({max(beyond) + 1}) and save it again"
        )


def context_of(config: Any) -> int:
    """The longest prompt plus answer that a model was made for, in tokens.

    Rotary angles of the kind "longrope" have a second set of factors for rows beyond a first length, and the library
    takes them for a whole batch if one row of it is that long. Within the first length no row depends on another.
    """
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary, *(part for part in rotary.values() if isinstance(part, dict))]  # one, or one per kind of layer
    switches = [kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"]
    longest: int = min([getattr(config, "max_position_embeddings", None) or NO_LIMIT, *switches])
    return longest


def check_cache(model: Any, name: str) -> None:
    """Lets a model read two tokens and one more, and looks at what its cache holds of the two.

    Raises:
        EngineError: if that is not two keys and values in every layer, or not for long, or it does not take the mask
            that the engine gives it.
    """
    try:
        layers, keys, window = model.config.num_hidden_layers, _keys_held(model), attention_window(model.config)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise EngineError(
            f"model {name}: reading three tokens into a plain key-value cache failed ({reason}). {HELP}"
        ) from error
    if keys != [2] * layers:
        raise EngineError(
            f"model {name}: of two tokens, expected 2 keys in the cache of each of {layers} layers, got {keys}. {HELP}"
        )
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise EngineError(
            f"model {name}: it takes no position_ids (half of an encoder-decoder?), so that padding moves its tokens. "
            f"{HELP}"
        )
    # The library measures a window in places, and padding takes places too: on the left, and between what prompts
    # share and how each goes on. Together they are fewer than two contexts.
    context = context_of(model.config)
    if window < 2 * context:
        raise EngineError(
            f"model {name}: some layers see a window of {window} tokens, expected at least twice the context of "
            f"{context}. {HELP}"
        )


@torch.no_grad()
def check_output(model: Any, name: str) -> None:
    """Compares a model's logits of two tokens with those that are made of its last hidden states.

    Raises:
        EngineError: if a model does more to them than its output layer and what `output_logits` knows of.
    """
    tokens = torch.arange(2, device=model.device)[None]
    try:
        expected = model(input_ids=tokens, use_cache=False).logits.float()
        made = output_logits(model, last_hidden(model, input_ids=tokens, use_cache=False)).float()
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise EngineError(f"model {name}: reading its last hidden states failed ({reason}). {HELP}") from error
    apart = float((made - expected).abs().max())
    if not apart <= 1e-2 * float(expected.abs().max()):
        raise EngineError(
            f"model {name}: its logits are not what its output layer makes of its last hidden states (apart by "
            f"{apart:.3g}). {HELP}"
        )


@torch.no_grad()
def _keys_held(model: Any) -> list[int]:
    """How many keys each layer that has any holds, after two tokens; one more is read as the engine does."""
    tokens = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    cache = DynamicCache()
    model(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        position_ids=torch.arange(2, device=model.device)[None],
        **reading_on(model, cache),
        logits_to_keep=1,
    )
    keys = keys_per_layer(cache)
    model(
        input_ids=tokens[:, :1],
        attention_mask=torch.zeros((1, 1, 1, 3), dtype=model.dtype, device=model.device),
        position_ids=torch.full((1, 1), 2, device=model.device),
        **reading_on(model, cache),
    )
    return keys
