"""Local policies: a Hugging Face causal language model, or a LoRA adapter on one that several policies share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from madrigal.policies.adapters import adapter_name, adapter_parameters, load_adapter, new_adapter, twin_adapter
from madrigal.policies.catalog import CATALOG, fetched
from madrigal.policies.chat import ChatFormat
from madrigal.policies.check_model import check_cache, check_output, check_rows, check_weights, context_of, loading
from madrigal.policies.gguf import converted
from madrigal.policies.internals import has_adapter
from madrigal.policies.llama import pack
from madrigal.policies.machine import prefers_bfloat16
from madrigal.policies.starter import model_path
from madrigal.policies.token_pieces import TokenPieces
from madrigal.settings import PolicyConfig
from madrigal.types import ConfigError, EngineError, Messages

R = TypeVar("R")
SWITCHING = RLock()  # held by whoever switches adapters where several threads may read with one model
STARTER = "starter:"
EXPECTED = (
    "starter:small, starter:large, a name of `madrigal models`, a local folder, a .gguf file or a reachable hub name"
)


@dataclass(eq=False)
class LocalPolicy:
    """Weights that speak and, if trainable, learn.

    Attributes:
        name: how logs and checkpoints call it.
        model: the whole model; for an adapter, the PEFT model that also holds its siblings.
        adapter: PEFT's name of this policy's adapter, "" for a whole model.
        version: counts updates and all else that gave it other weights; it never goes back.
        config: the settings that it was loaded by.
    """

    name: str
    model: Any
    tokenizer: Any
    adapter: str = ""
    trainable: bool = True
    version: int = 0
    chat_template: bool = True
    config: PolicyConfig = field(default_factory=PolicyConfig)
    _reference: Any = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @cached_property
    def context(self) -> int:
        """The longest prompt plus answer, in tokens."""
        return context_of(self.model.config)

    def encode(self, messages: Messages) -> tuple[int, ...]:
        """Token ids of a prompt, as `ChatFormat.encode` makes them with this policy's `chat_template`."""
        return self._format.encode(messages, chat=self.chat_template)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text by itself; control tokens that it spells are text."""
        return self._format.encode_text(text)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Token ids of an answer as the policy itself would give it: a text, and the token that closes it."""
        turn = sorted(self._format.turn_ends) if self.chat_template else []
        return (*self.encode_text(text), *(turn or [self.tokenizer.eos_token_id])[:1])

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer, without ends, padding and the tokens of the chat template."""
        return self._format.decode(token_ids, self.ends)

    def spell(self, token_ids: list[int], text: str) -> tuple[str, ...]:
        """What each token of an answer added to its text, for readers."""
        return self._token_pieces(token_ids, text)

    @cached_property
    def _token_pieces(self) -> TokenPieces:
        return TokenPieces(self.decode, self.encode_text("a")[-1:])

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that close an answer: of the tokenizer, the generation config and the chat template."""
        turn = self._format.turn_ends if self.chat_template else frozenset()
        return self._listed_ends() | turn

    def _listed_ends(self) -> frozenset[int]:
        listed = self.model.generation_config.eos_token_id
        more = listed if isinstance(listed, list) else [listed]
        return frozenset(i for i in [self.tokenizer.eos_token_id, *more] if i is not None)

    @cached_property
    def _format(self) -> ChatFormat:
        return ChatFormat(self.tokenizer, self._listed_ends())

    def activate(self) -> Any:
        """The module to call, with this policy's adapter switched on."""
        if self.adapter:
            self.model.set_adapter(self.adapter)
        return self.model

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, in a fixed order."""
        if not self.adapter:
            return dict(self.model.named_parameters())
        return adapter_parameters(self.model, self.adapter)

    def keep_reference(self) -> None:
        """Remembers the present weights as the reference policy of a KL term."""
        if not self.adapter and self._reference is None:
            self._reference = _frozen_copy(self.model)

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
        self.save_weights(folder)
        self.tokenizer.save_pretrained(folder)

    def save_weights(self, folder: Path) -> None:
        """Writes the weights alone, with their configuration."""
        if self.adapter:
            self.model.save_pretrained(folder, selected_adapters=[self.adapter])
            nested = folder / self.adapter
            for file in nested.iterdir() if nested.is_dir() else ():
                file.replace(folder / file.name)
            if nested.is_dir():
                nested.rmdir()
        else:
            self.model.save_pretrained(folder)


def map_policies(fn: Callable[[LocalPolicy], R], policies: Sequence[LocalPolicy], *, in_turn: bool = False) -> list[R]:
    """fn of every policy: side by side on a CPU where no two share a model, else, or if asked, one after the other."""
    apart = all(one.model is not other.model for one, other in combinations(policies, 2))
    if len(policies) > 1 and apart and not in_turn and all(policy.device.type == "cpu" for policy in policies):
        with ThreadPoolExecutor(len(policies)) as pool:
            return list(pool.map(fn, policies))
    return list(map(fn, policies))


def twin_of(policy: LocalPolicy) -> LocalPolicy:
    """A policy that does not learn, for other weights of the same shape: a copy of the model, or another adapter."""
    name = f"{policy.name}~twin"  # no seat can be called so
    twin = replace(policy, name=name, trainable=False, _reference=None)
    if policy.adapter:
        twin.adapter = adapter_name(name)
        twin_adapter(policy.model, policy.adapter, twin.adapter)
    else:
        twin.model = _frozen_copy(policy.model)
    return twin


def _frozen_copy(model: Any) -> Any:
    """The same weights in other memory, which do not learn."""
    copied = copy.deepcopy(model).requires_grad_(False).eval()
    pack(copied)
    return copied


@torch.no_grad()
def put_weights(policy: LocalPolicy, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies weights into a policy; those of another adapter go by its name, which stands in the path of each."""
    for (name, parameter), (other, value) in zip(
        sorted(policy.parameters().items()), sorted(weights.items()), strict=True
    ):
        if parameter.shape != value.shape:
            raise EngineError(f"policy {policy.name}: {name} does not fit {other} of the saved weights")
        parameter.copy_(value)


