"""What the writing agents are told; plain strings, nothing else.

The wording follows the summaries in arXiv:2508.04652 (section 3.1 and 3.2 of the facts in docs/papers.md): neither
TLDR agent is told about the other, both arXiv agents are. One wording serves starter models and real models.
"""

from __future__ import annotations

from madrigal.tasks.writing.single import DELIMITER

TLDR_AGENTS = ("concise", "detailed")
ARXIV_AGENTS = ("background", "method")

_TLDR = {
    "concise": "Write a concise summary of the post: one or a few short sentences, facts only.",
    "detailed": "Write a detailed summary of the post: use more unique words and some transition words.",
    "writer": (
        f"Write two summaries of the post with the line {DELIMITER} between them. "
        "First a concise summary: one or a few short sentences, facts only. "
        "Then a detailed summary, two to three times as long, in the same style: "
        "use more unique words and some transition words."
    ),
}
_ARXIV = {
    "background": (
        "Expand the abstract into an introduction. Another writer does the method part. "
        "Write only the background and motivation part, and do not repeat the other part."
    ),
    "method": (
        "Expand the abstract into an introduction. Another writer does the background part. "
        "Write only the method and implications part, and do not repeat the other part."
    ),
    "writer": (
        "Expand the abstract into an introduction of two paragraphs of equal length with the line "
        f"{DELIMITER} between them. First the background and motivation, then the method and implications."
    ),
}


def tldr_prompt(agent: str, post: str) -> str:
    """The observation of one TLDR agent ("concise" or "detailed"), or of the "writer" of both summaries."""
    return f"Post: {post}\n\n{_TLDR[agent]}"


def arxiv_prompt(agent: str, abstract: str) -> str:
    """The observation of one arXiv agent ("background" or "method"), or of the "writer" of both halves."""
    return f"Abstract: {abstract}\n\n{_ARXIV[agent]}"
