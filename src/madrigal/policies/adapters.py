"""Low-rank adapters on a model that several policies may share: made, loaded, and found among its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from madrigal.policies.check_model import check_weights, loading
from madrigal.settings import Lora
from madrigal.types import ConfigError


def adapter_name(policy: str) -> str:
    """The name under which PEFT holds a policy's adapter.

    The marks keep it apart from modules ("layers"), from methods of torch's containers ("update"), which PEFT or torch
    would mix up with it, and from names that contain one another ("ann", "joanne").

    >>> adapter_name("update")
    '@update@'
    """
    return f"@{policy}@"


def new_adapter(model: Any, name: str, lora: Lora, seed: int) -> PeftModel:
    """Puts a fresh adapter on a model, or beside the adapters that a PEFT model has.

    Args:
        seed: of its first weights.

    Raises:
        ConfigError: if one of the targets is not in the model.
        EngineError: if PEFT cannot adapt it.
    """
    _check_targets(model, lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with loading("lora: an adapter for this model", "name modules that PEFT can adapt as lora.targets"):
            return _put_on(model, name, config)


def twin_adapter(model: PeftModel, name: str, twin: str) -> None:
    """Puts another adapter of the same shape beside the one that has this name."""
    with torch.random.fork_rng(devices=[]):
        model.add_adapter(twin, model.peft_config[name])
    model.eval()


def load_adapter(model: Any, name: str, folder: Path) -> PeftModel:
    """Puts a saved adapter on a model, or beside the adapters that a PEFT model has.

    Raises:
        EngineError: if it cannot be read, does not fit the model, lacks weights or has some that are not finite.
    """
    what = f"adapter {folder}"
    with loading(what, "expected what a run with lora.rank above 0 saved, and the model that it was trained on"):
        config = PeftConfig.from_pretrained(str(folder))
        config.base_model_name_or_path = None  # PEFT would warn that the model lies elsewhere now
        adapted = _put_on(model, name, config)
        result = adapted.load_adapter(str(folder), adapter_name=name)
    check_weights(adapter_parameters(adapted, name), what, result.missing_keys, result.unexpected_keys)
    return adapted


def adapter_parameters(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter, by name: PEFT writes the adapter's name into the path of each of them."""
    return {path: p for path, p in model.named_parameters() if name in path.split(".")}


def _put_on(model: Any, name: str, config: PeftConfig) -> PeftModel:
    if isinstance(model, PeftModel):
        model.add_adapter(name, config)
        return model
    adapted: PeftModel = get_peft_model(model, config, name)
    return adapted


def _check_targets(model: nn.Module, targets: Sequence[str]) -> None:
    """PEFT itself leaves a name that is not there out without a word, as long as another one is."""
    paths = [f".{path}" for path, _ in model.named_modules()]
    missing = [target for target in targets if not any(path.endswith(f".{target}") for path in paths)]
    if missing:
        kinds = (nn.Linear, nn.Embedding, Conv1D)
        names = [
            path.removesuffix(".base_layer") for path, module in model.named_modules() if isinstance(module, kinds)
        ]
        there = {name.rpartition(".")[2] for name in names if ".lora_" not in name}
        raise ConfigError(
            f"lora.targets: there is no module {', '.join(missing)} in this model; expected some of "
            f"{', '.join(sorted(there))}"
        )
