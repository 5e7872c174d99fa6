"""Chores for equals: all agents see one list and choose at once; what counts is what exactly one of them does.

An example: {"jobs": ["garden rake", "house wash", ...], "kind": "rake|wash|..."}. Every agent is shown the same words,
and nothing says who does what.

    R = done * (1 - haste * max(0, longest - 1/A) / (1 - 1/A))

    done      share of the jobs that exactly one agent chose: what two do counts no more than what is left
    longest   the largest part of the list that one agent chose; 1/A of it costs nothing, all of it costs `haste`

Dividing the list evenly earns 1, and one agent that does everything 1 - haste. Agents that answer alike earn 0. Agents
that draw from one distribution, whatever it is, independently of each other, earn no more than (1 - 1/A)^(A-1): 1/2
for two. Each job is taken with one probability p by everybody, and A p (1-p)^(A-1) is largest at p = 1/A. To pass that
bound is to have divided the work. Half of the jobs are in the house and half in the garden: the work can be divided by
place, or by the order of the list, or in other ways.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import joint
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.embedded.grammar import draw_kind, example_set
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, Split, Step, Turn

PLACES = {
    "house": ("wash", "cook", "bake", "fry", "mop", "dust", "boil", "clean"),
    "garden": ("rake", "dig", "plant", "water", "mow", "weed", "seed", "cut"),
}
NONE = "none"
NUM_EXAMPLES: Mapping[Split, int] = {"train": 200, "validation": 25, "test": 50}
MOST_JOBS = 6


@dataclass(frozen=True, slots=True)
class Chores:
    """Agents with equal prompts who share a list of jobs.

    Attributes:
        agents: the seats.
        jobs: on the list, 2, 4 or 6; half of them in the house, half in the garden.
        haste: what it costs if one agent does everything, as a share of what was done.
    """

    agents: tuple[AgentId, ...] = ("ann", "bob")
    jobs: int = 2
    haste: float = 0.25

    def __post_init__(self) -> None:
        if self.jobs not in range(2, MOST_JOBS + 1, 2):
            raise ConfigError(f"task.jobs: expected 2, 4 or 6, half for each place, got {self.jobs}")
        if not 2 <= len(set(self.agents)) == len(self.agents) <= self.jobs:
            raise ConfigError(
                f"task.agents: expected 2 to {self.jobs} different names, one job for each, got "
                f"{', '.join(self.agents) or 'none'}"
            )
        if not 0 <= self.haste <= 1:
            raise ConfigError(f"task.haste: expected 0 to 1, got {self.haste}")


@dataclass(frozen=True)
class ChoresTask:
    """The task of such settings, one round; the state is the example itself."""

    config: Chores
    name: str = "chores"
    best_return: float = 1.0
    horizon: int = 1

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return self.config.agents

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split, self.config.jobs)

    def reset(self, example: Example) -> Example:
        if not example.data["jobs"]:
            raise ValueError("expected at least one job, got none")
        return example

    def acting(self, state: Example) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Example, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        lines = [f"{len(self.agents)} of you share these jobs: {', '.join(state.data['jobs'])}.", "Which are yours?"]
        said = [f"Somebody said: {turn.completion.text}" for turn in heard]
        return (Message("user", "\n".join([*lines, *said])),)

    def step(self, state: Example, actions: Mapping[AgentId, str]) -> Step[Example]:
        jobs: Sequence[str] = state.data["jobs"]
        chosen = {agent: jobs_in(actions.get(agent, ""), jobs) for agent in self.agents}
        takers = [sum(job in own for own in chosen.values()) for job in jobs]
        done = takers.count(1) / len(jobs)
        fair = 1 / len(self.agents)
        longest = max(map(len, chosen.values())) / len(jobs)
        reward = done * (1 - self.config.haste * max(0.0, longest - fair) / (1 - fair))
        metrics = {
            "return_percent": 100 * reward,
            "done": 100 * done,
            "twice": 100 * sum(count > 1 for count in takers) / len(jobs),
            "left": 100 * takers.count(0) / len(jobs),
        }
        for agent, own in chosen.items():
            metrics[f"share/{agent}"] = 100 * len(own) / len(jobs)
            if own:
                metrics[f"house/{agent}"] = 100 * sum(job.startswith("house ") for job in own) / len(own)
                metrics[f"early/{agent}"] = 100 * sum(jobs.index(job) < len(jobs) / 2 for job in own) / len(own)
        return Step(state, joint(self.agents, reward), "horizon", metrics, {"chosen": chosen})

    def demonstrations(self) -> Demonstrations:
        """Everybody chooses each job or not by the toss of a coin: what may be said, and nothing of who says it."""
        return {example.id: self._tossed(example) for example in self.examples("train")}

    def _tossed(self, example: Example) -> dict[AgentId, list[str]]:
        rng = random.Random(derive("chores", example.id))
        tossed = {agent: [job for job in example.data["jobs"] if rng.random() < 0.5] for agent in self.agents}
        return {agent: [", ".join(own) or NONE] for agent, own in tossed.items()}


def jobs_in(text: str, jobs: Sequence[str]) -> list[str]:
    """The jobs of a list that a text names, each once, in the list's order; anything else is left out.

    >>> jobs_in("garden dig,  House cook and garden dig", ["house cook", "garden dig", "house mop"])
    ['house cook', 'garden dig']
    """
    words = re.findall(r"\w+", text.lower())
    said = {" ".join(pair) for pair in zip(words, words[1:], strict=False)}
    return [job for job in jobs if job in said]


@cache
def examples(split: Split, jobs: int) -> tuple[Example, ...]:
    """Lists whose jobs, in any order, belong to the split."""

    def drawn(rng: random.Random) -> str:
        each = [sorted(rng.sample(verbs, jobs // 2)) for verbs in PLACES.values()]
        return "|".join(verb for verbs in each for verb in verbs)

    def problem(rng: random.Random, split: Split) -> dict[str, Any]:
        kind = draw_kind(rng, split, drawn)
        listed = [f"{place} {verb}" for verb in kind.split("|") for place, verbs in PLACES.items() if verb in verbs]
        rng.shuffle(listed)
        return {"jobs": listed, "kind": kind}

    return example_set("chores", split, NUM_EXAMPLES[split], problem)
