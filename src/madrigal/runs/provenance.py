"""run.json: by what a run was made, when, on what machine, and what was changed in it since."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import madrigal
from madrigal.runs.files import read_object, write_whole

FILE = "run.json"
LIBRARIES = ("torch", "transformers", "peft")


def session(step: int, device: torch.device, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What is written down of one stretch of a run: a start, or a resumption at `step`.

    Args:
        changes: settings that are others from this step on, as [before, now].
    """
    return {
        "step": step,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "madrigal": madrigal.__version__,
        "commit": commit(Path(__file__).parent),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "python": platform.python_version(),
            **({"ranks": dist.get_world_size()} if dist.is_initialized() else {}),
            **{name: version(name) for name in LIBRARIES},
        },
        "changes": dict(changes),
    }


def commit(folder: Path) -> str:
    """The commit of the sources in a folder, marked where they have changed since; "" where git does not know them."""
    try:
        if not _git(folder, "ls-files", "__init__.py"):
            return ""
        return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def read_about(folder: Path) -> dict[str, Any]:
    """What run.json of a run folder says; {} where there is none.

    Raises:
        ConfigError: if it cannot be read.
    """
    file = folder / FILE
    return read_object(file) if file.exists() else {}


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Writes run.json of a run folder."""
    write_whole(folder / FILE, json.dumps(about, indent=2) + "\n")
