"""TensorBoard, Weights & Biases and Trackio, where they are installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madrigal.report.log import Tracker
from madrigal.types import ConfigError


def make_tracker(kind: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """A function that sends numbers to a tracker.

    Raises:
        ConfigError: if its package is not installed.
    """
    return {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}[kind](folder, settings)


def _tensorboard(folder: Path, settings: Mapping[str, Any]) -> Tracker:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("records.trackers: tensorboard is not installed; pip install 'madrigal[tb]'") from error
    writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def track(step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Tracker:
    try:
        import wandb  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ConfigError("records.trackers: wandb is not installed; pip install 'madrigal[wandb]'") from error
    run = wandb.init(project="madrigal", name=folder.name, dir=str(folder), config=dict(settings))

    def track(step: int, numbers: Mapping[str, float]) -> None:
        run.log({**numbers, "step": step})

    return track


def _trackio(folder: Path, settings: Mapping[str, Any]) -> Tracker:
    try:
        import trackio  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ConfigError("records.trackers: trackio is not installed; pip install 'madrigal[trackio]'") from error
    run = trackio.init(project="madrigal", name=folder.name, config=dict(settings), resume="allow")

    def track(step: int, numbers: Mapping[str, float]) -> None:
        run.log(dict(numbers), step=step)

    return track
