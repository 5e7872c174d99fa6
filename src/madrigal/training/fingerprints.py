"""Digests of what a run was started with and settings only name: data, base models, tokenizers, an own task's code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from madrigal.config import Experiment
from madrigal.policies.local import resolve_model
from madrigal.rollouts.task import Task
from madrigal.settings import BASE
from madrigal.tasks.catalog import environment_name
from madrigal.tasks.data import EMBEDDED
from madrigal.tasks.own import IN_MEMORY, CustomTask
from madrigal.tasks.splits import Validated
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.types import ConfigError, Split

CONFIGS = {"config.json", "generation_config.json", "adapter_config.json"}
WEIGHTS, SPELLING = {".safetensors", ".bin"}, {".json", ".jinja", ".model", ".txt"}
CODE = "the code of "


def fingerprints(run: Experiment, task: Task[Any]) -> dict[str, str]:
    """By what it is of, the sha256 of its content; what has no file on this machine is left out."""
    splits: tuple[Split, ...] = ("train", *(("validation",) if isinstance(task, Validated) else ()), "test")
    digests = {f"the {split} data": _digest(_rows(task, split)) for split in splits}
    models = {"team.policy": run.team.policy.model, "critic": run.critic.model}
    models["evaluation.fluency"] = "" if run.evaluation.fluency == BASE else run.evaluation.fluency
    models |= {f"team.seats.{agent}": policy.model for agent, policy in run.team.seats.items()}
    parts = {name: _parts_of(name) for name in set(models.values()) if name}
    for setting, name in models.items():
        digests |= {f"the {part} of {setting}": digest for part, digest in parts.get(name, {}).items()}
    if run.team.start:
        digests["team.start"] = _digest(_contents(sorted(Path(run.team.start).glob("*/*.safetensors"))))
    if isinstance(run.task, Tldr | Arxiv) and run.task.transitions:
        digests["the transitions"] = _digest([Path(run.task.transitions).expanduser().read_bytes()])
    if (file := Path(run.warm.demonstrations).expanduser()).is_file():
        digests["the demonstrations"] = _digest([file.read_bytes()])
    if run.reworded not in ("", EMBEDDED):
        digests["the other words"] = _digest([Path(run.reworded).expanduser().read_bytes()])
    named = run.task.path if isinstance(run.task, CustomTask) else environment_name(run.task).partition(":")[2]
    code = {"the task": named, "the tools": run.tools.path}
    code |= {setting: policy.script for setting, policy in run.team.outside.items()}
    for what, path in code.items():
        if ":" in path and (file := _source(path)).is_file():
            digests[f"{CODE}{what}"] = _digest([file.read_bytes()])
    return digests


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed, of all that both know."""
    return [name for name, digest in now.items() if before.get(name, digest) != digest]


def _rows(task: Task[Any], split: Split) -> Iterator[bytes]:
    for example in task.examples(split):
        yield json.dumps([example.id, _plain(example.data)]).encode()


def _plain(value: object) -> object:
    """The same in every process: an object of a user's own stands for its type, since its text may name an address."""
    if isinstance(value, Mapping):
        return sorted(([str(key), _plain(inner)] for key, inner in value.items()), key=lambda pair: str(pair[0]))
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float) else type(value).__name__


def _parts_of(model: str) -> dict[str, str]:
    """Fingerprints of a model's weights with their config, and of its tokenizer with its chat template."""
    if (folder := _folder_of(model)) is None:
        return {}
    files = sorted(file for file in folder.iterdir() if file.is_file())
    weights = [file for file in files if file.suffix in WEIGHTS or file.name in CONFIGS]
    spelling = [file for file in files if file.suffix in SPELLING and file not in weights and "index" not in file.name]
    return {"base model": _digest(_contents(weights)), "tokenizer": _digest(_contents(spelling))}


def _folder_of(model: str) -> Path | None:
    """Where a model lies: its folder, or the snapshot of a hub name in the cache."""
    try:
        place = Path(resolve_model(model))
        if place.is_dir():
            return place
        config = cached_file(str(place), "config.json", local_files_only=True)
    except (ConfigError, OSError, ValueError):  # it is gone, or was never loaded
        return None
    return Path(config).parent if config else None


def _contents(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as stream:
            yield f"{file.name}\0".encode() + hashlib.file_digest(stream, "sha256").digest()


def _source(path: str) -> Path:
    """The file of own code: "file.py:name" or "package.module:name", imported before."""
    name = path.rpartition(":")[0]
    if not name or name == IN_MEMORY:
        return Path()
    if name.endswith(".py"):
        return Path(name)
    spec = importlib.util.find_spec(name)
    return Path(spec.origin or "") if spec else Path()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
