"""Tic-tac-toe: three in a row win."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from madrigal.rollouts.seeds import derive
from madrigal.tasks.games.moves import named_move
from madrigal.tasks.games.players import Player
from madrigal.tasks.games.rules import ASK, Deal, House
from madrigal.types import ConfigError, Messages, Split

Board = str  # nine squares, row by row: "X", "O", or "." where it is free; X is the first player

EMPTY: Board = "." * 9
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
TURNED, MIRRORED = (6, 3, 0, 7, 4, 1, 8, 5, 2), (2, 1, 0, 5, 4, 3, 8, 7, 6)
SQUARES = {str(n + 1): str(n + 1) for n in range(9)}
HELD_OUT = 4  # of the openings that are not each other's images, about one in so many is for testing


@dataclass(frozen=True, slots=True)
class TicTacToe:
    """Tic-tac-toe from openings that perfect play leaves drawn.

    A deal: {"board": "X...O...."}. The first player has X; squares are numbered 1 to 9, row by row. Payoff 1 for three
    in a row, 0 for a full board. Openings are ours: an empty board is a single deal, and 0 plays from it alone. An
    opening and all its turned and mirrored images are in the same split.

    Attributes:
        opening: the most moves that are made before the players begin, 0 to 3: after 4, one might win at once.
        house: the settings that hold at every table.
    """

    opening: int = 3
    house: House = field(default_factory=House)
    name: ClassVar[str] = "tictactoe"
    plies: ClassVar[int] = 9
    stake: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.opening <= 3:
            raise ConfigError(f"task.opening: expected 0 (the empty board) to 3 moves, got {self.opening}")

    @property
    def optimal(self) -> Player:
        return perfect_player

    def deals(self, split: Split) -> Sequence[Deal]:
        return [{"board": board} for board in openings(self.opening, split)]

    def start(self, deal: Deal) -> Board:
        return str(deal["board"])

    def mover(self, position: Board) -> int:
        return mover(position)

    def play(self, position: Board, text: str) -> Board | None:
        move = named_move(text, SQUARES)
        return after(position, move) if move and move in free(position) else None

    def payoff(self, position: Board) -> float | None:
        return payoff(position)

    def observation(self, position: Board) -> str:
        return (
            f"Tic-tac-toe. You are {'XO'[mover(position)]}. Three in a row win.\n{drawn(position)}\n"
            f"Moves: {', '.join(free(position))}.\n\n{ASK}"
        )


def mover(board: Board) -> int:
    """0 where X is to move, 1 where O is."""
    return int(board.count("X") > board.count("O"))


def free(board: Board) -> tuple[str, ...]:
    """The squares that are free, by number."""
    return tuple(str(n + 1) for n, mark in enumerate(board) if mark == ".")


def after(board: Board, move: str) -> Board:
    """The board with the mover's mark on a square."""
    square = int(move) - 1
    return board[:square] + "XO"[mover(board)] + board[square + 1 :]


def payoff(board: Board) -> float | None:
    """1 where X has three in a row, -1 where O has; 0 for a full board; None while the game goes on."""
    for a, b, c in LINES:
        if board[a] != "." and board[a] == board[b] == board[c]:
            return 1.0 if board[a] == "X" else -1.0
    return None if "." in board else 0.0


def drawn(board: Board) -> str:
    """The board as it is shown: free squares by their number.

    >>> print(drawn("X...O...."))
    X 2 3
    4 O 6
    7 8 9
    """
    marks = [str(n + 1) if mark == "." else mark for n, mark in enumerate(board)]
    return "\n".join(" ".join(marks[row : row + 3]) for row in (0, 3, 6))


_ROW = re.compile(r"^([XO1-9]) ([XO1-9]) ([XO1-9])$", re.MULTILINE)


def board_shown(prompt: Messages) -> Board:
    """The board that a prompt shows: reads back what `drawn` wrote."""
    marks = "".join(map("".join, _ROW.findall(prompt[-1].content)))
    return "".join("." if mark.isdigit() else mark for mark in marks)


@functools.cache
def value(board: Board) -> float:
    """What the first player wins when both play perfectly: 1, 0 or -1.

    >>> value(EMPTY), value("XX.OO....")
    (0.0, 1.0)
    """
    ended = payoff(board)
    if ended is not None:
        return ended
    best = min if mover(board) else max
    return best(value(after(board, move)) for move in free(board))


def best_moves(board: Board) -> tuple[str, ...]:
    """The moves that give nothing away."""
    return tuple(move for move in free(board) if value(after(board, move)) == value(board))


def perfect_player(prompt: Messages, seed: int) -> str:
    """Any of the moves that give nothing away, each as likely as the others."""
    return random.Random(seed).choice(best_moves(board_shown(prompt)))


@functools.cache
def openings(plies: int, split: Split) -> tuple[Board, ...]:
    """The drawn positions that at most so many moves lead to, those of one split, in an order that mixes them.

    Which images are held out does not depend on `plies`. The empty board is for training, where it is not all there is.
    """
    if plies == 0:
        return (EMPTY,)
    level = boards = {EMPTY}
    for _ in range(plies):
        level = {after(board, move) for board in level for move in free(board)}
        boards = boards | level
    drawn_boards = [board for board in boards if value(board) == 0 and _belongs(board, split)]
    return tuple(sorted(drawn_boards, key=lambda board: derive("opening", board)))


def images(board: Board) -> frozenset[Board]:
    """A board turned and mirrored in all eight ways."""

    def turns(board: Board) -> Iterator[Board]:
        for _ in range(4):
            board = "".join(board[n] for n in TURNED)
            yield board

    return frozenset(turns(board)) | frozenset(turns("".join(board[n] for n in MIRRORED)))


def _belongs(board: Board, split: Split) -> bool:
    """Whether a board is of a split; those of validation are training's too, as long as nobody asks for them."""
    part = derive("images", min(images(board))) % HELD_OUT if board != EMPTY else HELD_OUT
    return part == 1 if split == "validation" else (part == 0) == (split == "test")
