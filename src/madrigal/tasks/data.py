"""Where examples come from: the embedded corpora, or rows of data, cut into splits that share no row."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from madrigal.tasks.fields import check_characters, cut, is_empty
from madrigal.tasks.files import keep_rows, open_rows, read_file, stamp
from madrigal.types import ConfigError, Example, Split, TaskError

EMBEDDED = "embedded"
ID_COLUMNS = ("id", "task_id", "paper_id", "article_id")
_SLICE = re.compile(r"(?P<name>\w+)(?:\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")
_HELP = "write one like 'train', 'train[:1000]', 'train[1000:]' or 'test[33:133]'"
Incomplete = Literal["refuse", "skip"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task takes its examples from, and which rows are for training and which for testing.

        >>> Source("papers_{split}.jsonl", train="train[:300]")
        Source(data='papers_{split}.jsonl', train='train[:300]', test='test', incomplete='refuse', validation='')

    Splits never overlap. Where several draw on the same rows (a single file, or one split of the hub named twice):
    slices that overlap are refused; a split without a slice takes what the others leave; with no slice at all, the
    first 80 % of the rows are for training and the rest for testing.

    Attributes:
        data: "embedded", a hub name ("trl-lib/tldr"; "openai/gsm8k:main" names its configuration), a local file
            .jsonl, .json (one list), .parquet or .csv (the first line names the columns), each optionally .gz, or a
            folder of datasets' save_to_disk. "{split}" in a name stands for the name of the split. `Source.of` names
            rows in memory.
        train: the split to train on, with an optional slice of rows; a single file has no splits, so that
            only the slice counts.
        test: the split to test on, likewise.
        incomplete: what becomes of a row in which a column that is asked for is empty: "refuse" it with an error, or
            "skip" it, with a warning that says how many there were.
        validation: the split to choose by (`evaluation.keep`), likewise; "" has none of its own: where one is asked
            for, it is the last fifth of the training rows. The embedded corpora bring one.
    """

    data: str = EMBEDDED
    train: str = "train"
    test: str = "test"
    incomplete: Incomplete = "refuse"
    validation: str = ""

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise ConfigError("expected 'embedded', a hub name or a file as data, got an empty text")
        _selections(self)

    @classmethod
    def of(
        cls,
        rows: Any,
        train: str = "train",
        test: str = "test",
        incomplete: Incomplete = "refuse",
        validation: str = "",
    ) -> Source:
        """Rows in memory as a source: a `datasets.Dataset`, a list of dicts, or either by split, as in a `DatasetDict`.

        It is named by what the rows hold, and known to this process only: another one, which resumes a run, say, must
        make it again before.

        >>> Source.of([{"text": "one"}, {"text": "two"}]).data
        'memory:7d6872985830d312'
        """
        return cls(keep_rows(rows), train, test, incomplete, validation)


@dataclass(frozen=True, slots=True)
class _Selection:
    """A split by name, and the slice of its rows."""

    name: str
    rows: slice | None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """All rows that a split draws on.

    Attributes:
        places: which of them are the split's own.
        apart: the other splits, where they draw on other rows.
    """

    rows: Any
    places: Sequence[int]
    where: str
    apart: tuple[Split, ...]


def load_examples(
    source: Source,
    split: Split,
    columns: Mapping[str, str],
    embedded: Callable[[Split], Sequence[Example]] | None = None,
    *,
    texts: bool = False,
    optional: Sequence[str] = (),
) -> tuple[Example, ...]:
    """Makes the examples of a split, from the source or, where it says so, from the embedded corpus.

    They are made once per process, because training asks for them at every step. They go by the rows' own ids where
    those differ from each other, else by `row_id` of the place. There are none of validation where the source names
    no such split.

    Args:
        columns: for each field of Example.data the column that it is read from.
        embedded: the corpus that a task brings along, where it does; slices of the source select from it too.
        texts: every column must hold text: a chat of one message becomes that message, a number its digits.
        optional: further columns, taken where a row has them.

    Raises:
        ConfigError: if slices overlap or select nothing, or the file type is unknown.
        TaskError: if the data cannot be reached or read, is empty, or lacks a column.
    """
    if source.data == EMBEDDED:
        return _embedded(source, split, embedded)
    if split not in (selections := _selections(source)):
        return ()
    changed = stamp(source.data, selections[split].name)
    return _examples(source, split, tuple(columns.items()), texts, tuple(optional), Path.cwd(), changed)


