"""Where examples come from: the embedded corpora, a local file, or a data set of the Hugging Face hub.

Knows: files, slices of splits, and that train and test must never share a row.
Does not know: what a row means; a task names the columns that it needs.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from madrigal.types import ConfigError, Example, Split, TaskError

EMBEDDED = "embedded"
ID_COLUMNS = ("id", "task_id", "paper_id", "article_id")
_KNOWN = (".jsonl", ".json", ".parquet")
_OTHER = (".csv", ".tsv", ".txt", ".xlsx", ".xml", ".yaml", ".yml", ".zip", ".tar", ".gz", ".arrow", ".feather")
_SLICE = re.compile(r"(?P<name>\w+)(?:\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")
_HUB = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?::[\w.-]+)?")
_HELP = "write one like 'train', 'train[:1000]', 'train[1000:]' or 'test[33:133]'"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task takes its examples from, and which rows are for training and which for testing.

        >>> Source("papers_{split}.jsonl", train="train[:300]")
        Source(data='papers_{split}.jsonl', train='train[:300]', test='test')

    Train and test never overlap. Where both draw on the same rows (a single file, or one split of the hub
    named twice): slices that overlap are refused; a side without a slice takes what the other leaves; with no
    slice at all, the first 80 % of the rows are for training and the rest for testing.

    Attributes:
        data: "embedded", a hub name ("trl-lib/tldr"; "openai/gsm8k:main" names its configuration), or a local
            file .jsonl, .json (one list) or .parquet, each optionally .gz. "{split}" in a file name stands
            for the name of the split.
        train: the split to train on, with an optional slice of rows; a single file has no splits, so that
            only the slice counts.
        test: the split to test on, likewise.
    """

    data: str = EMBEDDED
    train: str = "train"
    test: str = "test"

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise ConfigError("expected 'embedded', a hub name or a file as data, got an empty text")
        _parse(self.train)
        _parse(self.test)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    rows: slice | None


