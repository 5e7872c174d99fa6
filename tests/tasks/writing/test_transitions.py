"""Transition phrases: whole words, any case, twelve categories."""

from __future__ import annotations

from pathlib import Path

import pytest

from madrigal.tasks.writing.transitions import PHRASES, categories, read_phrases, substring_matching
from madrigal.types import ConfigError


def test_there_are_twelve_lists_of_about_the_published_sizes() -> None:
    published = (21, 22, 22, 26, 29, 33, 24, 21, 17, 19, 19, 26)
    assert len(PHRASES) == 12
    for phrases, size in zip(PHRASES.values(), published, strict=True):
        assert abs(len(phrases) - size) <= 3


def test_no_phrase_stands_twice() -> None:
    every = [phrase for phrases in PHRASES.values() for phrase in phrases]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("category", PHRASES)
def test_every_phrase_is_found_in_a_sentence(category: str) -> None:
    for phrase in PHRASES[category]:
        for text in (phrase, f"({phrase.upper()}, we left)", f"we {phrase.replace(' ', chr(10))} left"):
            assert category in categories(text), text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sofas",
        "the butter melted",
        "gifts",
        "a diver dived",
        "seconds",
        "alike",
        "yeti",
        "nowhere",
        "if_x",
    ],
)
def test_parts_of_words_do_not_count(text: str) -> None:
    assert categories(text) == frozenset()


def test_categories_are_counted_once() -> None:
    assert categories("But it rained, however. Yet we went.") == {"contrast"}
    assert categories("Even if it rains") == {"concession", "condition"}


def test_substrings_count_within_words_and_over_no_line_break() -> None:
    find = substring_matching({"time": ("as", "Later On"), "condition": ("if",), "sequence": ("then",)})
    assert find("WAS a gift") == {"time", "condition"}
    assert find("later on") == {"time"}
    assert find("later\non") == frozenset()
    assert find("Strengthen it") == {"sequence"}


def test_phrases_are_read_by_category(tmp_path: Path) -> None:
    file = tmp_path / "transitions.json"
    file.write_text('{"contrast": ["but", "on the other hand"], "time": ["when"]}')
    assert read_phrases(str(file)) == {"contrast": ("but", "on the other hand"), "time": ("when",)}


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (None, "could not be read (No such file or directory); name a JSON file of transitions"),
        (b"but, however", 'expected JSON like {"contrast": ["but", "however"]} (Expecting value'),
        (b"\xff\xfe", "expected JSON like"),
        (b"[" * 100_000, "expected JSON like"),
        (b'["but"]', "expected an object of categories, each with its phrases, got ['but']"),
        (b"{}", "expected an object of categories, each with its phrases, got {}"),
        (b'{"contrast": "but"}', "the category 'contrast': expected a list of phrases, got 'but'"),
        (b'{"contrast": []}', "the category 'contrast': expected a list of phrases, got []"),
        (b'{"contrast": ["but", 3]}', "expected phrases, texts that are not empty, got 3"),
        (b'{"contrast": [" "]}', "expected phrases, texts that are not empty, got ' '"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes | None, hint: str) -> None:
    file = tmp_path / "transitions.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_phrases(str(file))
    assert hint in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("task.transitions: ")
