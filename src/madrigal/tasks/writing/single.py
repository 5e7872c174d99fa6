"""One model writes both parts: the single-model baseline of the writing tasks."""

from __future__ import annotations

DELIMITER = "[PARAGRAPH_SPLIT]"
WRITER = ("writer",)


def tldr_single_prompt(post: str) -> str:
    """The observation of a writer who summarises a post twice: briefly, then in detail."""
    return (
        f"Post: {post}\n\n"
        f"Write two summaries of the post with the line {DELIMITER} between them. "
        "First a concise summary: one or a few short sentences, facts only. "
        "Then a detailed summary, two to three times as long, in the same style: "
        "use more unique words and some transition words."
    )


def arxiv_single_prompt(abstract: str) -> str:
    """The observation of a writer who expands an abstract into both halves of an introduction."""
    return (
        f"Abstract: {abstract}\n\n"
        "Expand the abstract into an introduction of two paragraphs of equal length with the line "
        f"{DELIMITER} between them. First the background and motivation, then the method and implications."
    )


def split_parts(text: str, ratio: float) -> tuple[str, str]:
    """Cuts a completion in two: at the delimiter, else so that the second has `ratio` times the words.

    The published baseline cuts at a random ratio (2 to 3 for posts, 1.0 to 1.3 for abstracts). A task is
    pure, so that the middle of that range, a fixed number, stands here instead.

    >>> split_parts("One part. [PARAGRAPH_SPLIT] Another part.", ratio=2.5)
    ('One part.', 'Another part.')
    >>> split_parts("a b c d e f g", ratio=2.5)
    ('a b', 'c d e f g')
    """
    first, found, second = text.partition(DELIMITER)
    if found:
        return first.strip(), second.strip()
    words = text.split()
    cut = round(len(words) / (1 + ratio))
    return " ".join(words[:cut]), " ".join(words[cut:])