def resolve_model(name: str) -> str:
    """The path or hub name behind a model name; "starter:small" is a folder of this package.

    Raises:
        ConfigError: if a local folder or file, or a fetched model, is not there.
        EngineError: if a GGUF file cannot be converted.
    """
    if name.startswith(STARTER):
        return str(model_path(name.removeprefix(STARTER)))
    if name in CATALOG:
        return str(fetched(name))
    if name.endswith(".gguf"):
        return str(converted(Path(name).expanduser()))
    if name.startswith(("/", "./", "../", "~")) and not Path(name).expanduser().is_dir():
        raise ConfigError(f"model: expected a folder with a saved model at {name}, found none; check the path")
    return str(Path(name).expanduser()) if name.startswith("~") else name


def load_tokenizer(name: str, pad_token: str = "") -> Any:
    """Loads a tokenizer and refuses one that cannot mark ends and padding apart from text.

    Raises:
        EngineError: if there is no end token or none to pad with, or nothing can be loaded.
    """
    part = " the tokenizer" if Path(resolve_model(name)).is_dir() else ""  # of a hub name it is only the first file
    with loading(f"model {name}:{part}", advice(name)):
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(name), trust_remote_code=False)
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
        EngineError: if there is no such model, it cannot be read, lacks weights, has an adapter in its layers although
            it is to learn, or Madrigal cannot drive its cache.
    """
    wide = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    with loading(f"model {config.model}:", advice(config.model)):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            resolve_model(config.model),
            dtype=wide.get(config.dtype, auto),
            attn_implementation=None,  # the library's choice: scaled_dot_product_attention wherever there is one
            trust_remote_code=False,
            output_loading_info=True,
        )
        model, report = loaded[0].to(device).eval(), loaded[1]
    if config.dtype == "auto" and device.type == "cpu" and prefers_bfloat16(model.num_parameters()):
        model = model.to(torch.bfloat16)
    check_weights(
        dict(model.named_parameters()), f"model {config.model}", report["missing_keys"], report["unexpected_keys"]
    )
    if has_adapter(model) and (config.trainable or config.lora.rank):
        raise EngineError(
            f"model {config.model}: this is an adapter, and what is trained on top of it could not be saved with it; "
            "merge it into its model first, AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload()."
            "save_pretrained(other) in peft, save the tokenizer there too, and name that folder"
        )
    check_cache(model, config.model)
    check_output(model, config.model)
    if device.type == "cpu":
        _leave_files(model)
    pack(model)
    return model


@torch.no_grad()
def _leave_files(model: Any) -> None:
    """Copies weights out of the file that they were mapped from, all of which would stay in memory beside them."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def load_policy(
    name: str, config: PolicyConfig, device: torch.device, *, base: Any = None, seed: int = 0
) -> LocalPolicy:
    """Makes a policy ready to speak.

    Args:
        base: with `config.lora`, a model (or PEFT model) loaded before, to put the adapter on.
        seed: of the adapter's first weights.
    """
    tokenizer = load_tokenizer(config.model, config.pad_token)
    model = load_model(config, device) if base is None or not config.lora.rank else base
    check_rows(model, tokenizer, config.model)
    if not config.lora.rank:
        model.requires_grad_(config.trainable)
        return LocalPolicy(name, model, tokenizer, trainable=config.trainable, config=config)
    model = new_adapter(model, adapter_name(name), config.lora, seed).eval()
    return LocalPolicy(name, model, tokenizer, adapter_name(name), config.trainable, config=config)


def load_saved_adapter(
    name: str, folder: Path, config: PolicyConfig, device: torch.device, *, base: Any = None
) -> LocalPolicy:
    """Loads a policy that `LocalPolicy.save` wrote as an adapter, to speak and not to learn.

    Args:
        config: with the model below the adapter.
        base: that model (or PEFT model), if it was loaded before.
    """
    tokenizer = load_tokenizer(str(folder), config.pad_token)
    model = load_adapter(load_model(config, device) if base is None else base, adapter_name(name), folder).eval()
    check_rows(model, tokenizer, str(folder))
    return LocalPolicy(name, model, tokenizer, adapter=adapter_name(name), trainable=False, config=config)


def advice(name: str) -> str:
    """What to do where a model cannot be loaded."""
    if Path(resolve_model(name)).is_dir():
        return (
            "expected a folder that save_pretrained wrote, of an architecture that transformers knows (Madrigal runs "
            "no code that comes with a model)"
        )
    return f"expected {EXPECTED}; where the hub cannot be reached, download the model once and name its folder"