def columns_of(source: Source, split: Split) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that every row of a split has, and those that some have.

    Raises:
        ConfigError, TaskError: as `load_examples`.
    """
    if source.data == EMBEDDED:
        raise ConfigError("expected a file, a folder or a hub name as data, got 'embedded'; this task brings no data")
    rows = _open(source, split).rows
    if not isinstance(rows, list):
        return tuple(rows.column_names), ()
    counts = Counter(name for row in rows for name in row)
    always = tuple(name for name, count in counts.items() if count == len(rows))
    return always, tuple(name for name in counts if name not in always)


def read_rows(name: str) -> list[dict[str, Any]]:
    """All rows of one local file, with all their columns.

    Raises:
        ConfigError: if the file type is unknown.
        TaskError: if the file is missing, empty or cannot be read.
    """
    rows = read_file(name)
    if not rows:
        raise TaskError(f"{name}: expected at least one row, found none; check the file or name other data")
    for place, row in enumerate(rows):
        for column, value in row.items():
            check_characters(value, f"{name}, row {place}: the column {column!r}")
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


def _embedded(source: Source, split: Split, corpus: Callable[[Split], Sequence[Example]] | None) -> tuple[Example, ...]:
    if corpus is None:
        raise ConfigError("expected a file, a folder or a hub name as data, got 'embedded'; this task brings no data")
    selections = _selections(source)
    for own, selection in selections.items():
        if selection.name != own:
            raise ConfigError(
                f"the embedded data has the splits train, validation and test, got {selection.name!r} for {own}; "
                f"{_HELP}"
            )
    examples = tuple(corpus(split))
    return tuple(examples[i] for i in _choose(source, split, len(examples), ())) if split in selections else examples


@lru_cache(maxsize=16)
def _examples(
    source: Source,
    split: Split,
    columns: tuple[tuple[str, str], ...],
    texts: bool,
    optional: tuple[str, ...],
    folder: Path,
    changed: int,
) -> tuple[Example, ...]:
    """Cached; `folder`, from which relative names are seen, and `changed` tell one file from another."""
    chosen = _open(source, split)
    counts = _own_ids(chosen.rows)
    if counts:
        # Splits apart from each other may both count from 0, and no id may be in both.
        counts = sum((_own_ids(_open(source, other).rows) for other in chosen.apart), counts)
    examples = []
    for i, row in _rows_of(chosen, source, [column for _, column in columns], texts=texts):
        name = row_id(chosen.rows[i], i, split)
        name = row_id({}, i, split) if counts[name] > 1 else name
        more = {column: chosen.rows[i][column] for column in optional if chosen.rows[i].get(column)}
        examples.append(Example(name, {field: row[column] for field, column in columns} | more))
    return tuple(examples)


def _open(source: Source, split: Split) -> _Chosen:
    selections = _selections(source)
    own = selections.pop(split)
    opened = open_rows(source.data, own.name)
    sharing = [one for one, other in selections.items() if other.name == own.name or not opened.divided]
    if not len(opened.rows):
        raise TaskError(f"{opened.where}: expected at least one row, found none; check the file or name other data")
    apart = tuple(one for one in selections if one not in sharing)
    return _Chosen(opened.rows, _choose(source, split, len(opened.rows), sharing), opened.where, apart)


def _rows_of(
    chosen: _Chosen, source: Source, columns: Sequence[str], *, texts: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """A split's own rows with their places, cut to columns; incomplete ones as the source says."""
    skipped = 0
    for i in chosen.places:
        row = chosen.rows[i]
        if source.incomplete == "skip" and any(is_empty(row[column]) for column in columns if column in row):
            skipped += 1
        else:
            yield i, cut(row, columns, f"{chosen.where}, row {i}", texts=texts)
    if skipped == len(chosen.places):
        raise TaskError(f"{chosen.where}: each of {skipped} rows lacks one of {', '.join(columns)}; name other columns")
    if skipped:
        warnings.warn(
            f"{chosen.where}: {skipped} of {len(chosen.places)} rows left out, as {' or '.join(columns)} is empty",
            stacklevel=2,
        )


def _parse(text: str) -> _Selection:
    match = _SLICE.fullmatch(text)
    if match is None or "-" in (match["start"], match["stop"]):
        raise ConfigError(f"expected a split with an optional slice of rows, got {text!r}; {_HELP}")
    if match["start"] is None:
        return _Selection(match["name"], None)
    start, stop = (int(bound) if bound else None for bound in match.group("start", "stop"))
    return _Selection(match["name"], slice(start, stop))


def _selections(source: Source) -> dict[Split, _Selection]:
    """What each split is, in order; without validation where the source names none."""
    named: dict[Split, str] = {"train": source.train, "validation": source.validation, "test": source.test}
    return {split: _parse(text) for split, text in named.items() if text or split != "validation"}


def _choose(source: Source, split: Split, count: int, sharing: Collection[Split]) -> Sequence[int]:
    """The positions of a split's rows among `count`, on which the splits of `sharing` draw, too.

    Raises:
        ConfigError: if slices overlap, or nothing is left.
    """
    together = {one: chosen.rows for one, chosen in _selections(source).items() if one == split or one in sharing}
    sliced = {one: range(count)[rows] for one, rows in together.items() if rows}
    for one, other in combinations(sliced, 2):
        if set(sliced[one]) & set(sliced[other]):
            cut, texts = count * 4 // 5, {one: getattr(source, one) for one in (one, other)}
            raise ConfigError(
                f"{source.data}: {one} and {other} must not share rows, but {texts[one]!r} and {texts[other]!r} "
                f"overlap among {count} rows; choose slices apart, such as '{one}[:{cut}]' and '{other}[{cut}:]'"
            )
    taken = {place for places in sliced.values() for place in places}
    rest: Sequence[int] = [place for place in range(count) if place not in taken] if taken else range(count)
    chosen: dict[Split, Sequence[int]] = dict(sliced)
    for one in reversed([one for one in together if one not in sliced]):
        cut = 0 if one == next(o for o in together if o not in sliced) else len(rest) * 4 // 5
        chosen[one], rest = rest[cut:], rest[:cut]
    if not chosen[split]:
        wanted = getattr(source, split)
        raise ConfigError(f"{source.data}: {wanted!r} selects none of the {count} rows for {split}; {_HELP}")
    return chosen[split]
