"""Which move a text names: habits of writing one down, and texts that nobody should write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.games.moves import bracketed, named_move
from madrigal.tasks.games.tictactoe import SQUARES

BETS = {"1": "pass", "2": "bet", "check": "pass", "bet": "bet", "call": ""}


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("5", "5"),
        ("I take the [5].", "5"),
        ("[4], or better [ 5 ]; not 6", "5"),
        (r"So \boxed{5}", "5"),
        ("4, 6 or 5?", "5"),
        ("4 or 6. The answer is 5, not 4.", "5"),
        ("The answer is 4. No: the answer is square 5 .", "5"),
        ("The answer is 4. [5]", "5"),
        ("[4] The answer is 5", "5"),
        ("The answer is: [5]", "5"),
        ("[hello] 5", "5"),
        ("The answer is 54.", None),
        ("2*5=10. The answer is 10.", None),
        ("The answer is 1.5", None),
        ("12", None),
        ("0", None),
        ("five", None),
        ("５", None),
        ("x5y _5_ 5th", None),
        ("1.5 and 2,5", None),
        ("", None),
    ],
)
def test_squares(text: str, move: str | None) -> None:
    assert named_move(text, SQUARES) == move


def test_the_last_word_counts_even_where_it_is_no_move_here() -> None:
    assert named_move("check... CALL", BETS) == ""
    assert named_move("call? Check!", BETS) == "pass"
    assert named_move("checkmate", BETS) is None


def test_letters_that_only_ignoring_case_makes_alike_name_nothing() -> None:
    """Python's regular expressions match the dotless letter of Turkish with "i"."""
    assert named_move("w\u0131n", {"win": "win"}) is None


@given(st.text(alphabet=st.sampled_from("15[]{}\\boxed answer is.,xé\n\u0000")))
def test_any_text_names_a_move_or_none(text: str) -> None:
    assert named_move(text, SQUARES) in {*SQUARES.values(), None}


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "[5" * 50_000, "answer is " * 20_000, "1." * 50_000, "\\boxed{" * 20_000]
)
def test_long_texts_take_no_longer_than_their_length(text: str) -> None:
    assert named_move(text, SQUARES) in {"5", None}


def test_brackets_inside_of_brackets() -> None:
    assert bracketed("[[5]] [a [b] c") == ["5", "b"]
