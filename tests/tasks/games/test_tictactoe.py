"""Tic-tac-toe: what is known of the game, and what is ours: openings, prompts."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.games.tictactoe import (
    EMPTY,
    LINES,
    TicTacToe,
    after,
    best_moves,
    board_shown,
    free,
    images,
    mover,
    openings,
    payoff,
    perfect_player,
    value,
)
from madrigal.types import ConfigError, Message

GAME = TicTacToe()


def reachable() -> set[str]:
    found, level = {EMPTY}, {EMPTY}
    while level:
        level = {after(board, move) for board in level if payoff(board) is None for move in free(board)}
        found |= level
    return found


BOARDS = reachable()


def shown(board: str) -> tuple[Message, ...]:
    return (Message("user", GAME.observation(board)),)


def test_the_known_numbers_of_positions() -> None:
    """5,478 positions; of the 958 final ones X wins 626, O wins 316, 16 are drawn."""
    assert len(BOARDS) == 5478
    assert Counter(payoff(board) for board in BOARDS) == {None: 4520, 1.0: 626, -1.0: 316, 0.0: 16}


@given(st.randoms(use_true_random=False))
def test_a_game_ends_where_its_last_move_made_three_in_a_row_or_filled_the_board(rng: random.Random) -> None:
    board, last = EMPTY, ""
    while payoff(board) is None:
        player = "XO"[mover(board)]
        last = rng.choice(free(board))
        board = GAME.play(board, last) or ""
        assert board.count("X") - board.count("O") == (player == "X")
    three = [line for line in LINES if len({board[n] for n in line}) == 1 and board[line[0]] != "."]
    assert all(int(last) - 1 in line for line in three)
    assert payoff(board) == (0.0 if not three else 1.0 if board[three[0][0]] == "X" else -1.0)
    assert payoff(board) or "." not in board


def test_only_free_squares_are_legal() -> None:
    board = "X...O...."
    assert [n for n in range(11) if GAME.play(board, str(n)) is None] == [0, 1, 5, 10]
    assert GAME.play(board, "9") == "X...O...X"


def test_the_prompt_tells_the_board_and_the_moves() -> None:
    for board in BOARDS:
        if payoff(board) is None:
            assert board_shown(shown(board)) == board
            assert f"Moves: {', '.join(free(board))}." in GAME.observation(board)


def test_perfect_play_is_a_draw_and_a_blunder_is_known() -> None:
    assert value(EMPTY) == 0
    assert value("X...O....") == 0 and value("XO.......") == 1
    assert best_moves("X........") == ("5",)
    assert best_moves("XX.OO....") == ("3",)


@given(st.randoms(use_true_random=False), st.sampled_from([0, 1]))
def test_the_perfect_player_never_loses(rng: random.Random, seat: int) -> None:
    board = EMPTY
    while payoff(board) is None:
        perfect = mover(board) == seat
        move = perfect_player(shown(board), rng.getrandbits(32)) if perfect else rng.choice(free(board))
        board = GAME.play(board, move) or ""
    assert (payoff(board) or 0) * (1, -1)[seat] >= 0


def test_openings_are_drawn_and_no_image_of_one_is_in_both_splits() -> None:
    for plies in (1, 2, 3):
        train, test = openings(plies, "train"), openings(plies, "test")
        assert {value(board) for board in (*train, *test)} == {0}
        assert max(9 - board.count(".") for board in (*train, *test)) == plies
        assert EMPTY in train
        assert not {image for board in train for image in images(board)} & set(test)
        assert all(images(board) <= set(test) for board in test)
    assert (len(openings(3, "train")), len(openings(3, "test"))) == (132, 40)
    assert openings(0, "train") == openings(0, "test") == (EMPTY,)


def test_images_are_turned_and_mirrored() -> None:
    assert images("X........") == {"X........", "..X......", "......X..", "........X"}
    assert len(images("XO.......")) == 8


def test_openings_that_could_end_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.opening"):
        TicTacToe(opening=4)
