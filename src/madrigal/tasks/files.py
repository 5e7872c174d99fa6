"""Rows of data wherever they lie: files, folders of `datasets`, the Hugging Face hub, or this process's memory."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from madrigal.tasks.hub import FILES, read_folder, read_hub
from madrigal.types import ConfigError, TaskError

Kind = Literal["memory", "folder", "file", "hub"]
MEMORY = "memory:"
EXPECTED = f"a file {FILES}, each optionally .gz, or a folder of datasets' save_to_disk"
_KNOWN = (".jsonl", ".json", ".parquet", ".csv")
_OTHER = (".tsv", ".txt", ".xlsx", ".xml", ".yaml", ".yml", ".zip", ".tar", ".gz", ".arrow", ".feather")
_HUB = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?::[\w.-]+)?")
_ONE, _SEVERAL = "state.json", "dataset_dict.json"  # how save_to_disk marks a data set, and one with splits
_kept: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of data, opened.

    Attributes:
        rows: a sequence of mappings by column; a list, or a data set of `datasets`.
        where: how errors name them.
        divided: whether the name of a split chose them; without it every split draws on these same rows.
    """

    rows: Any
    where: str
    divided: bool


def open_rows(data: str, split: str) -> Rows:
    """The rows that a name of data and the name of a split stand for; what was read once is kept.

    Raises:
        ConfigError: if the name can be no data.
        TaskError: if the data cannot be reached or read.
    """
    where = data.replace("{split}", split)
    match kind_of(data):
        case "memory":
            return _from_memory(data, split)
        case "hub":
            return Rows(read_hub(data, split), f"{data} ({split})", divided=True)
        case "folder":
            rows = read_folder(where, local(where), stamp(data, split))
            if not isinstance(rows, Mapping):
                return Rows(rows, where, "{split}" in data)
            if split not in rows:
                raise TaskError(f"{where}: expected the split {split!r}, found {', '.join(rows)}; name one of these")
            return Rows(rows[split], f"{where} ({split})", divided=True)
        case _:
            return Rows(_read_file(where, local(where), stamp(data, split)), where, "{split}" in data)


def read_file(name: str) -> list[dict[str, Any]]:
    """All rows of one local file, with all their columns.

    Raises:
        ConfigError: if it is no file of a known kind.
        TaskError: if it is missing or cannot be read.
    """
    if kind_of(name) != "file":
        raise ConfigError(f"{name}: expected a local file {FILES}, optionally .gz")
    return _read_file(name, local(name), stamp(name, ""))


def kind_of(data: str) -> Kind:
    """Where data of this name lies.

    Raises:
        ConfigError: if it is no kind of data that can be read.
    """
    lower = data.lower()
    if data.startswith(MEMORY):
        return "memory"
    if lower.removesuffix(".gz").endswith(_KNOWN):
        return "file"
    if _is_folder(data):
        return "folder"
    if lower.endswith(_OTHER) or data.startswith((".", "/", "~")) or _exists(local(data)):
        raise ConfigError(f"{data}: expected {EXPECTED}; convert it to one")
    if not _HUB.fullmatch(data):
        raise ConfigError(f"expected 'embedded', a hub name like 'trl-lib/tldr', or {EXPECTED}, got {data!r:.200}")
    return "hub"


def stamp(data: str, split: str) -> int:
    """When data was last changed, so that what was read of it is known to be old; 0 where it cannot change.

    Raises:
        TaskError: if there is no such file.
    """
    kind, path = kind_of(data), local(data.replace("{split}", split))
    if kind == "folder":
        return max(file.stat().st_mtime_ns for file in _marks(path))
    if kind != "file":
        return 0
    if not _exists(path) or not path.is_file():
        raise TaskError(f"{data.replace('{split}', split)}: expected a file, found none at {path}; check the path")
    return path.stat().st_mtime_ns


def keep_rows(rows: Any) -> str:
    """Keeps rows in memory and returns a name for them, the same for the same rows in any process.

    Args:
        rows: a sequence of mappings by column (a list, or a `datasets.Dataset`), or a mapping from splits to such.
    """
    digest = hashlib.sha256()
    for split, each in rows.items() if isinstance(rows, Mapping) else [("", rows)]:
        digest.update(split.encode())
        for row in each:
            if not isinstance(row, Mapping):
                raise ConfigError(f"expected rows as mappings by column, got {type(row).__name__}: {row!r:.80}")
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    name = f"{MEMORY}{digest.hexdigest()[:16]}"
    _kept[name] = rows
    return name


