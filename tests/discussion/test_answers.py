"""Numbers out of worked answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.discussion.answers import extract_answer, extract_choice, is_correct, majority, outcome, result_of

DATA = Path(os.environ.get("MADRIGAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 3 = 5. The answer is 5.", "5"),
        ("The answer is 3. No: the answer is 4. I used 2 steps.", "4"),
        ("The answer is 18 eggs in 2 days.", "18"),
        ("The answer is: **$1,000.50** dollars", "1000.5"),
        ("The answer is -7", "-7"),
        ("work 1 + 1\n#### 1,234,567", "1234567"),
        (r"so \boxed{42} of 50", "42"),
        (r"\boxed{\$1{,}000}", "1000"),
        (r"$\boxed{-0.50}$", "-0.5"),
        ("There are 12 and then 7 left", "7"),
        ("The answer is unclear, perhaps 9", "9"),
        ("The answer is seven, not the number of those that we counted before: 8", "8"),
        ("$5", "5"),
        ("-$5", "-5"),
        ("−4", "-4"),
        ("16-3", "3"),
        ("7.00", "7"),
        ("007", "7"),
        ("-0.0", "0"),
        ("$.50", "0.5"),
        ("1,2,3", "3"),
        ("no number", None),
        ("", None),
    ],
)
def test_the_final_number_is_found(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@given(st.integers(-(10**40), 10**40))
def test_spelling_does_not_matter(number: int) -> None:
    for spelling in (f"{number}", f"{number:,}", f"{number}.00", f"The answer is {number:,}."):
        assert extract_answer(spelling) == str(number)


def test_correct_means_the_same_number() -> None:
    assert is_correct("The answer is 1,000.0", "#### 1000")
    assert not is_correct("The answer is 100", "#### 1000")
    assert not is_correct("I do not know", "#### 1000")
    assert not is_correct("I do not know", "nobody knows")


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        (["3", "4", "4.0"], "4"),
        (["3", "4"], "3"),
        (["4", "3"], "4"),
        (["?", "?", "4"], "4"),
        (["3", "4", "5", "5", "4"], "4"),
        (["?"], None),
        ([], None),
    ],
)
def test_the_majority_breaks_ties_by_order(texts: list[str], answer: str | None) -> None:
    assert majority(texts) == answer


@pytest.mark.skipif(not (DATA / "gsm8k_train.jsonl").exists(), reason="the GSM8K files are not here")
def test_every_gsm8k_answer_is_a_number() -> None:
    rows = [
        json.loads(line)
        for split in ("train", "test")
        for line in (DATA / f"gsm8k_{split}.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 1200
    for row in rows:
        stated = row["answer"].split("####")[1].strip().replace(",", "")
        assert float(extract_answer(row["answer"]) or "nan") == float(stated)


CHOICES = ("true", "not true", "unknown")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("The answer is true.", "true"),
        ("The answer is NOT TRUE, though it seems true.", "not true"),
        ("True? No. \\boxed{unknown}", "unknown"),
        ("#### not true", "not true"),
        ("It is true that nobody knows: unknown", "unknown"),
        ("The answer is: I cannot say. But it may be true", "true"),
        ("untrue", None),
        ("The answer is 7.", None),
    ],
)
def test_choices_are_read_by_name(text: str, choice: str | None) -> None:
    assert extract_choice(text, CHOICES) == choice
    assert result_of(text, CHOICES) == choice


def test_a_longer_choice_is_not_read_as_its_beginning() -> None:
    assert extract_choice("The answer is yes, but rarely.", ("yes", "yes, but rarely")) == "yes, but rarely"


def test_without_choices_a_result_is_a_number() -> None:
    assert result_of("The answer is 7.0.") == "7"


@pytest.mark.parametrize(
    ("results", "share"),
    [
        (["4", "4", "3"], 1.0),
        (["3", "3", "4"], 0.0),
        (["3", "4"], 0.5),
        (["4", None, None], 1.0),
        ([None], 0.0),
        ([], 0.0),
    ],
)
def test_the_outcome_of_a_vote(results: list[str | None], share: float) -> None:
    assert outcome(results, "4") == share
