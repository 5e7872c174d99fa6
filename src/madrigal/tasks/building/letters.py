"""Words as cells of a grid, and which words are for training and which are held out.

Every letter is 3 cells wide and 5 high, with a blank column between two:

    L   O
    #.. ###
    #.. #.#
    #.. #.#
    #.. #.#
    ### ###
"""

from __future__ import annotations

import functools
import itertools
import random
import string
from collections.abc import Callable

from madrigal.tasks.embedded.grammar import held_out, is_validation
from madrigal.types import Example, Split

HEIGHT, WIDTH = 5, 3
# Rows from top to bottom; each digit is a row of three cells in binary, 4 the left one.
_ROWS = {
    "A": "75755", "B": "65656", "C": "74447", "D": "65556", "E": "74647", "F": "74644", "G": "74557", "H": "55755",
    "I": "72227", "J": "11157", "K": "55655", "L": "44447", "M": "57755", "N": "65555", "O": "75557", "P": "75744",
    "Q": "75571", "R": "75765", "S": "74717", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255",
    "Y": "55222", "Z": "71247",
}  # fmt: skip
HELD_OUT = "BFJNRVZ"  # letters that no word of training has
SEEN = "".join(letter for letter in string.ascii_uppercase if letter not in HELD_OUT)
SEEN_WORD = "seen"  # the group of words of training and validation
NUM_TEST = 96  # as many of each group
FEW, MANY = 10_000, 1_000  # words of which all are listed, and how many are drawn where there are more
Cell = tuple[int, int]  # column and row, from the upper left


@functools.cache
def cells_of(word: str) -> frozenset[Cell]:
    """The cells that spell a word.

    >>> sorted(cells_of("L"))
    [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 4), (2, 4)]
    """
    return frozenset(
        (n * (WIDTH + 1) + column, row)
        for n, letter in enumerate(word)
        for row, digit in enumerate(_ROWS[letter])
        for column in range(WIDTH)
        if int(digit) >> (WIDTH - 1 - column) & 1
    )


def width_of(word: str) -> int:
    """Columns of the grid of a word."""
    return len(word) * (WIDTH + 1) - 1


@functools.cache
def examples(split: Split, longest: int) -> tuple[Example, ...]:
    """The words of a split, in a fixed random order.

    Training has words of seen letters, one to `longest` of them, without one word in five: these are tested
    ("new_word"), as are words with letters of which training has none ("new_letter") and words of one letter more
    than training has ("longer"), in turn. Validation is about a tenth of the words of training.

    >>> [example.data["group"] for example in examples("test", 2)[:4]]
    ['new_word', 'new_letter', 'longer', 'new_word']
    """
    short = range(1, longest + 1)
    if split != "test":
        trained = _words(SEEN, short, lambda word: not held_out(word))
        found = [word for word in trained if split == "train" or is_validation(word)]
        random.Random(f"build/{longest}").shuffle(found)
        words = [(word, SEEN_WORD) for word in found]
    else:
        groups = {
            "new_word": _words(SEEN, short, held_out),
            "new_letter": _words(string.ascii_uppercase, short, lambda word: bool(set(word) & set(HELD_OUT))),
            "longer": _words(SEEN, range(longest + 1, longest + 2), lambda word: True),
        }
        each = zip(*(_drawn(name, group, NUM_TEST // 3) for name, group in groups.items()), strict=False)
        words = list(itertools.chain.from_iterable(each))
    return tuple(Example(f"build/{split}/{n}", {"word": word, "group": group}) for n, (word, group) in enumerate(words))


def _words(letters: str, lengths: range, keep: Callable[[str], bool]) -> list[str]:
    """Words of such letters and lengths that are kept: all, or where there are too many of them the first by chance."""
    if len(letters) ** lengths[-1] <= FEW:
        every = (word for length in lengths for word in map("".join, itertools.product(letters, repeat=length)))
        return [word for word in every if keep(word)]
    rng, found = random.Random(f"build/{letters}/{lengths}"), dict[str, None]()
    while len(found) < MANY:
        word = "".join(rng.choices(letters, k=rng.choice(lengths)))
        if keep(word):
            found[word] = None
    return list(found)


def _drawn(name: str, words: list[str], count: int) -> list[tuple[str, str]]:
    return [(word, name) for word in random.Random(f"build/{name}").sample(words, min(count, len(words)))]
