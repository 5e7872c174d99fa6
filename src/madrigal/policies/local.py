"""Local policies: a Hugging Face causal language model, or a LoRA adapter on one that several policies share.

Knows: weights, tokenizers, adapters. Does not know: agents' tasks, sampling loops, advantages.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from madrigal.policies.chat import ChatFormat
from madrigal.policies.probe import check_cache, context_of
from madrigal.policies.spelling import Speller
from madrigal.starter import model_path
from madrigal.types import ConfigError, EngineError, Messages

STARTER = "starter:"
EXPECTED = "starter:small, starter:large, a local folder or a reachable hub name"


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter (Hu et al., 2021, arXiv:2106.09685).

    Attributes:
        rank: of the update; 0 trains the weights themselves instead of an adapter.
        alpha: the update is scaled by alpha / rank.
        targets: the modules that are adapted; empty means all linear layers.
    """

    rank: int = 0
    alpha: int = 32
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"lora.rank: expected 0 (no adapter) or more, got {self.rank}")


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Which model sits in a seat.

    Attributes:
        model: "starter:small" or "starter:large" (shipped), a local folder, or a hub name.
        trainable: False keeps the weights as they are.
        lora: an adapter to train instead of the weights themselves.
        dtype: "auto" is bfloat16 on a GPU and float32 elsewhere.
        pad_token: what to pad with where the tokenizer names nothing.
    """

    model: str = "starter:small"
    trainable: bool = True
    lora: Lora = Lora()
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    pad_token: str = ""


@dataclass(slots=True, eq=False)
class LocalPolicy:
    """Weights that speak and, if trainable, learn.

    Attributes:
        name: how logs and checkpoints call it.
        model: the whole model; for an adapter, the PEFT model that also holds its siblings.
        adapter: the name of this policy's adapter, "" for a whole model.
        version: updates that the weights have seen.
    """

    name: str
    model: Any
    tokenizer: Any
    adapter: str = ""
    trainable: bool = True
    version: int = 0
    chat_template: bool = True
    _reference: Any = field(default=None, repr=False)
    _format: ChatFormat | None = field(default=None, repr=False)
    _speller: Speller | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def context(self) -> int:
        """The longest prompt plus answer, in tokens."""
        return context_of(self.model)

    def encode(self, messages: Messages) -> tuple[int, ...]:
        """Token ids of a prompt, as `ChatFormat.encode` makes them with this policy's `chat_template`."""
        return self._chat().encode(messages, chat=self.chat_template)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text by itself; control tokens that it spells are text."""
        return self._chat().encode_text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer, without ends, padding and the tokens of the chat template."""
        return self._chat().decode(token_ids, self.ends)

    def spell(self, token_ids: list[int], text: str) -> tuple[str, ...]:
        """What each token of an answer added to its text, for readers."""
        if self._speller is None:
            self._speller = Speller(self.decode, self.encode_text("a")[-1:])
        return self._speller(token_ids, text)

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that close an answer: of the tokenizer, the generation config and the chat template."""
        turn = self._chat().turn_ends if self.chat_template else frozenset()
        return self._listed_ends() | turn

    def _listed_ends(self) -> frozenset[int]:
        listed = self.model.generation_config.eos_token_id
        more = listed if isinstance(listed, list) else [listed]
        return frozenset(i for i in [self.tokenizer.eos_token_id, *more] if i is not None)

    def _chat(self) -> ChatFormat:
        if self._format is None:
            self._format = ChatFormat(self.tokenizer, self._listed_ends())
        return self._format

    def activate(self) -> Any:
        """The module to call, with this policy's adapter switched on."""
        if self.adapter:
            self.model.set_adapter(self.adapter)
        return self.model

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, in a fixed order."""
        if not self.adapter:
            return dict(self.model.named_parameters())
        # The adapter may bear the name of a module of the model ("layers"), so its own name alone does not mark it.
        marks = tuple(f".lora_{side}.{self.adapter}." for side in "AB")
        return {name: p for name, p in self.model.named_parameters() if any(mark in name for mark in marks)}

    def keep_reference(self) -> None:
        """Remembers the present weights as the reference policy of a KL term."""
        if not self.adapter and self._reference is None:
            self._reference = copy.deepcopy(self.model).requires_grad_(False).eval()

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """The module of the reference policy: the remembered weights, or the base below the adapter."""
        if self.adapter:
            with self.model.disable_adapter():
                yield self.model
        else:
            yield self._reference

    def save(self, folder: Path) -> None:
        """Writes weights and tokenizer so that plain transformers or PEFT can load them."""
        if self.adapter:
            self.model.save_pretrained(folder, selected_adapters=[self.adapter])
            nested = folder / self.adapter
            for file in nested.iterdir() if nested.is_dir() else ():
                file.replace(folder / file.name)
            if nested.is_dir():
                nested.rmdir()
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def resolve_model(name: str) -> str:
    """The path or hub name behind a model name; "starter:small" is a folder of this package."""
    if name.startswith(STARTER):
        return str(model_path(name.removeprefix(STARTER)))
    if name.startswith(("/", "./", "../", "~")) and not Path(name).expanduser().is_dir():
        raise ConfigError(f"model: expected a folder with a saved model at {name}, found none; check the path")
    return str(Path(name).expanduser()) if name.startswith("~") else name


def load_tokenizer(name: str, pad_token: str = "") -> Any:
    """Loads a tokenizer and refuses one that cannot mark ends and padding apart from text.

    Raises:
        EngineError: if there is no end token or none to pad with, or nothing can be loaded.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(name))
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(
            f"model {name}: the tokenizer could not be loaded: {_first_line(error)}; expected {EXPECTED}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise EngineError(f"model {name}: the tokenizer has no end token; set tokenizer.eos_token and save it again")
    if tokenizer.pad_token_id is None and pad_token in tokenizer.get_vocab():
        tokenizer.pad_token = pad_token
    if tokenizer.pad_token_id is None:
        named = f", and {pad_token!r} is none of its tokens" if pad_token else ""
        raise EngineError(
            f"model {name}: the tokenizer has no padding token{named}; name one of its tokens as pad_token "
            f"(--team.policy.pad-token {tokenizer.eos_token!r} will do)"
        )
    return tokenizer


def load_model(config: PolicyConfig, device: torch.device) -> Any:
    """Loads a causal language model onto a device.

    Raises:
        EngineError: if there is no such model, it cannot be read, or Madrigal cannot drive its cache.
    """
    wide = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            resolve_model(config.model), dtype=wide.get(config.dtype, auto), attn_implementation="sdpa"
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EngineError(
            f"model {config.model}: could not be loaded: {_first_line(error)}; expected {EXPECTED}"
        ) from error
    model = model.to(device).eval()
    check_cache(model, config.model)
    return model


def load_policy(
    name: str, config: PolicyConfig, device: torch.device, *, base: Any = None, seed: int = 0
) -> LocalPolicy:
    """Makes a policy ready to speak.

    Args:
        base: with `config.lora`, a model (or PEFT model) loaded before, to put the adapter on.
        seed: of the adapter's first weights.
    """
    tokenizer = load_tokenizer(config.model, config.pad_token)
    if not config.lora.rank:
        model = load_model(config, device)
        model.requires_grad_(config.trainable)
        return LocalPolicy(name, model, tokenizer, trainable=config.trainable)
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        target_modules=list(config.lora.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(base, PeftModel):
            base.add_adapter(name, lora)
            model = base
        else:
            model = get_peft_model(base if base is not None else load_model(config, device), lora, name)
    model.eval()
    return LocalPolicy(name, model, tokenizer, adapter=name, trainable=config.trainable)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
