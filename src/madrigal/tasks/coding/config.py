"""The settings of a coding task."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from madrigal.tasks.coding.feedback import FEEDBACK_MODES, FeedbackMode
from madrigal.tasks.coding.prompts import CodingPrompts
from madrigal.tasks.data import Source
from madrigal.types import ConfigError

CODING_AGENTS = HELPER, MAIN = ("helper", "main")
ALONE = (MAIN,)


@dataclass(frozen=True, slots=True)
class ExpertConfig:
    """An OpenAI-compatible endpoint that proposes edits between turns.

    Attributes:
        base_url: of the endpoint, http or https; empty takes OPENAI_BASE_URL, or else OpenAI's.
        model: the name that the endpoint knows the model by.
        key_variable: the environment variable that holds the key; the key itself is never stored. Its name ends in
            _API_KEY. An experiment from elsewhere that names an endpoint needs --trust: the key is sent there.
    """

    base_url: str = ""
    model: str = ""
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w*_API_KEY", self.key_variable):
            raise ConfigError(
                f"task.expert.key_variable: expected a variable whose name ends in _API_KEY, got {self.key_variable!r}"
            )
        if self.base_url and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", self.base_url):
            raise ConfigError(
                f"task.expert.base_url: expected one like https://api.openai.com/v1, got {self.base_url!r}"
            )


@dataclass(frozen=True, slots=True)
class Coding:
    """Helper and main function, judged by unit tests.

    Attributes:
        name: how logs and tables call the task.
        source: problems in HumanEval's schema (task_id, prompt, entry_point, test).
        turns: H; with 2 or more, feedback goes to the agents in between.
        feedback: what the agents are told (section 3.6 of the paper's facts).
        sandbox_slice: failing tests shown: 1 the first, 0 all, negative that many from the end.
        aux_required: the paper's wording of level 1 needs both functions; its code does not.
        agents: ("helper", "main"), or ("main",) for one model that writes everything.
        prompts: what each agent is shown in the first round.
        test_seconds: processor time of one test; after three that ran out of it the rest counts as timeout. The
            numbers are the paper's; a program that loops costs 30 seconds with them.
        program_seconds: processor time of one program with all its tests.
        memory_mb: what one program may use in the sandbox.
        unconfined: run model-written code even where the machine cannot confine it.
        expert: who proposes edits in the mode "expert_edits".
    """

    name: str = "coding"
    source: Source = field(default_factory=Source)
    turns: int = 1
    feedback: FeedbackMode = "level_feedback"
    sandbox_slice: int = 1
    aux_required: bool = False
    agents: tuple[str, ...] = CODING_AGENTS
    prompts: CodingPrompts = field(default_factory=CodingPrompts)
    test_seconds: float = 10.0
    program_seconds: float = 60.0
    memory_mb: int = 512
    unconfined: bool = False
    expert: ExpertConfig = field(default_factory=ExpertConfig)

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ConfigError(f"task.turns: expected at least 1, got {self.turns}")
        if self.agents not in (CODING_AGENTS, ALONE):
            raise ConfigError(f"task.agents: expected helper and main, or main alone, got {', '.join(self.agents)}")
        if self.feedback not in FEEDBACK_MODES:
            raise ConfigError(f"task.feedback: expected one of {', '.join(FEEDBACK_MODES)}, got {self.feedback!r}")
        check_limits(self.memory_mb, test_seconds=self.test_seconds, program_seconds=self.program_seconds)
        if self.feedback == "expert_edits" and self.turns > 1 and not self.expert.model:
            raise ConfigError(
                "task.feedback expert_edits: name a model with --task.expert.model and its --task.expert.base-url"
            )


def check_limits(memory_mb: int, **seconds: float) -> None:
    """Refuses limits of the sandbox in which no program could run, seconds by the name of their setting."""
    for name, number in seconds.items():
        if not 0 < number < math.inf:
            raise ConfigError(f"task.{name}: expected seconds above 0 and finite, got {number}")
    if memory_mb < 64:
        raise ConfigError(f"task.memory_mb: expected at least 64, got {memory_mb}")
