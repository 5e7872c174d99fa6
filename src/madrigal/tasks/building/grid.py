"""The grid that builders fill: how a cell is named, what an answer places, and what a grid is worth."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from madrigal.tasks.building.letters import HEIGHT, Cell

COLORS = {
    "r": "red", "y": "yellow", "b": "blue", "w": "white", "g": "green", "o": "orange", "p": "pink", "t": "teal",
}  # fmt: skip
CLEAR = "x"
_PLACED = re.compile(r"\b([a-z])([1-9][0-9]?)[ :=]*([a-z]+)(?![a-z0-9])", re.IGNORECASE)
_LETTERS = {name: letter for letter, name in COLORS.items()} | {letter: letter for letter in (*COLORS, CLEAR)}
Colored = Mapping[Cell, str]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a grid is worth.

    Attributes:
        iou: cells that are wanted and filled, of all that are wanted or filled.
        coverage: share of the wanted cells that are filled.
        extra: filled cells that nobody wants.
        equal: share of neighboring pairs of filled cells, side by side or one above the other, with one color.
    """

    iou: float
    coverage: float
    extra: int
    equal: float


def scores_of(grid: Colored, wanted: Collection[Cell]) -> Scores:
    """Scores of a grid.

    >>> scores_of({(0, 0): "r", (0, 1): "r", (1, 1): "b"}, {(0, 0), (0, 1)})
    Scores(iou=0.6666666666666666, coverage=1.0, extra=1, equal=0.5)
    """
    filled = sum(cell in grid for cell in wanted)
    extra = len(grid) - filled
    pairs = [
        (color, grid[other])
        for (column, row), color in grid.items()
        for other in ((column + 1, row), (column, row + 1))
        if other in grid
    ]
    equal = sum(one == two for one, two in pairs) / len(pairs) if pairs else 0.0
    return Scores(filled / (len(wanted) + extra), filled / len(wanted), extra, equal)


def spelled(cell: Cell) -> str:
    """The name of a cell: a letter for the column, a number for the row.

    >>> spelled((0, 0)), spelled((6, 4))
    ('A1', 'G5')
    """
    return f"{string.ascii_uppercase[cell[0]]}{cell[1] + 1}"


def placements(text: str) -> list[tuple[Cell, str]]:
    """The cells that an answer names with a color, or with "x" to clear it, in order; words that are neither are talk.

    >>> placements("A1r, B2 red; c3: x and D4 nothing")
    [((0, 0), 'r'), ((1, 1), 'r'), ((2, 2), 'x')]
    """
    found = [(column, number, _LETTERS.get(color.lower())) for column, number, color in _PLACED.findall(text)]
    return [((ord(column.lower()) - ord("a"), int(number) - 1), color) for column, number, color in found if color]


def drawn(grid: Colored, width: int, blanks: Collection[Cell] = ()) -> list[str]:
    """Rows of a grid in characters: colors, "#" for cells that are wanted and blank, "." for all others.

    >>> drawn({(0, 0): "r"}, 2, {(0, 0), (1, 0)})[0]
    'r#'
    """
    return [
        "".join(grid.get((column, row), "#" if (column, row) in blanks else ".") for column in range(width))
        for row in range(HEIGHT)
    ]
