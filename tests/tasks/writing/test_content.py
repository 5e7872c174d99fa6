"""What a summary says: the share of its words that the source has, and ROUGE, by numbers counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.writing.content import common_subsequence, content_words, rouge, stem, support

SOURCE = "We propose a method for planning. Two studies show that it classifies images of cats."


@pytest.mark.parametrize(
    ("text", "share", "unsupported"),
    [
        ("The proposed methods plan.", 1.0, ()),  # other forms of the words of the source
        ("A study of cat images", 1.0, ()),
        ("A study of dog images", 2 / 3, ("dog",)),
        ("Dogs, dogs, a dog and a cat", 1 / 2, ("dogs",)),  # each word counts once
        ("However, moreover, therefore cats", 1.0, ()),  # words that only join are no content
        ("The Forza society of 1984", 0.0, ("forza", "society", "1984")),
        ("It is what it is.", 0.0, ()),
        ("", 0.0, ()),
        (SOURCE, 1.0, ()),
    ],
)
def test_content_words_are_looked_for_in_the_source(text: str, share: float, unsupported: tuple[str, ...]) -> None:
    found = support(text, SOURCE)
    assert (found.share, found.unsupported) == (pytest.approx(share), unsupported)


@pytest.mark.parametrize(
    "forms",
    [
        ("plan", "plans", "planned", "planning"),
        ("study", "studies", "studied", "studying"),
        ("base", "bases", "based", "basing"),
        ("model", "models", "modeled", "modelling"),
        ("fall", "falls", "falling"),
        ("agree", "agrees", "agreed", "agreeing"),
        ("process", "processed", "processing"),
    ],
)
def test_forms_of_a_word_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len(set(map(stem, forms))) == 1, [stem(form) for form in forms]


def test_short_words_keep_their_letters() -> None:
    words = ["sing", "ring", "red", "bed", "bus", "gas", "this", "100", "1100"]
    assert len(set(map(stem, words))) == len(words)


def test_single_letters_are_no_content_but_digits_are() -> None:
    assert list(content_words("The dog's 3 bones, x and y").values()) == ["dog", "3", "bones"]


def test_rouge_by_hand() -> None:
    """4 words against 6; 3 words, 1 pair of words and a sequence of 3 in common."""
    found = rouge("The police killed gunman!", "The police of Rome killed him")
    assert found == pytest.approx({"rouge1": 6 / 10, "rouge2": 2 / 8, "rouge_l": 6 / 10})


def test_rouge_counts_a_repeated_word_as_often_as_the_reference_has_it() -> None:
    assert rouge("the the the the", "the cat")["rouge1"] == pytest.approx(2 * 1 / 6)


def test_rouge_knows_the_order_of_words_by_its_l_only() -> None:
    assert rouge("a b c d", "d c b a") == pytest.approx({"rouge1": 1.0, "rouge2": 0.0, "rouge_l": 1 / 4})


@pytest.mark.parametrize(("text", "reference"), [("", ""), ("", "a b"), ("a b", ""), ("a", "b"), ("...", "a")])
def test_rouge_of_nothing_in_common_is_zero(text: str, reference: str) -> None:
    assert set(rouge(text, reference).values()) == {0.0}


WORDS = st.lists(st.sampled_from("abc"), max_size=12)


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    assert common_subsequence(one, other) == table[-1][-1]
