"""What the coding agents are told in the first round; plain strings, nothing else.

The wording follows the summaries in arXiv:2508.04652 (section 3.3): the helper writes `aux`, the main agent writes the
required function and may call `aux`; both answer with code only. One wording serves starter models and real models.
"""

from __future__ import annotations


def helper_prompt(problem: str, entry_point: str, parameters: str) -> str:
    """The helper's first observation; `parameters` is the text between the parentheses of the main function."""
    return (
        f"{problem.strip()}\n\n"
        f"Write a helper function aux({parameters}) that returns useful data for {entry_point}. Code only.\n"
        f"def aux({parameters}):"
    )


def main_prompt(problem: str, entry_point: str, parameters: str) -> str:
    """The main agent's first observation; `parameters` names what the main function takes."""
    return (
        f"{problem.strip()}\n\n"
        f"Write {entry_point}. A helper aux({parameters}) is available: do not redefine it, call it and use its "
        f"result. Code only.\n"
        f"def {entry_point}({parameters}):"
    )


def alone_prompt(problem: str, entry_point: str, parameters: str) -> str:
    """The first observation of a single agent that writes everything."""
    return f"{problem.strip()}\n\nWrite {entry_point}. Code only.\ndef {entry_point}({parameters}):"
