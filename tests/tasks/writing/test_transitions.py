"""Transition phrases: whole words, any case, twelve categories."""

from __future__ import annotations

import pytest

from madrigal.tasks.writing.transitions import PHRASES, categories


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
