"""The writing reward: every threshold from both sides, by numbers computed by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.writing.scores import (
    ARXIV_EARLY,
    ARXIV_LATER,
    STOPWORDS,
    TLDR,
    Thresholds,
    jaccard,
    length_ratio,
    score,
    transition_share,
    unique_ratio,
)
from madrigal.tasks.writing.transitions import PHRASES

ONE_OF_EACH = "also such as that is because but first indeed overall similarly although if when"


def text(words: int, unique: int, chars: int, letter: str = "q") -> str:
    """A text of exactly so many words, unique words and characters, without a transition."""
    tokens = [f"{letter}{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(unique)]
    body = " ".join([*(tokens[i % (unique - 1)] for i in range(words - 1)), tokens[-1]])
    assert len(body) <= chars, len(body)
    return body + "x" * (chars - len(body))


def tldr(words: int = 20, unique: int = 20, chars: int = 200, thresholds: Thresholds = TLDR) -> tuple[float, int]:
    """Total and passed level of a second text beside 20 words, 10 unique, 100 characters, no word shared."""
    result = score(text(20, 10, 100), text(words, unique, chars, "z"), thresholds)
    return round(result.total, 9), result.passed_level


@pytest.mark.parametrize(("words", "total"), [(7, 0.0), (8, 2.0), (256, 2.0), (257, 0.0)])
def test_tldr_words(words: int, total: float) -> None:
    first, second = text(words, 4, 1200), text(words, 8, 2400, "z")
    assert score(first, second, TLDR).total == total
    fine = text(20, 4, 1200)
    assert score(fine, text(words, 8, 2400, "z"), TLDR).total == total
    assert score(first, text(20, 8, 2400, "z"), TLDR).total == total


@pytest.mark.parametrize(
    ("chars", "total", "level"),
    [
        (109, 0.5, 1),
        (110, 1.0, 3),
        (135, 1.5, 3),
        (159, 1.98, 3),
        (160, 2.0, 3),
        (320, 2.0, 3),
        (410, 1.5, 3),
        (500, 1.0, 3),
        (501, 0.5, 1),
    ],
)
def test_tldr_length_ratio(chars: int, total: float, level: int) -> None:
    assert tldr(chars=chars) == (total, level)


@pytest.mark.parametrize(
    ("unique", "total", "level"),
    [(12, 1.5, 2), (13, 1.5, 3), (17, round(1.5 + 2 / 7, 9), 3), (20, 2.0, 3), (30, 2.0, 3)],
)
def test_tldr_vocabulary(unique: int, total: float, level: int) -> None:
    assert tldr(words=40, unique=unique) == (total, level)


@pytest.mark.parametrize(("words", "level"), [(127, 0), (128, 3), (256, 3), (257, 0)])
def test_arxiv_words(words: int, level: int) -> None:
    for thresholds in (ARXIV_EARLY, ARXIV_LATER):
        fine = text(200, 100, 1200)
        assert score(fine, text(words, 100, 1560, "z"), thresholds).passed_level == level
        assert score(text(words, 100, 1200), text(200, 100, 1560, "z"), thresholds).passed_level == level


@pytest.mark.parametrize(
    ("thresholds", "chars", "total"),
    [
        (ARXIV_EARLY, 799, 0.5),
        (ARXIV_EARLY, 800, 1.0),
        (ARXIV_EARLY, 900, 1.5),
        (ARXIV_EARLY, 1000, 2.0),
        (ARXIV_EARLY, 1300, 2.0),
        (ARXIV_EARLY, 1400, 1.5),
        (ARXIV_EARLY, 1500, 1.0),
        (ARXIV_EARLY, 1501, 0.5),
        (ARXIV_LATER, 799, 0.5),
        (ARXIV_LATER, 800, 1.0),
        (ARXIV_LATER, 1050, 1.5),
        (ARXIV_LATER, 1300, 2.0),
        (ARXIV_LATER, 1600, 2.0),
        (ARXIV_LATER, 1800, 1.5),
        (ARXIV_LATER, 2000, 1.0),
        (ARXIV_LATER, 2001, 0.5),
    ],
)
def test_arxiv_length_ratio(thresholds: Thresholds, chars: int, total: float) -> None:
    result = score(text(150, 100, 1000), text(150, 100, chars, "z"), thresholds)
    assert result.total == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("unique", "total", "level"),
    [
        (49, 1.5, 2),
        (50, 1.5, 3),
        (60, 1.75, 3),
        (70, 2.0, 3),
        (130, 2.0, 3),
        (150, 1.75, 3),
        (170, 1.5, 3),
        (171, 1.5, 2),
    ],
)
def test_arxiv_vocabulary(unique: int, total: float, level: int) -> None:
    for thresholds in (ARXIV_EARLY, ARXIV_LATER):
        result = score(text(200, 100, 1000), text(200, unique, 1300, "z"), thresholds)
        assert result.total == pytest.approx(total, abs=1e-12)
        assert result.passed_level == level


@pytest.mark.parametrize(("count", "share"), [(0, 0.0), (1, 0.4), (2, 0.45), (6, 0.65), (12, 0.95)])
def test_transition_share(count: int, share: float) -> None:
    assert transition_share(count) == pytest.approx(share, abs=1e-12)


def test_transitions_count_in_the_second_summary_but_in_both_halves() -> None:
    assert score("But why?", "It is red.", TLDR).coherence == 0.0
    assert score("It is red.", "But why?", TLDR).coherence == pytest.approx(0.16)
    assert score("But why?", "It is red.", ARXIV_EARLY).coherence == pytest.approx(0.16)
    assert score("But why?", "If it is red.", ARXIV_EARLY).coherence == pytest.approx(0.18)


def test_texts_joined_make_no_phrase_across_the_seam() -> None:
    assert score("We know as", "a result", ARXIV_EARLY).coherence == 0.0


def test_jaccard_leaves_stopwords_out() -> None:
    assert jaccard("The cat and the dog", "A CAT, the bird") == 1 / 3
    assert jaccard("cat", "the dog") == 0.0
    assert jaccard("the", "and of") == 1.0
    assert jaccard("", "") == 1.0
    assert jaccard("", "cat") == 0.0


@pytest.mark.parametrize(
    ("shared", "thresholds", "consistency"),
    [(1, TLDR, 0.5), (2, TLDR, 0.6), (1, ARXIV_EARLY, 0.6 * 0.025 / 0.23), (20, ARXIV_EARLY, 0.6)],
)
def test_consistency_is_full_at_its_threshold(shared: int, thresholds: Thresholds, consistency: float) -> None:
    """One word of a union of 40 is J = 0.025; two of 40 pass 0.03; twenty of 40 pass 0.23."""
    union = [f"word{i}" for i in range(40)]
    first, second = union[:20], union[20 - shared :]
    result = score(" ".join(first), " ".join(second), thresholds)
    assert result.consistency == pytest.approx(consistency, abs=1e-12)


def test_ratios_are_those_of_characters_and_of_unique_words() -> None:
    assert length_ratio("abcd", "ab cd ") == 1.5
    assert unique_ratio("The the cat", "A dog, a DOG's") == 1.5
    assert unique_ratio("The the cat", "A dog, a DOG's", exclude_stopwords=True) == 2.0
    assert length_ratio("", "text") == 0.0
    assert unique_ratio("...", "text") == 0.0


def test_stopwords_are_about_as_many_as_published() -> None:
    assert 100 <= len(STOPWORDS) <= 130
    assert all(word.islower() for word in STOPWORDS)


def best(thresholds: Thresholds) -> tuple[str, str]:
    """Two texts with every part at its best: twelve categories, words shared, ratios within the optimum."""
    if thresholds is TLDR:
        return text(20, 10, 100), f"{text(20, 20, 160)} {ONE_OF_EACH}"
    return text(150, 100, 1000), f"{text(150, 100, 1219)} {ONE_OF_EACH}"


@pytest.mark.parametrize("thresholds", [TLDR, ARXIV_EARLY, ARXIV_LATER])
def test_the_reachable_maximum_is_2_98(thresholds: Thresholds) -> None:
    result = score(*best(thresholds), thresholds)
    assert result.total == pytest.approx(2.98, abs=1e-12)
    assert result.percents() == pytest.approx(
        {"structure": 100, "consistency": 100, "coherence": 95, "return_percent": 298 / 3}
    )


def test_percents_show_parts_without_gates_and_the_return_with_them() -> None:
    first, second = best(TLDR)
    result = score(first.split()[0], second, TLDR)
    assert (result.total, result.passed_level, result.structure) == (0.0, 0, 0.0)
    assert result.percents()["return_percent"] == 0.0
    assert result.percents()["coherence"] == pytest.approx(95)
    shut = score(first, f"{second} {'x' * 400}", TLDR)
    assert (shut.total, shut.passed_level) == (0.5, 1)
    assert shut.percents()["structure"] == pytest.approx(50)
    assert shut.ungated == pytest.approx(0.5 + 0.0 + 0.5 + 0.6 + 0.38)


WORDS = st.sampled_from(["cat", "dog", "bird", "the", "of", *(p[0] for p in PHRASES.values()), "longer-word"])
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=300).map(" ".join))


@given(first=TEXTS, second=TEXTS, thresholds=st.sampled_from([TLDR, ARXIV_EARLY, ARXIV_LATER]))
def test_rewards_stay_within_bounds(first: str, second: str, thresholds: Thresholds) -> None:
    result = score(first, second, thresholds)
    assert 0.0 <= result.total <= result.ungated <= 3.0
    assert all(math.isfinite(value) and 0.0 <= value <= 100 + 1e-9 for value in result.percents().values())
    if result.passed_level == 3:
        assert result.total == result.ungated
    gates = ("structure", "length ratio", "vocabulary ratio", "")
    assert result.shut_gate.partition(":")[0] == gates[result.passed_level]
