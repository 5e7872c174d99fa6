"""Files that are whole or absent, and JSON that is read or refused in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madrigal.types import ConfigError, TrainingError


def write_whole(path: Path, text: str) -> None:
    """Writes a file beside `path`, flushes it to the disk and renames it: a kill or a full disk leaves the old one.

    Raises:
        TrainingError: if it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    with _writing(path):
        try:
            draft.write_text(text, encoding="utf-8")
            flush(draft)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        flush(path.parent)


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends records to a JSONL file.

    Raises:
        TrainingError: if it cannot be written.
    """
    with _writing(path), path.open("a") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path} could not be written: {error.strerror}; {remedy(error)}") from error


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Removes a folder under another name, so that no half of it ever bears its own name."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name.lstrip('.')}.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def remedy(error: BaseException) -> str:
    """What to do about a file that could not be written.

    >>> remedy(OSError(errno.EROFS, "Read-only file system"))
    'make its folder writable and resume'
    """
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, None):
        return "make its folder writable and resume"
    return "free some space and resume"  # torch and safetensors say no more than that a write failed


def parse_json(content: str | bytes, where: str) -> Any:
    """The value in a JSON text.

    Raises:
        ConfigError: naming the line that is no JSON, not UTF-8, or too large or too deep to be read.
    """
    try:
        return json.loads(content.decode("utf-8-sig") if isinstance(content, bytes) else content)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: expected JSON, line {error.lineno} is not: {error.msg}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}: expected JSON in UTF-8, line {line} is not; save it as UTF-8") from error
    # Lists nested thousands deep, and numbers thousands of digits long, fail in their own ways.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: expected JSON, got a number too long or lists too deep to be read") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ConfigError: if it is not there, cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: could not be read: {error.strerror}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ConfigError: if there is none that can be read.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
