"""What the writing agents are told.

The wording follows the summaries in arXiv:2508.04652 (section 3.1 and 3.2 of the facts in docs/papers.md): neither
TLDR agent is told about the other, both arXiv agents are. One wording serves starter models and real models.
"""

from __future__ import annotations

from dataclasses import dataclass

from madrigal.tasks.templates import check_templates
from madrigal.tasks.writing.single import DELIMITER

TLDR_AGENTS = ("concise", "detailed")
ARXIV_AGENTS = ("background", "method")


@dataclass(frozen=True, slots=True)
class TldrPrompts:
    """What each agent of TLDR is shown, with {post} for the post.

    Attributes:
        concise, detailed: of the two agents.
        writer: of the single model that writes both parts, the delimiter between them.
    """

    concise: str = "Post: {post}\n\nWrite a concise summary of the post: one or a few short sentences, facts only."
    detailed: str = (
        "Post: {post}\n\nWrite a detailed summary of the post: use more unique words and some transition words."
    )
    writer: str = (
        f"Post: {{post}}\n\nWrite two summaries of the post with the line {DELIMITER} between them. "
        "First a concise summary: one or a few short sentences, facts only. "
        "Then a detailed summary, two to three times as long, in the same style: "
        "use more unique words and some transition words."
    )

    def __post_init__(self) -> None:
        check_templates(self, "post")


@dataclass(frozen=True, slots=True)
class ArxivPrompts:
    """What each agent of arXiv is shown, with {abstract} for the abstract.

    Attributes:
        background, method: of the two agents.
        writer: of the single model that writes both parts, the delimiter between them.
    """

    background: str = (
        "Abstract: {abstract}\n\nExpand the abstract into an introduction. Another writer does the method part. "
        "Write only the background and motivation part, and do not repeat the other part."
    )
    method: str = (
        "Abstract: {abstract}\n\nExpand the abstract into an introduction. Another writer does the background part. "
        "Write only the method and implications part, and do not repeat the other part."
    )
    writer: str = (
        "Abstract: {abstract}\n\nExpand the abstract into an introduction of two paragraphs of equal length with the "
        f"line {DELIMITER} between them. First the background and motivation, then the method and implications."
    )

    def __post_init__(self) -> None:
        check_templates(self, "abstract")
