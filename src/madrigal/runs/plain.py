"""Text of models, users and files made fit for a terminal: it is shown, never acted on."""

from __future__ import annotations

import unicodedata

from rich.console import Console
from rich.text import Text

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's control, format, surrogate, and line and paragraph separators
LAYOUT = "\n\t"
JOINERS = "\u200c\u200d"  # they join letters of some scripts, and parts of emoji


def plain(text: object, *, lines: bool = True) -> str:
    r"""Spells out every character that a terminal would act on instead of showing it.

    >>> print(plain("red \x1b[31m, back \r, turned \u202e"))
    red \x1b[31m, back \r, turned \u202e
    >>> print(plain("two\nlines", lines=False))
    two\nlines

    Args:
        lines: leave line ends and tabs as they are; names and other things of one line do without.
    """
    kept = JOINERS + (LAYOUT if lines else "")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ACTING and c not in kept else c
        for c in str(text)
    )


def plain_text(console: Console, text: object, style: str = "", *, lines: bool = True) -> Text:
    """`plain` for a console: no markup is read out of it, and what its encoding lacks is spelled out."""
    encoding = console.encoding
    return Text(plain(text, lines=lines).encode(encoding, "backslashreplace").decode(encoding), style=style)
