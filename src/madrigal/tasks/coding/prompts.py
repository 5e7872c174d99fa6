"""What the coding agents are told in the first round.

The wording follows the summaries in arXiv:2508.04652 (section 3.3): the helper writes `aux`, the main agent writes the
required function and may call `aux`; both answer with code only. One wording serves starter models and real models.
"""

from __future__ import annotations

from dataclasses import dataclass

from madrigal.tasks.coding.problem import Problem, parameters
from madrigal.tasks.templates import check_templates, fill
from madrigal.types import AgentId


@dataclass(frozen=True, slots=True)
class CodingPrompts:
    """What each agent is shown in the first round.

    Placeholders are {prompt} for the problem's prompt, {entry_point} for the name of the function that is asked for,
    and {parameters} for what stands between its parentheses.

    Attributes:
        helper, main: of the two agents.
        alone: of a single model that writes everything.
    """

    helper: str = (
        "{prompt}\n\nWrite a helper function aux({parameters}) that returns useful data for {entry_point}. Code only.\n"
        "def aux({parameters}):"
    )
    main: str = (
        "{prompt}\n\nWrite {entry_point}. A helper aux({parameters}) is available: do not redefine it, call it and use "
        "its result. Code only.\ndef {entry_point}({parameters}):"
    )
    alone: str = "{prompt}\n\nWrite {entry_point}. Code only.\ndef {entry_point}({parameters}):"

    def __post_init__(self) -> None:
        check_templates(self, "prompt", "entry_point", "parameters")


def first_prompt(
    problem: Problem, agent: AgentId, *, alone: bool = False, prompts: CodingPrompts = CodingPrompts()
) -> str:
    """The first observation of the helper, of the main agent, or of one `alone` who writes everything.

    Raises:
        TaskError: if the prompt has no `def` line of the entry point.
    """
    template: str = getattr(prompts, "alone" if alone else agent)
    return fill(
        template, prompt=problem.prompt.strip(), entry_point=problem.entry_point, parameters=parameters(problem)
    )
