"""One model writes both parts: the single-model baseline of the writing tasks."""

from __future__ import annotations

DELIMITER = "[PARAGRAPH_SPLIT]"
WRITER = ("writer",)


def split_parts(text: str, ratio: float) -> tuple[str, str]:
    """Cuts a completion in two: at the delimiter, else so that the second has `ratio` times the words.

    The published baseline cuts at a random ratio (2 to 3 for posts, 1.0 to 1.3 for abstracts). A task is
    pure, so that the middle of that range, a fixed number, stands here instead.

    >>> split_parts("One part. [PARAGRAPH_SPLIT] Another part.", ratio=2.5)
    ('One part.', 'Another part.')
    >>> split_parts("a b c d e f g", ratio=2.5)
    ('a b', 'c d e f g')
    """
    first, delimiter, second = text.partition(DELIMITER)
    if delimiter:
        return first.strip(), second.strip()
    words = text.split()
    cut = round(len(words) / (1 + ratio))
    return " ".join(words[:cut]), " ".join(words[cut:])