def local(name: str) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, no such home
        raise ConfigError(f"{name!r:.200}: no path of a file ({error}); check it") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name is the name of nothing
        return False


def _is_folder(data: str) -> bool:
    """Whether a name is that of a folder written by save_to_disk, whatever its splits are called."""
    path = local(data)
    if "{split}" in data:
        return any(map(_marks, sorted(path.parent.glob(path.name.replace("{split}", "*")))))
    return bool(_marks(path))


def _marks(folder: Path) -> list[Path]:
    return [folder / mark for mark in (_ONE, _SEVERAL) if _exists(folder / mark)]


def _from_memory(data: str, split: str) -> Rows:
    if data not in _kept:
        raise TaskError(
            f"{data}: these rows lay in the memory of the process that named them; save them to a file, or a folder by "
            "save_to_disk, and name that as data"
        )
    rows = _kept[data]
    if not isinstance(rows, Mapping):
        return Rows(rows, data, divided=False)
    if split not in rows:
        raise TaskError(f"{data}: expected the split {split!r}, found {', '.join(rows)}; name one of these")
    return Rows(rows[split], f"{data} ({split})", divided=True)


@lru_cache(maxsize=8)
def _read_file(name: str, path: Path, stamp: int) -> list[dict[str, Any]]:
    """The rows of one file, which the user calls `name`.

    Its time of change, `stamp`, makes the cache forget a file that was rewritten.
    """
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        if kind == ".parquet":
            return _parquet(raw)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TaskError(f"{name}, line {line}: expected text in UTF-8, got other bytes; save it as UTF-8") from error
    except (OSError, EOFError, ValueError, ArithmeticError, RuntimeError, zlib.error) as error:
        reason = str(error).split("\n")[0]
        raise TaskError(f"{name}: the file could not be read ({reason}); make it anew") from error
    readers = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv}
    return list(readers[kind](text, name))


def _parquet(raw: bytes) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()
    return rows


def _json_lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{name}, line {number}"
            yield _object(_json(line, f"{where}: expected one JSON object, got {line[:40]!r}"), where)


def _json_list(text: str, name: str) -> Iterator[dict[str, Any]]:
    rows = _json(text, name) if text.strip() else []
    if not isinstance(rows, list):
        raise TaskError(f"{name}: expected one JSON list of objects, got {type(rows).__name__}; use a list")
    yield from (_object(row, f"{name}, entry {i}") for i, row in enumerate(rows))


def _json(text: str, where: str) -> Any:
    """A value of JSON, within what Python reads: numbers of so many digits, lists so deep."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.strip() else ""
        raise TaskError(
            f"{where}{line}: not JSON ({error.msg}); mend it, or write one object per line (.jsonl)"
        ) from error
    except ValueError as error:
        digits = sys.get_int_max_str_digits()
        raise TaskError(f"{where}: a number of more than {digits} digits; write it as a text") from error
    except RecursionError as error:
        raise TaskError(f"{where}: lists or objects too deep to be read; make it flatter") from error


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TaskError(f"{where}: expected a JSON object with named columns, got {type(row).__name__}")
    return row


def _csv(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a table whose first line names the columns; every field is a text."""
    # A field may be longer than 131,072 characters. The limit is the whole process's, and is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = next(lines, [])
        if len(set(columns)) < len(columns) or "" in columns:
            raise TaskError(f"{name}: expected a first line of different names of columns, got {', '.join(columns)}")
        for fields in lines:
            if fields and len(fields) != len(columns):
                raise TaskError(
                    f"{name}, line {lines.line_num}: expected {len(columns)} fields, one for each column, got "
                    f"{len(fields)}; put fields with commas into quotes"
                )
            if fields:
                yield dict(zip(columns, fields, strict=True))
    except csv.Error as error:
        raise TaskError(f"{name}, line {lines.line_num}: no CSV ({error}); mend its quotes") from error
