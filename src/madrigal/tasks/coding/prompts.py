"""What the coding agents are told in the first round; plain strings, nothing else.

The wording follows the summaries in arXiv:2508.04652 (section 3.3): the helper writes `aux`, the main agent writes the
required function and may call `aux`; both answer with code only. One wording serves starter models and real models.
"""

from __future__ import annotations

from madrigal.tasks.coding.config import HELPER
from madrigal.tasks.coding.problem import Problem, parameters
from madrigal.types import AgentId


def first_prompt(problem: Problem, agent: AgentId, *, alone: bool = False) -> str:
    """The first observation of the helper, of the main agent, or of one `alone` who writes everything.

    Raises:
        TaskError: if the prompt has no `def` line of the entry point.
    """
    entry, takes = problem.entry_point, parameters(problem)
    name, request = entry, f"Write {entry}."
    if agent == HELPER:
        name, request = "aux", f"Write a helper function aux({takes}) that returns useful data for {entry}."
    elif not alone:
        request += f" A helper aux({takes}) is available: do not redefine it, call it and use its result."
    return f"{problem.prompt.strip()}\n\n{request} Code only.\ndef {name}({takes}):"
