"""What the library `datasets` reads: sets of the Hugging Face hub, and folders that it saved to disk."""

from __future__ import annotations

import os
import socket
import urllib.parse
import urllib.request
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from madrigal.types import TaskError

FILES = ".jsonl, .json, .parquet or .csv"
PATIENCE = 5.0  # seconds to wait for the hub before saying so
_FAILURES = (OSError, ValueError, RuntimeError, TypeError, LookupError, ImportError)  # what `datasets` lets through


@lru_cache(maxsize=8)
def read_folder(name: str, path: Path, stamp: int) -> Any:
    """A data set, or several by split, that `datasets` saved to disk; `stamp` is when it was last changed.

    Raises:
        TaskError: if it cannot be read.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (*_FAILURES, datasets.exceptions.DatasetsError) as error:
        raise TaskError(f"{name}: the data set could not be read ({_reason(error)}); save it anew") from error


@lru_cache(maxsize=8)
def read_hub(data: str, split: str) -> Any:
    """One split of a data set of the Hugging Face hub, or of its cache on this machine.

    Raises:
        TaskError: if it cannot be had, for whatever reason.
    """
    import datasets

    name, _, config = data.partition(":")
    if not _reachable():
        warnings.warn(
            f"the hub cannot be reached; looking for {data!r} among earlier downloads, for a minute or so. Without "
            f"network, download it once elsewhere and name a local file {FILES}, or a folder of save_to_disk",
            stacklevel=2,
        )
    try:
        return datasets.load_dataset(name, config or None, split=split)
    except (*_FAILURES, datasets.exceptions.DatasetsError) as error:
        raise TaskError(
            f"could not load {data!r} ({split}) from the hub: {_reason(error)}; check name, split and network, or "
            f"download it once and name a local file {FILES}, or a folder of save_to_disk"
        ) from error


def _reachable() -> bool:
    """Whether somebody answers where the hub is; not asked behind a proxy, nor by who has said to be offline."""
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE")
    if offline or urllib.request.getproxies():
        return True
    place = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = place.port or (80 if place.scheme == "http" else 443)
    try:
        socket.create_connection((place.hostname or "huggingface.co", port), timeout=PATIENCE).close()
    except (OSError, ValueError):
        return False
    return True


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