def load_rows(source: Source, split: Split, columns: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Reads the rows of a split, each cut to the columns asked for; what was read once is kept.

    Raises:
        ConfigError: if slices overlap or select nothing, or the file type is unknown.
        TaskError: if the data cannot be reached or read, is empty, or lacks a column.
    """
    rows, chosen, where, _ = _open(source, split)
    return tuple(_cut(rows[i], columns, f"{where}, row {i}") for i in chosen)


def _open(source: Source, split: Split) -> tuple[Any, Sequence[int], str, bool]:
    """All rows that a split draws on, which are its own, where they lie, and whether the other draws on them too."""
    mine, other = _parts(source, split)
    if source.data == EMBEDDED:
        raise ConfigError("expected a file or a hub name as data, got 'embedded'; its rows come from the task")
    if not _is_file(source.data):
        shared = mine.name == other.name
        where, rows = f"{source.data} ({mine.name})", _read_hub(source.data, mine.name)
    else:
        shared = mine.name == other.name or "{split}" not in source.data
        where = _file_name(source, split)
        rows = _read_file(where, _local_file(where), _stamp(where))
    if not len(rows):
        raise TaskError(f"{where}: expected at least one row, found none; check the file or name other data")
    return rows, _choose(source, split, len(rows), shared), where, shared


def load_examples(
    source: Source,
    split: Split,
    columns: Mapping[str, str],
    embedded: Callable[[Split], Sequence[Example]],
    optional: Sequence[str] = (),
) -> tuple[Example, ...]:
    """Makes the examples of a split, from the source or, where it says so, from the embedded corpus.

    They are made once per process, because training asks for them at every step. They go by the rows' own ids where
    those differ from each other, else by `row_id` of the place.

    Args:
        columns: for each field of Example.data the column that it is read from.
        embedded: the corpus that comes with the library; slices of the source select from it too.
        optional: further columns, taken where a row has them.
    """
    if source.data == EMBEDDED:
        mine, _ = _parts(source, split)
        if (_parse(source.train).name, _parse(source.test).name) != ("train", "test"):
            raise ConfigError(f"the embedded data has the splits train and test, got {mine.name!r}; {_HELP}")
        examples = embedded(split)
        return tuple(examples[i] for i in _choose(source, split, len(examples), shared=False))
    stamp = _stamp(_file_name(source, split)) if _is_file(source.data) else 0
    return _examples(source, split, tuple(columns.items()), Path.cwd(), stamp, tuple(optional))


def read_rows(name: str) -> list[dict[str, Any]]:
    """All rows of one local file, with all their columns.

    Raises:
        ConfigError: if the file type is unknown.
        TaskError: if the file is missing, empty or cannot be read.
    """
    if not _is_file(name):
        raise ConfigError(f"{name}: expected a local file .jsonl, .json or .parquet, optionally .gz")
    rows = _read_file(name, _local_file(name), _stamp(name))
    if not rows:
        raise TaskError(f"{name}: expected at least one row, found none; check the file or name other data")
    return [dict(row) for row in rows]


def row_id(row: Mapping[str, Any], place: int, split: Split) -> str:
    """The name of a row: its own id where it has one, else its split and its place in the file, from 0.

    >>> row_id({"task_id": "HumanEval/3"}, 7, "test"), row_id({"prompt": "x"}, 7, "test")
    ('HumanEval/3', 'test-7')
    """
    own = (row[column] for column in ID_COLUMNS if row.get(column) not in (None, ""))
    return str(next(own, f"{split}-{place}"))


def _own_ids(rows: Any) -> Counter[str]:
    """How often each row's own id is there; a hub data set is asked for these columns only, texts are long."""
    if not isinstance(rows, list):
        columns = [column for column in rows.column_names if column in ID_COLUMNS]
        rows = rows.select_columns(columns) if columns else []
    return Counter(row_id(row, 0, "train") for row in rows if any(column in row for column in ID_COLUMNS))


@lru_cache(maxsize=16)
def _examples(
    source: Source,
    split: Split,
    columns: tuple[tuple[str, str], ...],
    folder: Path,
    stamp: int,
    optional: tuple[str, ...] = (),
) -> tuple[Example, ...]:
    """Cached; `folder`, from which relative names are seen, and `stamp` tell one file from another."""
    rows, chosen, where, shared = _open(source, split)
    known = _own_ids(rows)
    if known and not shared:
        # Splits apart from each other may both count from 0, and no id may be in both.
        known += _own_ids(_open(source, "test" if split == "train" else "train")[0])
    examples = []
    for i in chosen:
        row = rows[i]
        cut = _cut(row, [column for _, column in columns], f"{where}, row {i}")
        name = row_id(row, i, split)
        name = row_id({}, i, split) if known[name] > 1 else name
        more = {column: row[column] for column in optional if row.get(column)}
        examples.append(Example(name, {field: cut[column] for field, column in columns} | more))
    return tuple(examples)


def _parse(text: str) -> _Part:
    match = _SLICE.fullmatch(text)
    if match is None or "-" in (match["start"], match["stop"]):
        raise ConfigError(f"expected a split with an optional slice of rows, got {text!r}; {_HELP}")
    if match["start"] is None:
        return _Part(match["name"], None)
    start, stop = (int(bound) if bound else None for bound in match.group("start", "stop"))
    return _Part(match["name"], slice(start, stop))


def _parts(source: Source, split: Split) -> tuple[_Part, _Part]:
    train, test = _parse(source.train), _parse(source.test)
    return (train, test) if split == "train" else (test, train)


def _choose(source: Source, split: Split, count: int, shared: bool) -> Sequence[int]:
    """The positions of a split's rows among `count`; `shared`: train and test draw on these same rows."""
    mine, other = _parts(source, split)
    chosen: Sequence[int] = range(count)[mine.rows or slice(None)]
    cut = count * 4 // 5
    if shared and mine.rows is None and other.rows is None:
        chosen = range(cut) if split == "train" else range(cut, count)
    elif shared and (mine.rows is None or other.rows is None):
        taken = range(count)[other.rows or slice(None)]
        chosen = chosen if mine.rows else [i for i in chosen if i not in taken]
    elif shared and set(chosen) & set(range(count)[other.rows or slice(None)]):
        raise ConfigError(
            f"{source.data}: train and test must not share rows, but {source.train!r} and {source.test!r} "
            f"overlap among {count} rows; choose slices apart, such as 'train[:{cut}]' and 'test[{cut}:]'"
        )
    if not chosen:
        wanted = source.train if split == "train" else source.test
        raise ConfigError(f"{source.data}: {wanted!r} selects none of the {count} rows for {split}; {_HELP}")
    return chosen


def _cut(row: Mapping[str, Any], columns: Sequence[str], where: str) -> dict[str, Any]:
    for column in columns:
        if column not in row:
            there = ", ".join(row) or "none"
            raise TaskError(f"{where}: expected the column {column!r}, found {there}; name one of these")
        if row[column] is None or row[column] == "":
            raise TaskError(f"{where}: the column {column!r} is empty; fill it or leave the row out")
    return {column: row[column] for column in columns}


def _is_file(data: str) -> bool:
    """Whether the text names a local file; otherwise it is a hub name."""
    lower = data.lower()
    if lower.removesuffix(".gz").endswith(_KNOWN):
        return True
    if lower.endswith(_OTHER) or data.startswith((".", "/", "~")) or Path(data).exists():
        raise ConfigError(f"{data}: expected a file .jsonl, .json or .parquet, optionally .gz; convert it to one")
    if not _HUB.fullmatch(data):
        raise ConfigError(
            f"expected 'embedded', a hub name like 'trl-lib/tldr' or a file .jsonl, .json, .parquet, got {data!r}"
        )
    return False


def _local_file(name: str) -> Path:
    return Path(name).expanduser().resolve()


def _file_name(source: Source, split: Split) -> str:
    return source.data.replace("{split}", _parts(source, split)[0].name)


def _stamp(name: str) -> int:
    path = _local_file(name)
    if not path.is_file():
        raise TaskError(f"{name}: expected a file, found none at {path}; check the path")
    return path.stat().st_mtime_ns


@lru_cache(maxsize=8)
def _read_file(name: str, path: Path, stamp: int) -> list[dict[str, Any]]:
    """The rows of one file, which the user calls `name`.

    Its time of change, `stamp`, makes the cache forget a file that was rewritten.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        kind = Path(path.name.lower().removesuffix(".gz")).suffix
        if kind == ".parquet":
            return _parquet(raw)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TaskError(f"{name}, line {line}: expected text in UTF-8, got other bytes; save it as UTF-8") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = str(error).split("\n")[0]
        raise TaskError(f"{name}: the file could not be read ({reason}); make it anew") from error
    return list(_json_lines(text, name) if kind == ".jsonl" else _json_list(text, name))


def _parquet(raw: bytes) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()
    return rows


def _json_lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise TaskError(
                    f"{name}, line {number}: expected one JSON object, got {line[:40]!r} ({error.msg}); "
                    "write one object per line"
                ) from error
            yield _object(row, f"{name}, line {number}")


def _json_list(text: str, name: str) -> Iterator[dict[str, Any]]:
    try:
        rows = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        raise TaskError(f"{name}, line {error.lineno}: not JSON ({error.msg}); mend it or use .jsonl") from error
    if not isinstance(rows, list):
        raise TaskError(f"{name}: expected one JSON list of objects, got {type(rows).__name__}; use a list")
    yield from (_object(row, f"{name}, entry {i}") for i, row in enumerate(rows))


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TaskError(f"{where}: expected a JSON object with named columns, got {type(row).__name__}")
    return row


@lru_cache(maxsize=8)
def _read_hub(data: str, split: str) -> Any:
    import datasets

    name, _, config = data.partition(":")
    try:
        return datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise TaskError(
            f"could not load {data!r} ({split}) from the hub: {reason}; check name, split and network, "
            "or name a local file .jsonl, .json or .parquet"
        ) from error
