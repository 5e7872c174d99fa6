"""Numbers out of worked answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.data import DATA
from madrigal.tasks.discussion.answers import extract_answer, extract_choice, majority, outcome, result_of


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
        ("16-3", None),
        ("7.00", "7"),
        ("007", "7"),
        ("-0.0", "0"),
        ("$.50", "0.5"),
        ("1,2,3", None),
        ("no number", None),
        ("", None),
    ],
)
def test_the_final_number_is_found(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


STATED = [  # as a person reads it
    ("The answer is 5 + 13 = 18.", "18"),
    ("#### 20 - 2 = 18", "18"),
    ("**Answer:** 18\n\nI checked it 2 times.", "18"),
    ("Answer: 18 (3 apples and 15 pears)", "18"),
    ("The answer is –18", "-18"),
    ("The answer is 6 x 3 = 18", "18"),
    ("Final answer: 18\n(after 3 days)", "18"),
    ("So 1,200 in all. The answer is $1,200.00", "1200"),
    ("The answer is 18%", "18"),
    ("The answer is $18$", "18"),
    ("The answer is \\(18\\)", "18"),
    ("The answer is:\n\n18", "18"),
    ("The answer is\n\\[ 18 \\]", "18"),
    ("The answer is **18**.", "18"),
    ("The answer is `18`", "18"),
    ('The answer is "18".', "18"),
    ("Answer: **18**", "18"),
    ("**Answer**: 18", "18"),
    ("Answer = 18", "18"),
    ("The answer is (18)", "18"),
    ("The answer is (18).", "18"),
    ("the answer is 18. I am sure the answer is right.", "18"),
    ("The answer is x = 18", "18"),
    ("\\boxed{x=18}", "18"),
    ("\\boxed{18\\text{ apples}}", "18"),
    ("\\boxed{18 \\text{ cm}^2}", "18"),
    ("The answer is 18 cm^2", "18"),
    ("\\boxed{1{,}000}", "1000"),
    ("The answer is 18 = 5 + 13", "18"),
    ("The answer is -18", "-18"),
    ("The answer is 18!", "18"),
    ("It is not obvious, but the answer is 18", "18"),
    ("The answer is not obvious, but it is 18", "18"),
    ("The answer is 18 apples, not 20", "18"),
    ("The answer is $-18", "-18"),
    ("The answer is -$18", "-18"),
    ("The answer is 18 dollars and 50 cents", "18"),
    ("The answer is 18 eggs in 2 days.", "18"),
    ("So he has 12 + 7 = 19 left", "19"),
    ("It is 12 * 7 = 84.", "84"),
    ("He pays 3 * $6 = $18", "18"),
    ("The answer is 3 * $6 = $18", "18"),
    ("<<12+5=17>>17 and\n#### 17", "17"),
    ("The answer would be 18", "18"),
    ("The answer is therefore 18", "18"),
    ("The final answer is 18", "18"),
    ("ANSWER: 18", "18"),
    ("Answer: see below. The result is 18.", "18"),
    ("The answer is 10 - -8 = 18", "18"),
    ("The answer is \\$18", "18"),
    ("The answer is 18.5.", "18.5"),
    ("The answer is .5", "0.5"),
    ("The answer is **-18**", "-18"),
    ("The answer is £18", "18"),
    ("\\boxed{18}.", "18"),
    ("\\boxed{\\boxed{18}}", "18"),
    ("\\boxed{18", "18"),
    ("\\boxed{\\text{18}}", "18"),
    ("The answer is\\boxed{18}", "18"),
    ("Tom has 2 x 9 apples, the answer is 18", "18"),
    ("The answer is 18 each", "18"),
    ("The answer is 18 extra apples", "18"),
    ("The answer is 5th", "5"),
    ("The answer is 18, which is 3 more than 15", "18"),
    ("Answer: 3 + 4 = 7, 7 - 5 = 2", "2"),
    ("50% of 36 is 18", "18"),
    ("The answer is 10^2 = 100", "100"),
    ("The answer is log 2", "2"),
    ("The answer is 18 - the number of eggs", "18"),
    ("The answer is 18: all of them", "18"),
    ("The answer is $18/hour", "18"),
    ("The answer is \\frac{3}{4} = 0.75", "0.75"),
    ("The answer is 3/4 = 0.75", "0.75"),
    ("The answer is x^2 = 4, so 2", "4"),
    ("It is wrong that the answer is 18", "18"),
]
UNSETTLED = [  # no single number: a fraction, a power, a range, a pair, two answers, a denial, a number in words
    "The answer is 3/4",
    "\\boxed{\\frac{3}{4}}",
    "The answer is 18 or 20",
    "The answer is not 18",
    "\\boxed{2^{10}}",
    "The answer is 12:30",
    "The answer is (3,4)",
    "(3, 4)",
    "\\boxed{(3,4)}",
    "The answer is 3-4",
    "3 to 4",
    "The answer is 18 and 20",
    "The answer isn't 18",
    "The answer is not 18 but 20",
    "2^10",
    "x^2",
    "The answer is 2**10",
    "The answer is 3 4",
    "The answer is 1 1/2",
    "3/4",
    "The answer is $\\frac{1}{2}$",
    "\\frac12",
    "The answer is 1e3",
    "The answer is 18 thousand",
    "1.5 million",
    "answer: (18, 3)",
    "5+13=18. The answer is eighteen.",
    "The answer is 5 + 13",
    "The answer is 3x",
    "The answer is 2\\pi",
    "The answer is 3\\sqrt{2}",
    "The answer is more than 18",
    "The answer is at least 18",
    "The answer is ≥ 18",
    "The answer is 1,5",
    "The answer is 12/30/2024",
    "16-3",
    "1,2,3",
    "The answer is between 3 and 18",
    "The answer is 18 to 20",
    "The answer is 18–20",
    "The answer is 18, 20",
    "he has 12 + 7",
    "The answer is 18/1",
    "The answer is 18/20 points",
    "The answer is 18x20",
    "The answer is 18 x 20",
    "The answer is 3:1",
    "The answer is ±18",
    "The answer is \\pm 18",
    "The answer is neither 3 nor 4",
    "\\boxed{18^\\circ}",
    "I don't think the answer is 18",
]


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_an_answer_is_read_as_a_person_reads_it(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize("text", UNSETTLED)
def test_what_is_no_single_number_is_no_answer(text: str) -> None:
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Answer: B. Because a cat has fur.", "B"),
        ("I think B because a cat has fur", "B"),
        ("B. A cat has fur.", "B"),
        ("The answer is b", "B"),
        ("answer: (b)", "B"),
        ("The answer is (B).", "B"),
        ("The answer is not B", None),
        ("The answer is not B but C", "C"),
        ("A or B", None),
        ("The answer is A or B", None),
        ("A is right", "A"),
        ("The answer is **C**", "C"),
        ("\\boxed{A}", "A"),
        ("\\boxed{\\text{A}}", "A"),
        ("A", "A"),
        ("a cat", None),
        ("It isn't B", None),
        ("B, not C", "B"),
        ("The answer is B/C", None),
        ("#### C", "C"),
        ("The answer is C) dogs", "C"),
        ("The answer is A because of that", "A"),
        ("Option A", "A"),
        ("The answer is A cat", None),
        ("The answer is option B", "B"),
    ],
)
def test_letters_are_no_words_and_denials_no_choices(text: str, choice: str | None) -> None:
    assert extract_choice(text, ("A", "B", "C")) == choice


@given(st.integers(-(10**40), 10**40))
def test_spelling_does_not_matter(number: int) -> None:
    for spelling in (f"{number}", f"{number:,}", f"{number}.00", f"The answer is {number:,}."):
        assert extract_answer(spelling) == str(number)


def test_correct_means_the_same_number() -> None:
    assert extract_answer("The answer is 1,000.0") == extract_answer("#### 1000")
    assert extract_answer("The answer is 100") != extract_answer("#### 1000")
    assert extract_answer("I do not know") is None


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
    assert majority([extract_answer(text) for text in texts]) == answer


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
