"""Sources: every file kind, every slice, and every way in which data can be wrong."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks import hub
from madrigal.tasks.data import Source, load_examples, read_rows, row_id
from madrigal.types import ConfigError, Example, Split, TaskError

ROWS = [{"prompt": f"post {i}", "other": i} for i in range(10)]
SPLITS: tuple[Split, Split] = ("train", "test")


def write(path: Path, rows: list[Any] = ROWS) -> str:
    lines = "\n".join(json.dumps(row) for row in rows)
    text = (json.dumps(rows) if ".json" in path.suffixes else lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


def load_rows(source: Source, split: Split, columns: list[str]) -> tuple[dict[str, Any], ...]:
    return tuple(
        dict(example.data) for example in load_examples(source, split, dict(zip(columns, columns, strict=True)))
    )


def numbers(data: str, split: Split, train: str = "train", test: str = "test") -> list[int]:
    return [row["other"] for row in load_rows(Source(data, train, test), split, ["other"])]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz"])
def test_every_file_kind_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    rows = load_rows(Source(write(tmp_path / name), "train[:2]"), "train", ["prompt"])
    assert rows == ({"prompt": "post 0"}, {"prompt": "post 1"})


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
def test_parquet_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "plain")
    raw = (tmp_path / "plain").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert numbers(str(tmp_path / name), "train") == list(range(8))


@pytest.mark.parametrize(
    ("train", "test", "expected_train", "expected_test"),
    [
        ("train", "test", range(8), range(8, 10)),
        ("train[:3]", "test[3:5]", range(3), range(3, 5)),
        ("train[:3]", "test", range(3), range(3, 10)),
        ("train", "test[2:4]", [0, 1, 4, 5, 6, 7, 8, 9], range(2, 4)),
        ("train[:-2]", "test[-2:]", range(8), range(8, 10)),
        ("train[:5]", "test[5:1000]", range(5), range(5, 10)),
    ],
)
def test_one_file_is_divided(
    tmp_path: Path, train: str, test: str, expected_train: list[int], expected_test: list[int]
) -> None:
    data = write(tmp_path / "a.jsonl")
    assert numbers(data, "train", train, test) == list(expected_train)
    assert numbers(data, "test", train, test) == list(expected_test)


BOUNDS = st.one_of(st.none(), st.integers(-12, 12))
SLICES = st.one_of(
    st.just(""), st.tuples(BOUNDS, BOUNDS).map(lambda b: f"[{b[0] or ''}:{'' if b[1] is None else b[1]}]")
)


@given(train=SLICES, test=SLICES)
def test_train_and_test_never_share_a_row(tmp_path_factory: pytest.TempPathFactory, train: str, test: str) -> None:
    path = tmp_path_factory.getbasetemp() / "shared.jsonl"
    data = str(path) if path.exists() else write(path)
    try:
        parts = [set(numbers(data, split, f"train{train}", f"test{test}")) for split in SPLITS]
    except ConfigError:
        return
    assert parts[0] and parts[1] and not parts[0] & parts[1]


@given(train=SLICES, validation=SLICES, test=SLICES)
def test_no_two_of_three_splits_share_a_row(
    tmp_path_factory: pytest.TempPathFactory, train: str, validation: str, test: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "shared.jsonl"
    source = Source(str(path) if path.exists() else write(path), f"train{train}", f"test{test}")
    source = replace(source, validation=f"dev{validation}")
    three: tuple[Split, ...] = ("train", "validation", "test")
    try:
        parts = [[e.data["n"] for e in load_examples(source, split, {"n": "other"})] for split in three]
    except ConfigError:
        return
    assert all(parts) and len(set().union(*parts)) == sum(map(len, parts))


def test_three_splits_of_one_file_without_a_slice_are_64_16_and_20_percent(tmp_path: Path) -> None:
    source = Source(write(tmp_path / "a.jsonl", [{"n": n} for n in range(100)]), validation="validation")
    three: tuple[Split, ...] = ("train", "validation", "test")
    parts = [[e.data["n"] for e in load_examples(source, split, {"n": "n"})] for split in three]
    assert parts == [list(range(64)), list(range(64, 80)), list(range(80, 100))]
    assert load_examples(replace(source, validation=""), "validation", {"n": "n"}) == ()


def test_validation_that_overlaps_is_refused_in_one_line(tmp_path: Path) -> None:
    source = Source(write(tmp_path / "a.jsonl"), "train[:6]", "test[8:]", validation="train[5:8]")
    with pytest.raises(ConfigError, match=r"train and validation must not share rows, but 'train\[:6\]' and") as error:
        load_examples(source, "train", {"n": "other"})
    assert "\n" not in str(error.value)


def test_overlap_is_refused_in_one_line(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=r"must not share rows.*overlap among 10 rows") as error:
        numbers(data, "train", "train[:6]", "test[5:]")
    assert "\n" not in str(error.value)


def test_split_in_the_file_name_stands_for_the_split(tmp_path: Path) -> None:
    write(tmp_path / "a_train.jsonl", ROWS[:4])
    write(tmp_path / "a_validation.jsonl", ROWS[4:])
    data = str(tmp_path / "a_{split}.jsonl")
    assert numbers(data, "train", test="validation[:2]") == [0, 1, 2, 3]
    assert numbers(data, "test", test="validation[:2]") == [4, 5]
    assert numbers(data, "test", "train[:3]", "train") == [3]


def test_a_file_that_was_rewritten_is_read_again(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl")
    assert len(numbers(data, "test")) == 2
    write(tmp_path / "a.jsonl", ROWS[:5])
    os.utime(data, ns=(1, 1))
    assert len(numbers(data, "test")) == 1


def test_all_rows_of_a_file_are_read_with_all_columns(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl")
    read_rows(data)[0]["other"] = "spoilt"
    assert read_rows(data) == ROWS
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(TaskError, match="expected at least one row"):
        read_rows(str(tmp_path / "empty.jsonl"))
    with pytest.raises(ConfigError, match="expected a local file"):
        read_rows("org/set")


def test_a_table_of_texts_gives_the_same_rows(tmp_path: Path) -> None:
    long = "word, " * 50_000
    (tmp_path / "a.csv").write_text(f'\ufeffprompt,other\r\n"post ""0"",\nmore",0\r\n\r\n"{long}",1\r\n')
    expected = [{"prompt": 'post "0",\nmore', "other": "0"}, {"prompt": long, "other": "1"}]
    assert read_rows(str(tmp_path / "a.csv")) == expected


def test_a_folder_of_save_to_disk_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(ROWS)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "one-train", "one-test"):
        rows.save_to_disk(name)
    datasets.DatasetDict(train=rows, dev=rows.select([3])).save_to_disk("both")
    assert numbers("one", "train") == list(range(8)) and numbers("one", "test") == [8, 9]
    assert numbers("one-{split}", "test") == numbers("both", "train") == list(range(10))
    assert numbers("./both", "test", test="dev") == [3]
    with pytest.raises(TaskError, match="expected the split 'test', found train, dev"):
        numbers("both", "test")


def test_rows_in_memory_are_a_source_like_any_other() -> None:
    datasets = pytest.importorskip("datasets")
    source = Source.of(ROWS)
    assert Source.of(datasets.Dataset.from_list(ROWS)) == source
    assert [row["other"] for row in load_rows(source, "test", ["other"])] == [8, 9]
    divided = Source.of(datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)), test="train[:2]")
    assert len(load_rows(divided, "train", ["other"])) == 8
    with pytest.raises(TaskError, match="lay in the memory of the process"):
        load_rows(Source("memory:0123456789abcdef"), "train", ["prompt"])
    with pytest.raises(ConfigError, match="expected rows as mappings"):
        Source.of(["a text"])


def test_rows_with_an_empty_field_are_left_out_and_counted_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt": "", "other": 10}, {"prompt": None, "other": 11}]
    source = Source(write(tmp_path / "a.jsonl", rows), "train[2:]", "test[:2]", incomplete="skip")
    with pytest.warns(UserWarning, match="2 of 10 rows left out, as prompt is empty"):
        assert len(load_examples(source, "train", {"post": "prompt"})) == 8
    with pytest.raises(TaskError, match="expected the column 'text'"):
        load_rows(source, "train", ["text"])
    write(tmp_path / "b.jsonl", rows[-2:])
    with pytest.raises(TaskError, match="each of 2 rows lacks one of prompt"):
        load_rows(Source(str(tmp_path / "b.jsonl"), "train[:2]", "test[2:]", "skip"), "train", ["prompt"])


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3 + 4?"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3 + 4?", "3 + 4?"),
        (7, "7"),
        (7.5, "7.5"),
        (CHAT, "3 + 4?"),
        (CHAT[1:], "3 + 4?"),
        ([{"role": "user", "content": [{"type": "text", "text": "3 + 4?"}]}], "3 + 4?"),
        ([*CHAT, {"role": "assistant", "content": "7"}], None),
        (CHAT[:1], None),
        ([{"role": "user", "content": [{"type": "image"}]}], None),
        (["3 + 4?"], None),
        ({"text": "3 + 4?"}, None),
        ([], None),
    ],
)
def test_a_column_of_text_holds_a_text_or_a_chat_of_one_message(value: Any, text: str | None) -> None:
    source = Source.of([{"prompt": value}, {"prompt": "other"}])
    if text is not None:
        assert load_examples(source, "train", {"post": "prompt"}, texts=True)[0].data == {"post": text}
        return
    with pytest.raises(TaskError, match="row 0: the column 'prompt': expected a text, or a chat with one message"):
        load_examples(source, "train", {"post": "prompt"}, texts=True)


def test_bytes_and_dates_of_parquet_are_told(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {"prompt": pyarrow.array([b"caf\xc3\xa9"] * 5)}
    parquet.write_table(pyarrow.table(table), tmp_path / "bytes.parquet")
    with pytest.raises(TaskError, match=r"row 0: the column .prompt.: expected a text, .* got bytes"):
        load_examples(Source(str(tmp_path / "bytes.parquet")), "train", {"post": "prompt"}, texts=True)
    late = {"prompt": pyarrow.array([10**6], pyarrow.int64()).cast(pyarrow.timestamp("s"))}
    late["late"] = pyarrow.array([10**12], pyarrow.int64()).cast(pyarrow.timestamp("s"))  # beyond the year 9999
    parquet.write_table(pyarrow.table(late), tmp_path / "late.parquet")
    with pytest.raises(TaskError, match=r"late.parquet: the file could not be read"):
        read_rows(str(tmp_path / "late.parquet"))


def test_half_a_character_anywhere_in_a_row_is_told(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": "x"}, {"prompt": "x", "chat": [{"content": "3 \udc00 4"}]}])
    with pytest.raises(TaskError, match="row 1: the column 'chat' holds half a character"):
        read_rows(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "expected a file, found none"),
        ("empty.jsonl", b"", "expected at least one row"),
        ("empty.json", b"[]", "expected at least one row"),
        ("bad.jsonl", b'{"prompt": "x"}\n\n{"prompt": oh}\n', r"bad.jsonl, line 3: expected one JSON object"),
        ("list.jsonl", b"[1, 2]\n", r"list.jsonl, line 1: expected a JSON object.*got list"),
        ("bad.json", b'[\n{"prompt": oh}]', r"bad.json, line 2: not JSON"),
        ("object.json", b'{"prompt": "x"}', "expected one JSON list of objects, got dict"),
        (
            "column.jsonl",
            b'{"text": "x", "id": 1}',
            r"expected the column 'prompt', found text, id; name one",
        ),
        ("ragged.jsonl", b'{"prompt": "x"}\n{"prompt": null}', r"row 1: the column 'prompt' is empty"),
        ("latin.jsonl", b'{"prompt": "x"}\n{"prompt": "\xe9"}', r"/latin.jsonl, line 2: expected text in UTF-8"),
        ("plain.jsonl.gz", b'{"prompt": "x"}', "could not be read"),
        (
            "torn.jsonl.gz",
            gzip.compress(b'{"prompt": "x"}', mtime=0)[:-9],
            "could not be read",
        ),  # or its id has the time
        ("bad.parquet", b"no", "could not be read"),
        (
            "digits.jsonl",
            b'{"prompt": "x"}\n{"prompt": "x", "n": %s}' % (b"9" * 5000),
            "line 2: .* more than 4300 digits",
        ),
        ("digits.json", b'[{"prompt": %s}]' % (b"9" * 5000), "digits.json: a number of more than 4300 digits"),
        ("deep.jsonl", b'{"prompt": "x"}\n' + b"[" * 200_000, "deep.jsonl, line 2: .*too deep"),
        ("deep.json", b"[" * 200_000, "deep.json: lists or objects too deep"),
        ("half.jsonl", b'{"prompt": "my \\ud83d cat"}', "row 0: the column 'prompt' holds half a character"),
        ("hole.jsonl", b'{"prompt": NaN}', "row 0: the column 'prompt' is empty"),
        ("blank.jsonl", b'{"prompt": " "}', "row 0: the column 'prompt' is empty"),
        ("ragged.csv", b"prompt,other\nx,1\ny\n", "ragged.csv, line 3: expected 2 fields, .* got 1"),
        ("quote.csv", b'prompt\n"x"y\n', "quote.csv, line 2: no CSV"),
        ("twice.csv", b"prompt,prompt\nx,y\n", "different names of columns"),
    ],
)
def test_bad_data_is_told_in_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=message) as error:
        load_rows(Source(str(tmp_path / name), "train[:2]", "test[2:]"), "train", ["prompt"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "train[", "train[5]", "train[:10%]", "train[a:b]", "train[:-]", "a b"])
def test_bad_slices_are_refused_when_written(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a split.*write one like"):
        Source(train=text)


def test_a_slice_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'test\[20:\]' selects none of the 10 rows for test"):
        numbers(write(tmp_path / "a.jsonl"), "test", test="test[20:]")


@pytest.mark.parametrize("data", ["rows.tsv", "./rows", "rows.txt.gz", "/nowhere/rows"])
def test_unknown_file_kinds_are_refused(data: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a file .jsonl, .json, .parquet or .csv, .* or a folder"):
        load_rows(Source(data), "train", ["prompt"])


def test_a_text_that_names_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 'embedded', a hub name"):
        load_rows(Source("a b/c d"), "train", ["prompt"])


@pytest.fixture(autouse=True)
def hub_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_reachable", lambda: True)


def test_a_hub_out_of_reach_is_told_before_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens on the port of discard
    fake_hub(monkeypatch, [])
    with pytest.warns(UserWarning, match=r"the hub cannot be reached; looking for .org/away. .* download it once"):
        assert numbers("org/away", "train", "train[:1]", "train[1:]") == [0]


def fake_hub(monkeypatch: pytest.MonkeyPatch, calls: list[Any], error: Exception | None = None) -> None:
    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, Any]]:
        calls.append((name, config, split))
        if error is not None:
            raise error
        return ROWS

    exceptions = SimpleNamespace(DatasetsError=NotImplementedError)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, exceptions=exceptions))


def test_hub_splits_are_loaded_once_and_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    fake_hub(monkeypatch, calls)
    assert numbers("org/set:main", "train", "train[:3]", "validation") == [0, 1, 2]
    assert numbers("org/set:main", "train", "train[3:5]", "validation") == [3, 4]
    assert len(numbers("org/set:main", "test", "train[:3]", "validation")) == 10
    assert calls == [("org/set", "main", "train"), ("org/set", "main", "validation")]


def test_one_hub_split_used_twice_must_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, [])
    assert numbers("org/once", "test", "test[3:]", "test[:3]") == [0, 1, 2]
    with pytest.raises(ConfigError, match="must not share rows"):
        numbers("org/once", "test", "test[3:]", "test[:4]")


def test_an_unreachable_hub_suggests_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, [], ConnectionError("no route\nto host"))
    with pytest.raises(TaskError, match=r"could not load 'org/far' .* no route; .* local file") as error:
        load_rows(Source("org/far"), "train", ["prompt"])
    assert "\n" not in str(error.value)


def test_whatever_datasets_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    for n, error in enumerate((datasets.exceptions.DatasetGenerationError("An error\noccurred"), TypeError("odd"))):
        monkeypatch.setattr(datasets, "load_dataset", Mock(side_effect=error))
        with pytest.raises(TaskError, match=r"could not load .* download it once") as refusal:
            load_rows(Source(f"org/broken{n}"), "train", ["prompt"])
        assert "\n" not in str(refusal.value)


def test_a_real_dataset_object_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(ROWS)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: rows)
    assert load_rows(Source("org/real", "train[1:2]"), "train", ["prompt"]) == ({"prompt": "post 1"},)


def corpus(split: Split) -> tuple[Example, ...]:
    return tuple(Example(f"{split}/{i}", {"post": "x"}) for i in range(5))


def test_examples_come_from_the_corpus_or_from_rows(tmp_path: Path) -> None:
    embedded = load_examples(Source(train="train[1:3]"), "train", {"post": "prompt"}, corpus)
    assert [example.id for example in embedded] == ["train/1", "train/2"]
    assert len(load_examples(Source(), "test", {"post": "prompt"}, corpus)) == 5
    loaded = load_examples(Source(write(tmp_path / "a.jsonl")), "test", {"post": "prompt"}, corpus)
    assert loaded == (Example("test-8", {"post": "post 8"}), Example("test-9", {"post": "post 9"}))


def ids(data: str, split: Split) -> list[str]:
    return [example.id for example in load_examples(Source(data), split, {"post": "prompt"}, corpus)]


def test_rows_keep_their_own_ids_where_these_differ(tmp_path: Path) -> None:
    named = [{"prompt": "x", "task_id": f"t/{i}"} for i in range(5)]
    assert ids(write(tmp_path / "named.jsonl", named), "test") == ["t/4"]
    twice = [{"prompt": "x", "id": i // 2} for i in range(5)]
    assert ids(write(tmp_path / "twice.jsonl", twice), "train") == ["train-0", "train-1", "train-2", "train-3"]
    assert ids(str(tmp_path / "twice.jsonl"), "test") == ["2"]
    assert row_id({"id": None, "task_id": 0}, 3, "test") == "0" and row_id({"id": ""}, 3, "test") == "test-3"


def test_no_id_is_in_both_splits(tmp_path: Path) -> None:
    for split in SPLITS:
        write(tmp_path / f"a_{split}.jsonl", [{"prompt": "x", "id": i} for i in range(2 + (split == "train"))])
    data = str(tmp_path / "a_{split}.jsonl")
    assert ids(data, "train") == ["train-0", "train-1", "2"] and ids(data, "test") == ["test-0", "test-1"]


def test_examples_are_made_once_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, size in (("one", 5), ("two", 10)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "a.jsonl", ROWS[:size])
        os.utime(tmp_path / folder / "a.jsonl", ns=(1, 1))
    source, columns = Source("a.jsonl"), {"post": "prompt"}
    monkeypatch.chdir(tmp_path / "one")
    first = load_examples(source, "train", columns, corpus)
    assert load_examples(source, "train", columns, corpus) is first
    os.utime("a.jsonl", ns=(2, 2))
    assert load_examples(source, "train", columns, corpus) is not first
    monkeypatch.chdir(tmp_path / "two")
    assert [len(load_examples(source, split, columns, corpus)) for split in SPLITS] == [8, 2]


def test_a_task_need_not_bring_data_along() -> None:
    with pytest.raises(ConfigError, match="got 'embedded'; this task brings no data"):
        load_examples(Source(), "train", {"post": "prompt"})


def test_embedded_data_has_only_its_three_splits() -> None:
    with pytest.raises(ConfigError, match="has the splits train, validation and test, got 'validation' for test"):
        load_examples(Source(test="validation"), "test", {"post": "prompt"}, corpus)


def test_reading_a_short_table_leaves_the_limit_of_others_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "short.csv").write_text("a\nb\n")
    assert [dict(row) for row in read_rows(str(tmp_path / "short.csv"))] == [{"a": "b"}]
    assert csv.field_size_limit() >= before
