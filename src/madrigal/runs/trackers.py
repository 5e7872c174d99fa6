"""TensorBoard, Weights & Biases and Trackio, where they are installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from madrigal.runs.log import Row, Tracker
from madrigal.types import ConfigError

TRANSCRIPTS, COLUMNS = "evaluation/transcripts", ["example", "return %", "transcript"]
PACKAGES = {
    "tensorboard": ("torch.utils.tensorboard", "madrigal[tb]"),
    "wandb": ("wandb", "madrigal[wandb]"),
    "trackio": ("trackio", "madrigal[trackio]"),
}


def check_trackers(kinds: Sequence[str]) -> None:
    """Checks that trackers can start, before anything is loaded or made.

    Raises:
        ConfigError: if a package is not installed, or wandb would ask for a key on the terminal.
    """
    for kind in kinds:
        module = _package(kind)
        offline = os.environ.get("WANDB_MODE", "") in ("offline", "disabled", "dryrun")
        if kind == "wandb" and not (offline or os.environ.get("WANDB_API_KEY") or module.api.api_key):
            raise ConfigError(
                "records.trackers: wandb is not logged in; run: wandb login, or set WANDB_MODE=offline to send it later"
            )


def _package(kind: str) -> Any:
    name, extra = PACKAGES[kind]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"records.trackers: {kind} is not installed; pip install '{extra}'") from error


def make_tracker(kind: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """A function that sends numbers and transcripts to a tracker.

    Raises:
        ConfigError: if its package is not installed.
    """
    return {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}[kind](folder, settings)


def _tensorboard(folder: Path, settings: Mapping[str, Any]) -> Tracker:
    writer: Any = _package("tensorboard").SummaryWriter(str(folder / "tensorboard"))

    def track(step: int, numbers: Mapping[str, float], rows: Sequence[Row] = ()) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        for example, percent, words in rows:
            verbatim = words.replace("\n", "\n    ")  # to Markdown, which texts are read as
            writer.add_text(f"{TRANSCRIPTS}/{example}", f"{percent:.1f} %\n\n    {verbatim}", step)
        writer.flush()

    return track


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Tracker:
    wandb = _package("wandb")
    try:
        run = wandb.init(project="madrigal", name=folder.name, dir=str(folder), config=dict(settings))
    except wandb.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"records.trackers: wandb could not begin ({reason}); run: wandb login, or set WANDB_MODE=offline"
        ) from error

    def track(step: int, numbers: Mapping[str, float], rows: Sequence[Row] = ()) -> None:
        run.log({**numbers, **_table(wandb, rows), "step": step})

    return track


def _trackio(folder: Path, settings: Mapping[str, Any]) -> Tracker:
    trackio = _package("trackio")
    run = trackio.init(project="madrigal", name=folder.name, config=dict(settings), resume="allow")

    def track(step: int, numbers: Mapping[str, float], rows: Sequence[Row] = ()) -> None:
        run.log({**numbers, **_table(trackio, rows)}, step=step)

    return track


def _table(package: Any, rows: Sequence[Row]) -> dict[str, Any]:
    return {TRANSCRIPTS: package.Table(columns=COLUMNS, data=[list(row) for row in rows])} if rows else {}
