"""Models of a team for other programs: each policy as one plain model, its adapter folded in, or as a GGUF file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from madrigal.policies.check_model import loading
from madrigal.policies.gguf_writer import Dtype, write_gguf
from madrigal.policies.local import advice, load_tokenizer, resolve_model
from madrigal.policies.team import Place, places_of
from madrigal.runs.files import remedy
from madrigal.settings import PolicyConfig
from madrigal.training.teams import seats_of
from madrigal.training.whole import Source, team_on_disk
from madrigal.types import AgentId, ConfigError, TrainingError

Written = dict[str, tuple[Path, tuple[AgentId, ...]]]


def write_merged(source: Source, target: Path) -> Written:
    """Writes every policy of a team as a folder that `AutoModelForCausalLM.from_pretrained` and vLLM load.

    Where an adapter is folded in, weights are float32.

    Returns:
        By policy its folder, and who speaks by it.

    Raises:
        ConfigError: if something else lies in the way.
        EngineError: if a base model is not there, or an adapter does not fit it.
        TrainingError: if it cannot be written.
    """
    return _each(source, target, "", lambda name, draft, team, place, config: _plain_model(draft, team, place, config))


def write_ggufs(source: Source, target: Path, dtype: Dtype = "float16") -> Written:
    """Writes every policy of a team as a GGUF file; returns and raises as `write_merged`.

    Raises:
        EngineError: if its architecture or its tokenizer is one that is not written.
    """

    def write(name: str, draft: Path, team: Path, place: Place, config: PolicyConfig) -> None:
        with TemporaryDirectory() as made:
            _plain_model(Path(made) / name, team, place, config)
            write_gguf(Path(made) / name, draft, dtype, f"{source.run.recipe}-{name}")

    return _each(source, target, ".gguf", write)


def _each(
    source: Source, target: Path, ending: str, write: Callable[[str, Path, Path, Place, PolicyConfig], None]
) -> Written:
    """Writes what `write` makes of every policy, each whole or not at all."""
    policies = dict[str, tuple[PolicyConfig, str]]()
    speakers = dict[str, list[AgentId]]()
    for seats in seats_of(source.run.team, source.task.agents):
        for agent, (name, config, where) in seats.items():
            policies.setdefault(name, (config, where))
            speakers[name] = [*dict.fromkeys([*speakers.get(name, []), agent])]
    written = Written()
    with team_on_disk(source) as team:
        places = places_of(team)
        for name, (config, where) in policies.items():
            final, draft = target / f"{name}{ending}", target / f".{name}.draft"
            if final.exists():
                raise ConfigError(f"--output: {final} exists; remove it or name another folder")
            try:
                target.mkdir(parents=True, exist_ok=True)
                write(name, draft, team, places.get(where, Place(where)), config)
                draft.rename(final)
            except (OSError, SafetensorError) as error:
                raise TrainingError(f"{final} could not be written ({error}); {remedy(error)}") from error
            finally:
                if draft.is_dir():
                    shutil.rmtree(draft)
                draft.unlink(missing_ok=True)
            written[name] = final, tuple(speakers[name])
    return written


def _plain_model(target: Path, team: Path, place: Place, config: PolicyConfig) -> None:
    """Writes one policy as a plain model with its tokenizer."""
    whole = not config.lora.rank
    name = config.model if place.base or not whole else str(team / place.folder)
    with loading(f"model {name}:", advice(name)):
        model: Any = AutoModelForCausalLM.from_pretrained(
            resolve_model(name), dtype="auto" if whole else torch.float32, trust_remote_code=False
        )
    if whole:
        tokenizer = load_tokenizer(name, config.pad_token)
    else:
        folder = team / place.folder
        with loading(f"adapter {folder}", "expected the model that it was trained on"):
            model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
