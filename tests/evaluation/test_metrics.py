"""Measures of samples and transcripts against binomials, enumeration and numbers by hand."""

from __future__ import annotations

import sys
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import pytest

from madrigal.evaluation.metrics import credit_shares, distinct_n, overlap, pass_at_k, token_shares
from madrigal.types import ConfigError

sys.path.insert(0, next(str(place) for top in Path(__file__).parents if (place := top / "benchmarks").is_dir()))
from best_of_k import best_at_k, coding_at_k


def test_pass_at_k_is_the_ratio_of_binomials() -> None:
    for n in range(1, 9):
        for m in range(n + 1):
            for k in range(1, n + 1):
                assert pass_at_k(n, m, k) == pytest.approx(1 - comb(n - m, k) / comb(n, k), abs=1e-12)


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(5, 2, 1) == pytest.approx(2 / 5)
    assert pass_at_k(5, 2, 3) == pytest.approx(1 - 1 / 10)
    assert (pass_at_k(5, 0, 5), pass_at_k(5, 3, 3), pass_at_k(1, 1, 1)) == (0.0, 1.0, 1.0)


def test_thousands_of_tries_are_no_trouble() -> None:
    exact = 1 - comb(4997, 2000) / comb(5000, 2000)
    assert pass_at_k(5000, 3, 2000) == pytest.approx(exact, abs=1e-12)
    assert best_at_k([1.0] * 3 + [0.0] * 4997, 2000) == pytest.approx(exact, abs=1e-12)
    assert pass_at_k(10_000, 9_999, 1) == pytest.approx(0.9999, abs=1e-12)
    assert 0 < pass_at_k(5000, 1, 1) < 0.00021


def test_the_expected_best_is_the_mean_over_all_subsets() -> None:
    values = [0.3, 0.9, 0.1, 0.9, 0.5, 0.0]
    for k in range(1, 7):
        subsets = list(combinations(values, k))
        assert best_at_k(values, k) == pytest.approx(sum(map(max, subsets)) / len(subsets), abs=1e-12)


def test_the_best_of_the_first_k_depends_on_the_order() -> None:
    fractions = [0.25, 0.75, 0.5, 1.0]
    assert [best_at_k(fractions, k, first=True) for k in (1, 2, 3, 4)] == [0.25, 0.75, 0.75, 1.0]
    # pairs in order of the larger: 0.5, 0.75, 0.75, 1, 1, 1
    assert best_at_k(fractions, 2) == pytest.approx(5 / 6)
    assert best_at_k(fractions, 2) == best_at_k(fractions[::-1], 2)
    assert best_at_k([0.5, 1.5, 0.0], 1) == pytest.approx(2 / 3) and best_at_k([0.5, 1.5, 0.0], 3) == 1.5


@pytest.mark.parametrize("k", [0, 4, -1])
def test_more_tries_than_there_are_is_one_line(k: int) -> None:
    for call in (
        lambda: pass_at_k(3, 1, k),
        lambda: best_at_k([0, 0, 1], k),
        lambda: best_at_k([0, 0, 1], k, first=True),
    ):
        with pytest.raises(ConfigError, match=f"expected k between 1 and 3, got {k}") as error:
            call()
        assert "\n" not in str(error.value)


def test_more_passes_than_tries_is_one_line() -> None:
    with pytest.raises(ConfigError, match="between 0 and 3 passed tries, got 4"):
        pass_at_k(3, 4, 1)


def tried(example: str, passed: bool, tests: float, bonus: float) -> dict[str, Any]:
    metrics = {"full_test_pass": float(passed), "tests": tests, "reward_cooperation": bonus}
    return {"example": example, "metrics": metrics, "turns": []}


def test_tables_at_k_from_transcripts() -> None:
    easy = [tried("a", False, 50, 0.5), tried("a", True, 100, 0.0), tried("a", True, 100, 1.5)]
    hard = [tried("b", False, 0, 0.0), tried("b", False, 25, 0.5), tried("b", False, 0, 0.0)]
    one = {"pass@1": 1 / 3, "acc@1": 11 / 24, "coop@1": 5 / 12}
    assert coding_at_k([*easy, *hard], 1) == pytest.approx(one)
    assert coding_at_k([*hard, *easy], 2) == pytest.approx({"pass@2": 0.5, "acc@2": (1 + 1 / 6) / 2, "coop@2": 0.75})
    assert coding_at_k([*easy, *hard], 1, first=True) == {"pass@1": 0.0, "acc@1": 0.25, "coop@1": 0.25}


def test_a_single_agent_has_no_cooperation() -> None:
    alone = {"example": "a", "metrics": {"full_test_pass": 1.0, "tests": 100.0}, "turns": []}
    assert coding_at_k([alone], 1) == {"pass@1": 1.0, "acc@1": 1.0, "coop@1": 0.0}


def test_transcripts_of_other_tasks_are_refused() -> None:
    for records in ([], [{"example": "a", "metrics": {"accuracy": 100.0}, "turns": []}]):
        with pytest.raises(ConfigError, match="transcripts of a coding task"):
            coding_at_k(records, 1)


def test_distinct_n_by_hand() -> None:
    assert distinct_n(["a b a b"], n=1) == 2 / 4
    assert distinct_n(["a b a b"], n=2) == 2 / 3
    assert distinct_n(["a b", "b a"], n=2) == 1.0  # no pair crosses from one text to the next
    assert distinct_n(["A a"], n=1) == 1.0  # as written
    assert distinct_n(["word", ""], n=2) == 0.0


def test_overlap_by_hand() -> None:
    assert overlap("The cat sat", "a CAT sat down") == 2 / 5
    assert (overlap("X", "x x"), overlap("", ""), overlap("x", "")) == (1.0, 0.0, 0.0)


def turn(agent: str, tokens: int, text: str = "", advantage: float | None = None) -> dict[str, Any]:
    return {"agent": agent, "tokens": tokens, "text": text, "advantage": advantage}


EPISODES = [
    {"turns": [turn("ann", 10, "one two", 1.5), turn("bob", 30, "three", -0.5)]},
    {"turns": [turn("ann", 20, "four five six seven", -1.0), turn("bob", 40, "", 1.0)]},
]


def test_shares_by_hand() -> None:
    assert token_shares(EPISODES) == {"ann": 0.3, "bob": 0.7}
    assert credit_shares(EPISODES) == {"ann": 2.5 / 4, "bob": 1.5 / 4}


def test_shares_of_nothing_are_not_there() -> None:
    silent = [{"turns": [turn("ann", 0), turn("bob", 0)]}]
    assert token_shares(silent) == credit_shares(silent) == token_shares([]) == {}
