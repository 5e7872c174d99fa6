"""What each token adds to a text: for readers of what was said, and of what is being said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

CUT = "\ufffd"  # what a decoder writes for a character of which bytes are missing
BYTES = 4  # of the longest character in UTF-8
WINDOW = 16  # tokens before a new one that may change what it adds


class TokenPieces:
    """Takes texts apart into the pieces of their tokens; owns the spellings it has seen.

    A token's piece is what it adds after another token: some tokenizers drop the space before a first word.
    """

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int]) -> None:
        """`decode` makes text of token ids; `before` are those of some word."""
        self.decode, self.before = decode, list(before)
        self.pieces: dict[tuple[int, ...], str] = {}

    def __call__(self, token_ids: Sequence[int], text: str) -> tuple[str, ...]:
        """The pieces [T] of a text; joined they are the text. () where this tokenizer's texts cannot be taken apart.

        A character that several tokens share belongs to the last of them; an end token's piece is empty.
        """
        pieces: list[str] = []
        open_ids: tuple[int, ...] = ()
        for place, token in enumerate(token_ids, start=1):
            open_ids = (*open_ids, token)
            piece = self._spell(open_ids)
            if piece.endswith(CUT) and len(open_ids) < BYTES and place < len(token_ids):
                pieces.append("")
            else:
                pieces.append(piece)
                open_ids = ()
        if pieces and not text.startswith(" "):
            pieces[0] = pieces[0].removeprefix(" ")
        return tuple(pieces) if "".join(pieces) == text else ()

    def _spell(self, ids: tuple[int, ...]) -> str:
        if ids not in self.pieces:
            self.pieces[ids] = self.decode([*self.before, *ids])[len(self.decode(self.before)) :]
        return self.pieces[ids]


class GrowingText:
    """The text of an answer while its tokens come; owns those that the next one may still join.

    The text of all tokens is read once, and then that of the last few, so that a token costs the same at the end of a
    long answer.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self.decode, self.text = decode, ""
        self._open: list[int] = []
        self._known = ""

    def add(self, token_ids: Sequence[int]) -> str:
        """The text so far, but for a last character of which bytes are missing."""
        self._open += token_ids
        read = self.decode(self._open)
        whole = read.rstrip(CUT)
        self.text += whole[len(self._known) :]
        self._known = whole
        if len(self._open) > 2 * WINDOW and read == whole:
            self._open = self._open[-WINDOW:]
            self._known = self.decode(self._open)
        return self.text
