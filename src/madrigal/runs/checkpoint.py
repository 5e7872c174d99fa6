"""Checkpoints of a whole team, complete or absent.

A checkpoint is a folder `step-N` with one file per learner, `state.json`, and `manifest.json` with the sha256 of every
file. It is written under another name, flushed to the disk, and renamed. A learner on several ranks has a folder of its
name beside its file, to which each rank wrote its share of the tensors; read, it is the state that one process writes.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from madrigal.runs.files import flush, read_object, remedy, remove_folder
from madrigal.runs.manifest import MANIFEST, checksums, files_in, flaw
from madrigal.types import ConfigError, TrainingError

_NAME = re.compile(r"step-(0|[1-9][0-9]{0,14})")
SHARDS = "shards"  # in a learner's state: a function that has all ranks write their tensors into a folder
Learners = dict[str, dict[str, Any]]
Checkpoint = tuple[Learners, dict[str, Any]]


def save_checkpoint(
    folder: Path, step: int, learners: Mapping[str, dict[str, Any]], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Writes `folder/step-N` atomically and removes all but the newest `keep` checkpoints, and those that they name.

    A state may name a step whose checkpoint it needs, as {"best": {"step": 40, ...}}.

    Raises:
        TrainingError: if a number in it is not finite, or the disk is full or not writable; older checkpoints are
            untouched then.
    """
    final, draft = folder / f"step-{step}", folder / f".step-{step}.draft"
    check_finite(learners, f"checkpoint {final}")
    try:
        for left in [*folder.glob(".step-*.draft"), *folder.glob(".step-*.removed")]:  # by a kill
            shutil.rmtree(left)
        draft.mkdir(parents=True)
        for name, learner in learners.items():
            torch.save({key: value for key, value in learner.items() if key != SHARDS}, draft / f"{name}.pt")
            if SHARDS in learner:
                learner[SHARDS](draft / name)
        (draft / "state.json").write_text(json.dumps({**state, "step": step}))
        (draft / MANIFEST).write_text(json.dumps(checksums(draft), indent=2))
        for path in draft.rglob("*"):
            flush(path)
        remove_folder(final)
        draft.rename(final)
        flush(folder)
    except (OSError, RuntimeError, TrainingError) as error:
        # torch reports a failed write as RuntimeError; ranks theirs as TrainingError, with what to do about it.
        shutil.rmtree(draft, ignore_errors=True)
        before = checkpoints(folder)
        last = f"{before[-1][1].name} is whole" if before else "there is no checkpoint yet"
        what = f"({error})" if isinstance(error, TrainingError) else f"({error}); {remedy(error)}"
        raise TrainingError(f"checkpoint {final} could not be written {what}: {last}") from error
    newest = checkpoints(folder)[-keep:]
    kept = {number for number, _ in newest} | {_needed(path) for _, path in newest if state.get("best")}
    for number, old in checkpoints(folder):
        if number not in kept:
            remove_folder(old)
    return final


def _needed(path: Path) -> int:
    """The step whose checkpoint a checkpoint needs beside itself; -1 where it needs none."""
    try:
        best = read_object(path / "state.json").get("best") or {}
    except ConfigError:  # damaged: found when it is read
        best = {}
    step = best.get("step") if isinstance(best, Mapping) else None
    return step if isinstance(step, int) else -1


def check_finite(learners: Mapping[str, Any], where: str) -> None:
    """Refuses weights, or moments of an optimizer, that are not finite numbers.

    Raises:
        TrainingError: naming the learner and the first such tensor.
    """
    for name, learner in learners.items():
        for place, tensor in _tensors(learner):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"{where}: {place} of {name} holds numbers that are not finite, so it is not saved; what was saved "
                    "before is good: resume from it with a lower --optimizer.lr"
                )


def _tensors(value: object, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dictionaries and lists, and where it lies."""
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _tensors(inner, f"{place}[{number}]")


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint after checking every file against the manifest.

    Returns:
        The learners' states by name, mapped from their files and read when they are used, and the state beside them.

    Raises:
        ConfigError: if a file is missing, truncated, changed or of another step, or a number is not finite.
    """
    _check_files(path)
    state = read_object(path / "state.json")
    if f"step-{state.get('step')}" != path.name:
        raise _damaged(path, f"state.json says that it is of step {state.get('step')!r}")
    files = sorted(path.glob("*.pt"))
    for file in files:  # mapped again afterwards: what was read here leaves memory
        try:
            check_finite({file.stem: _load(file)}, f"checkpoint {path}")
        except TrainingError as error:
            raise _damaged(path, "its weights are not finite numbers") from error
    return {file.stem: _load(file) for file in files}, state


def _check_files(path: Path) -> None:
    try:
        sums = read_object(path / MANIFEST)
    except ConfigError as error:
        raise _damaged(path, f"expected a {MANIFEST}, found none that can be read") from error
    if "state.json" not in sums or files_in(path) - {MANIFEST} - sums.keys():
        raise _damaged(path, f"expected a {MANIFEST} that names every file, state.json among them")
    if why := flaw(path, sums):
        raise _damaged(path, why)


def _load(file: Path) -> dict[str, Any]:
    shards = file.with_suffix("")
    try:
        learner = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if shards.is_dir():
            from madrigal.runs.shards import merged, read_shards  # most runs have none

            learner = merged(learner, read_shards(shards))
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, pickle.UnpicklingError) as error:
        raise _damaged(file.parent, f"{file.name} is no file of torch.save that holds weights alone") from error
    if not isinstance(learner, dict):
        raise _damaged(file.parent, f"{file.name} holds no learner's state")
    return learner


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"checkpoint {path}: {why}; remove this folder and resume from an earlier checkpoint")


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step, or None."""
    return checkpoints(folder)[-1][1] if checkpoints(folder) else None


def newest_whole(folder: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None where there is none at all.

    Args:
        tell: is told of each newer one that is damaged.

    Raises:
        ConfigError: if all are damaged.
    """
    paths = [path for _, path in reversed(checkpoints(folder))]
    for path, earlier in zip(paths, [*paths[1:], None], strict=False):
        try:
            return load_checkpoint(path)
        except ConfigError as error:
            if earlier is None:
                raise
            tell(f"{str(error).partition(';')[0]}; going on from {earlier.name}")
    return None


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of every checkpoint, the oldest first."""
    paths = folder.glob("step-*") if folder.is_dir() else ()
    return sorted((int(path.name[len("step-") :]), path) for path in paths if _NAME.fullmatch(path.name))
