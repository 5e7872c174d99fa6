"""Checkpoints of a whole team: complete or absent, never half there.

Knows: files. Does not know: what the numbers in them mean.

A checkpoint is a folder `step-N` with one file per learner, `state.json`, and `manifest.json` with the sha256 of every
file. It is written under another name, flushed to the disk, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from madrigal.types import ConfigError, TrainingError


def save_checkpoint(
    folder: Path, step: int, learners: Mapping[str, dict[str, Any]], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Writes `folder/step-N` atomically and removes all but the newest `keep` checkpoints.

    Raises:
        TrainingError: if the disk is full or not writable; older checkpoints are untouched then.
    """
    final, draft = folder / f"step-{step}", folder / f".step-{step}.draft"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, learner in learners.items():
            torch.save(learner, draft / f"{name}.pt")
        (draft / "state.json").write_text(json.dumps({"step": step, **state}))
        sums = {file.name: _sha256(file) for file in sorted(draft.iterdir())}
        (draft / "manifest.json").write_text(json.dumps(sums, indent=2))
        for file in draft.iterdir():
            _flush(file)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        _flush(folder)
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as RuntimeError.
        shutil.rmtree(draft, ignore_errors=True)
        raise TrainingError(
            f"checkpoint {final} could not be written ({error}); free some space and resume: the last one is whole"
        ) from error
    for _, old in sorted(_checkpoints(folder))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Reads a checkpoint after checking every file against the manifest.

    Returns:
        The learners' states by name, and the state written beside them.

    Raises:
        ConfigError: if a file is missing, truncated or changed.
    """
    try:
        sums: dict[str, str] = json.loads((path / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"checkpoint {path}: expected a manifest.json, found none that can be read; remove this folder and resume "
            "from an earlier checkpoint"
        ) from error
    for name, expected in sums.items():
        file = path / name
        if not file.is_file() or _sha256(file) != expected:
            raise ConfigError(
                f"checkpoint {path}: {name} is missing, truncated or changed (its sha256 is not the manifest's); "
                "remove this folder and resume from an earlier checkpoint"
            )
    learners = {
        file.stem: torch.load(file, map_location="cpu", weights_only=True) for file in sorted(path.glob("*.pt"))
    }
    state: dict[str, Any] = json.loads((path / "state.json").read_text())
    return learners, state


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step, or None."""
    found = sorted(_checkpoints(folder))
    return found[-1][1] if found else None


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    paths = folder.glob("step-*") if folder.is_dir() else ()
    return [(int(p.name.removeprefix("step-")), p) for p in paths if p.name.removeprefix("step-").isdigit()]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
